"""Counters and histograms behind `measure` and `observe`; the environment's variables."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from livecfg.environment import instance_name, read_environment
from livecfg.errors import LivecfgError
from livecfg.revision import Revision
from livecfg.signals import Series, Signals
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

REVISION = Revision("main", "a" * 40)


def under(signals: Signals) -> Callable[[str, float], None]:
    return lambda metric, value: signals.observe(metric, value, REVISION)


def metrics(signals: Signals) -> dict[str, int]:
    return {row["metric"]: row["count"] for row in signals.summary() if "metric" in row}


def test_a_block_is_timed_and_its_escaping_exception_counted() -> None:
    signals = Signals()
    with signals.measure("request", under(signals)):
        pass
    with pytest.raises(ZeroDivisionError), signals.measure("request", under(signals)):
        _ = 1 / 0
    assert metrics(signals) == {"request.latency": 2, "request.error": 1}


def test_a_decorated_function_is_measured_at_each_call_sync_or_async() -> None:
    signals = Signals()

    @signals.measure("sync", under(signals))
    def double(x: int) -> int:
        return 2 * x

    @signals.measure("async", under(signals))
    async def triple(x: int) -> int:
        await asyncio.sleep(0)
        return 3 * x

    async def both() -> list[int]:
        return await asyncio.gather(triple(1), triple(2))

    assert (double(2), double(3), asyncio.run(both())) == (4, 6, [3, 6])
    assert metrics(signals) == {"sync.latency": 2, "async.latency": 2}


def test_an_async_block_is_measured() -> None:
    signals = Signals()

    async def work() -> None:
        async with signals.measure("job", under(signals)):
            await asyncio.sleep(0)

    asyncio.run(work())
    assert metrics(signals) == {"job.latency": 1}


def test_quantiles_are_right_within_one_percent() -> None:
    rng = random.Random(7)
    values = [rng.lognormvariate(-3, 1) for _ in range(20_000)]
    series = Series()
    for value in values:
        series.add(value)
    exact = statistics.quantiles(values, n=100)
    for percent in (50, 90, 99):
        assert math.isclose(series.quantile(percent / 100), exact[percent - 1], rel_tol=0.02)


def test_what_is_not_a_finite_number_is_dropped_and_never_raised() -> None:
    signals = Signals()
    for value in (math.nan, math.inf, "x", None):
        signals.observe("paid", value, REVISION)  # type: ignore[arg-type]
    assert signals.summary() == []


def test_memory_is_bounded_in_revisions_and_metrics() -> None:
    signals = Signals()
    for n in range(20):
        signals.observe("paid", 1, Revision("main", f"{n:040x}"))
    for n in range(500):
        signals.observe(f"metric{n}", 1, REVISION)
    rows = signals.summary()
    assert len({row["revision"] for row in rows}) == 4
    assert len(rows) == 3 + 200


def test_threads_lose_no_value() -> None:
    signals = Signals()

    def work() -> None:
        for _ in range(2000):
            signals.observe("paid", 1, REVISION)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics(signals) == {"paid": 8000}


def test_the_environment_is_parsed_and_shown_by_name_only() -> None:
    environment = read_environment(
        {
            "LIVECFG_HOME": "/var/lib/livecfg",
            "LIVECFG_SERVICE": "checkout",
            "LIVECFG_LABELS": "tier=gold,zone=a",
            "LIVECFG_SET_payment__timeout_ms": "300",
            "LIVECFG_KILL": "a, b",
            "LIVECFG_HOLD": "9f2c61d",
        }
    )
    assert environment.home == Path("/var/lib/livecfg")
    assert environment.labels == {"tier": "gold", "zone": "a"}
    assert environment.overrides == {"payment.timeout_ms": "300"}
    shown = ("LIVECFG_SET_payment__timeout_ms", "LIVECFG_KILL=a", "LIVECFG_KILL=b", "LIVECFG_HOLD=9f2c61d")
    assert environment.visible == shown


def test_labels_of_another_form_are_refused_with_the_form() -> None:
    with pytest.raises(LivecfgError, match="expected key=value"):
        read_environment({"LIVECFG_LABELS": "tier"})


@pytest.mark.parametrize("text", ["nope", "a", "9f2c61", "main", "9f2c61d ", "0" * 65])
def test_a_hold_that_is_no_commit_id_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(LivecfgError, match="LIVECFG_HOLD: expected a commit id or at least 7 digits of one"):
        read_environment({"LIVECFG_HOLD": text})


def test_an_instance_keeps_its_name_and_a_read_only_home_gives_one_anyway(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert instance_name(home) == instance_name(home)
    assert instance_name(Path("/proc/no-such-place")) != ""


@pytest.mark.parametrize("value", [10**400, math.nan, -math.inf, "1", None])
def test_what_is_no_finite_number_is_dropped(value: Any) -> None:
    signals = Signals()
    signals.observe("size", value, REVISION)
    assert metrics(signals) == {}


@pytest.mark.parametrize("name", [["a"], None, "\ud800", "a\nb", "x" * 10_000])
def test_a_name_that_nobody_could_show_is_dropped(name: Any) -> None:
    made = snapshot()
    made.view({}).observe(name)
    assert metrics(made.recorder) == {}  # type: ignore[arg-type]  # a Signals, in a test
