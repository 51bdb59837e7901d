"""Exposures and outcomes: what is counted, what sinks are told, what is bounded, and what a fork does to it."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.exposures import Exposure, Exposures
from livecfg.flags.assignment import Assignment, Key
from livecfg.git.reports import REPORT_BYTES, Reports, fitting
from livecfg.layers import Process
from livecfg.refusal import Code, Refusal
from livecfg.reporting import Reporter
from livecfg.revision import Revision
from livecfg.signals import Signals
from livecfg.sinks import JsonLines, otel_events
from livecfg.testing import exposures, snapshot
from tests.e2e.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from livecfg.snapshot import Snapshot

REVISION = Revision("main", "a" * 40)
KEY = Key("experiment", "copy", "0" * 16)
COPY = Assignment(KEY, ("targetingKey",), {}, frozenset(("paid", "spent")))
BOOLEAN = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}


def a_split(number: int, more: str = "") -> Assignment:
    return Assignment(Key("split", f"s{number}{more}", ""), (), {})


def experiment(name: str = "copy", flag: str = "copy", **more: Any) -> dict[str, Any]:
    metrics = {"primary": {"name": "paid"}, "guardrails": [{"name": "request.error"}, {"name": "spent", "kind": "mean"}]}
    arms = {"off": {"weight": 1}, "on": {"weight": 1}}
    made = {"experiment": name, "hypothesis": "h", "owner": "o", "flag": flag, "arms": arms, "until": "2999-01-01"}
    return made | {"metrics": metrics} | more


def loaded(*experiments: dict[str, Any]) -> Snapshot[Any]:
    return snapshot(flags={"flags": {"copy": BOOLEAN, "plain": BOOLEAN}}, experiments=experiments or [experiment()])


def counted(log: Exposures) -> dict[tuple[str, str], tuple[int, int, float]]:
    """Units, observations and the sum of values, by arm and metric."""
    return {
        (r["arm"], r["metric"]): (sum(r["units"]), sum(r.get("observations", [])), sum(r.get("sums", []))) for r in log.counts()
    }


def log_of(made: Snapshot[Any]) -> Exposures:
    return made.recorder.exposures  # type: ignore[attr-defined, no-any-return]  # a Signals, in a test


def test_a_unit_counts_once_per_arm_and_is_told_once_per_revision() -> None:
    told: list[Exposure] = []
    log = Exposures()
    log.sinks.append(told.extend)
    for revision in (REVISION, REVISION, Revision("main", "b" * 40)):
        log.expose(COPY, "short", "u1", revision, "copy")
    log.expose(COPY, "short", "u2", REVISION, "copy")
    log.expose(COPY, "long", "u2", REVISION, "copy")  # such as by an override that began to hold
    log.deliver()
    assert counted(log) == {("short", ""): (2, 0, 0), ("long", ""): (1, 0, 0)}
    assert [(e.arm, e.unit, e.revision.commit[0]) for e in told] == [
        ("short", "u1", "a"),
        ("short", "u1", "b"),
        ("short", "u2", "a"),
        ("long", "u2", "a"),
    ]
    log.deliver()
    assert len(told) == 4


def test_an_outcome_counts_for_the_arm_of_its_unit_and_a_proportion_once() -> None:
    log = Exposures()
    log.expose(COPY, "short", "u1", REVISION, "copy")
    log.expose(COPY, "long", "u2", REVISION, "copy")
    for value in (5, 7.5, 0):
        log.outcome(COPY, "spent", value, "u1")
    log.outcome(COPY, "spent", 0, "u2")
    log.outcome(COPY, "spent", 3, "a unit that was shown nothing")
    counts = counted(log)
    assert counts["short", "spent"] == (1, 3, 12.5)
    assert counts["long", "spent"] == (0, 1, 0)
    assert counts["", "spent"][0] == 1


def test_a_unit_is_in_the_same_group_for_its_exposure_and_its_outcomes() -> None:
    log = Exposures()
    for i in range(300):
        log.expose(COPY, "short", f"u{i}", REVISION, "copy")
        log.outcome(COPY, "paid", 1, f"u{i}")
    exposed, paid = log.counts()
    assert exposed["units"] == paid["units"] == paid["observations"]
    assert sum(n > 0 for n in exposed["units"]) > 50  # of 64


def test_what_cannot_be_counted_is_dropped_and_never_raised() -> None:
    log = Exposures()
    log.expose(COPY, "short", [], REVISION, "copy")  # a unit that cannot be hashed
    log.expose(COPY, "short", "u1", REVISION, "copy")
    for value in (float("nan"), float("inf"), "x", None):
        log.outcome(COPY, "paid", value, "u1")  # type: ignore[arg-type]
    log.outcome(COPY, "paid", 1, [])
    assert counted(log) == {("short", ""): (1, 0, 0)}


def test_memory_is_bounded_in_units_rows_and_events(caplog: pytest.LogCaptureFixture) -> None:
    log = Exposures(units_kept=100)
    told: list[Exposure] = []
    log.sinks.append(told.extend)
    for i in range(11_000):
        log.expose(COPY, "short", i, REVISION, "copy")
    for i in range(1200):
        log.expose(a_split(i), "a", 1, REVISION, "s")
        log.outcome(a_split(i), "paid", 1, "shown nothing")
    log.deliver()
    assert len(log._units) == 100
    assert [row["name"] for row in log.counts()][-1] == "s1199"
    assert len(log.counts()) == 1000
    assert len(told) == 10_000
    assert "2200 exposures came faster" in caplog.text
    assert caplog.text.count("over 1000 counts at once: 1401 were forgotten before any report had them") == 1


def test_what_is_counted_for_long_stays_when_many_others_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    log = Exposures()
    for i in range(3000):
        log.expose(COPY, "short", f"u{i}", REVISION, "copy")
        log.expose(a_split(i), "a", 1, REVISION, "s")
        if not i % 500:
            log.counts()  # reported
    (copy,) = (row for row in log.counts() if row["name"] == "copy")
    assert (sum(copy["units"]), copy["life"]) == (3000, 0)
    assert "counts at once" not in caplog.text


def test_a_row_that_was_forgotten_and_begins_again_has_another_life() -> None:
    log = Exposures()
    lives = []
    for round_ in range(3):
        log.expose(COPY, "short", f"u{round_}", REVISION, "copy")
        lives.append({row["name"]: row["life"] for row in log.counts()}["copy"])
        for i in range(1000):
            log.expose(a_split(i), "a", round_, REVISION, "s")
        assert "copy" not in {row["name"] for row in log.counts()}
    assert len(set(lives)) == 3


class Status:
    """What a report says of a process that serves something."""

    def as_dict(self) -> dict[str, str]:
        return {"condition": "READY"}


def test_of_more_counts_than_a_report_holds_each_has_its_turn_and_what_changed_has_it_first(tmp_path: Path) -> None:
    signals, now = Signals(), 0.0
    reporter = Reporter(Reports(tmp_path), Process("checkout", "prod"), signals, lambda: now)

    def reported() -> dict[str, int]:
        nonlocal now
        now += 60
        reporter.write(Status(), "aa")  # type: ignore[arg-type]  # all that it is asked
        return {row["name"]: row["news"] for row in json.loads((tmp_path / "aa.json").read_bytes())["exposures"]}

    for i in range(900):
        signals.expose(a_split(i, "x" * 300), "a", 1, REVISION, "s")
    rounds = [reported() for _ in range(4)]
    assert 300 < len(rounds[0]) < 600
    assert len(set().union(*rounds[:3])) == 900, "those that wait come first"
    last = min(rounds[0].keys() - rounds[3].keys())
    signals.expose(a_split(int(last[1 : last.index("x")]), "x" * 300), "a", 2, REVISION, "s")
    assert reported()[last] == 5


def test_a_row_is_news_when_it_changed_and_not_else(tmp_path: Path) -> None:
    signals, now = Signals(), 0.0
    reporter = Reporter(Reports(tmp_path), Process("checkout", "prod"), signals, lambda: now)
    news = []
    for unit in ("u1", "u1", "u2"):
        now += 60
        signals.expose(a_split(1), "a", unit, REVISION, "s")
        signals.expose(a_split(2), "a", "u1", REVISION, "s")
        reporter.write(Status(), "aa")  # type: ignore[arg-type]  # as above
        news.append([row["news"] for row in json.loads((tmp_path / "aa.json").read_bytes())["exposures"]])
    assert news == [[1, 1], [1, 1], [3, 1]]


def test_threads_lose_no_unit() -> None:
    log = Exposures()

    def work(number: int) -> None:
        for i in range(1000):
            log.expose(COPY, "short", f"{number % 2}-{i}", REVISION, "copy")
            log.outcome(COPY, "paid", 1, f"{number % 2}-{i}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(log) == {("short", ""): (2000, 0, 0), ("short", "paid"): (2000, 4000, 4000)}


# --- through a view ---------------------------------------------------------------------------------------------------------


def test_a_view_counts_outcomes_for_the_experiments_that_name_the_metric() -> None:
    made = loaded()
    for i in range(200):
        view = made.view({"targetingKey": f"u{i}"})
        if view.flag("copy", default=False):
            view.observe("paid")
        view.observe("spent", 2)
        view.observe("of no experiment")
    counts = counted(log_of(made))
    on, off = counts["on", ""][0], counts["off", ""][0]
    assert on + off == 200
    assert counts["on", "paid"] == (on, on, on)
    assert ("off", "paid") not in counts
    assert counts["off", "spent"] == (off, off, 2 * off)
    assert {metric for _, metric in counts} == {"", "paid", "spent"}


def test_measure_counts_the_exceptions_of_the_units_arm() -> None:
    made = loaded()
    view = made.view({"targetingKey": "u1"})
    arm = view.evaluate("copy", default=False).variant
    with pytest.raises(ZeroDivisionError), view.measure("request"):
        _ = 1 / 0
    assert counted(log_of(made))[str(arm), "request.error"] == (1, 1, 1)


def test_a_plain_flag_is_served_by_its_own_code_and_only_by_it() -> None:
    made = loaded()
    assert made.serve_of("plain") is made.serving["plain"] is made.flags["plain"].ready()
    assert made.asked["plain"] is made.flags["plain"]
    assert snapshot(flags={"flags": {"plain": BOOLEAN}}).asked["plain"].evaluate.__self__.key == "plain"  # type: ignore[attr-defined]


def test_what_the_caller_got_as_default_is_no_exposure() -> None:
    made = loaded()
    view = made.view({"targetingKey": "u1"})
    assert view.flag("copy", "of another type") == "of another type"
    assert made.flag("copy", default=True, context={}) is False  # no unit
    assert exposures(made) == []


def test_a_phase_ends_when_weights_or_values_change_and_not_with_the_hypothesis() -> None:
    def phase(flag: dict[str, Any] = BOOLEAN, **more: Any) -> str:
        made = snapshot(flags={"flags": {"copy": flag}}, experiments=[experiment(**more)])
        assert made.flags["copy"].assignment is not None
        return made.flags["copy"].assignment.key.phase

    first = phase()
    assert phase(hypothesis="another", until="2998-01-01", owner="p") == first
    others = {
        phase(arms={"off": {"weight": 1}, "on": {"weight": 2}}),
        phase(arms={"on": {"weight": 1}, "off": {"weight": 1}}),
        phase(unit="user.id"),
        phase(audience={"==": [1, 1]}),
        phase(layer={"name": "l", "slots": [0, 50]}),
        phase({**BOOLEAN, "variants": {"on": True, "off": True}}),
    }
    assert len(others | {first}) == 7


def test_an_exposure_names_the_flag_and_its_set() -> None:
    document = {"flags": {"copy": BOOLEAN}, "metadata": {"flagSetId": "checkout-flags"}}
    made = snapshot(flags=document, experiments=[experiment()])
    made.flag("copy", default=False, context={"targetingKey": "u1"})
    assert [(e.flag, e.flag_set) for e in exposures(made)] == [("copy", "checkout-flags")]


def test_two_experiments_count_apart() -> None:
    flags = {"flags": {"copy": BOOLEAN, "plain": BOOLEAN}}
    made = snapshot(flags=flags, experiments=[experiment(), experiment("other", "plain")])
    view = made.view({"targetingKey": "u1"})
    view.flag("copy", default=False)
    view.observe("paid")
    rows = [(r["name"], r["metric"], sum(r["units"])) for r in log_of(made).counts()]
    assert sorted(rows) == [("copy", "", 1), ("copy", "paid", 1), ("other", "paid", 1)]  # the last: of a unit shown nothing of it


def test_a_report_that_would_be_too_large_goes_without_its_signals_and_then_some_counts_and_says_each_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livecfg.git.reports._TOLD", set())
    half = b'"%s"' % (b"x" * (REPORT_BYTES // 2))
    for _ in range(2):
        data, kept = fitting({"condition": "READY", "signals": ["y" * REPORT_BYTES]}, [b"1"])
        assert (json.loads(data), kept) == ({"condition": "READY", "exposures": [1]}, 1)
        data, kept = fitting({"condition": "READY", "signals": []}, [b"1", half, half])
        assert (list(json.loads(data)), kept) == (["condition", "signals", "exposures"], 2)
        assert len(data) <= REPORT_BYTES
    assert [caplog.text.count(words) for words in ("goes without its signals", "each row waits for its turn")] == [1, 1]


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_report_is_filled_to_the_last_byte_and_no_further(beyond: int) -> None:
    room = REPORT_BYTES - len(fitting({"condition": "READY"}, [b"1"])[0])
    data, kept = fitting({"condition": "READY"}, [b"1", b"2" * (room - 1 + beyond)])
    assert (len(data) == REPORT_BYTES, kept) == (not beyond, 2 - beyond)


@pytest.mark.parametrize("size", [REPORT_BYTES, 2 * REPORT_BYTES])
def test_counts_never_keep_a_report_from_saying_what_is_served(size: int) -> None:
    data, kept = fitting({"condition": "x" * size}, [b"1"])
    assert (json.loads(data)["exposures"], kept) == ([], 0)


def test_a_report_that_refuses_too_much_says_that_it_refuses() -> None:
    refusal = Refusal(Code.WRONG_TYPE, "\u65e5" * 100_000, path="x" * 100_000, advice="y" * 100_000).as_dict()
    kept = json.loads(fitting({"condition": "REFUSED", "refusals": [refusal] * 100})[0])
    assert kept["condition"] == "REFUSED"
    assert len(kept["refusals"]) == 20
    assert {len(text) for text in kept["refusals"][0].values() if isinstance(text, str)} <= {0, 5, 1001}


# --- sinks ------------------------------------------------------------------------------------------------------------------


SHOWN = Exposure("experiment", "copy", "short", "checkout-copy", "u1", REVISION, 1.5, "checkout-flags")


def test_a_file_of_json_lines_is_appended_to(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "exposures.jsonl")
    sink([SHOWN, SHOWN._replace(unit="ü\n")])
    sink([SHOWN])
    rows = [json.loads(line) for line in (tmp_path / "exposures.jsonl").read_text().splitlines()]
    assert [row["unit"] for row in rows] == ["u1", "ü\n", "u1"]
    assert rows[0] == SHOWN._asdict() | {"revision": str(REVISION)}


def emitted(shown: Sequence[Exposure]) -> list[dict[str, Any]]:
    """What OpenTelemetry is given of some exposures."""
    from opentelemetry._logs import Logger, LoggerProvider

    events: list[dict[str, Any]] = []

    class Keeping(Logger):
        def emit(self, _record: Any = None, **given: Any) -> None:  # type: ignore[override]
            events.append(given)

        def enabled(self, *_: Any, **__: Any) -> bool:
            return True

    class Provider(LoggerProvider):
        def get_logger(self, name: str, *_: Any, **__: Any) -> Logger:
            return Keeping(name)

    otel_events(Provider())(shown)
    return events


def test_opentelemetry_gets_the_event_with_the_names_of_the_standard() -> None:
    (event,) = emitted([SHOWN])
    assert (event["event_name"], event["timestamp"]) == ("feature_flag.evaluation", 1_500_000_000)
    assert event["attributes"] == {
        "feature_flag.key": "checkout-copy",
        "feature_flag.result.variant": "short",
        "feature_flag.result.reason": "split",
        "feature_flag.context.id": "u1",
        "feature_flag.provider.name": "livecfg",
        "feature_flag.version": str(REVISION),
        "feature_flag.set.id": "checkout-flags",
        "livecfg.experiment": "copy",
    }


def test_a_sink_that_fails_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    log = Exposures()
    told: list[Exposure] = []

    def broken(_: Sequence[Exposure]) -> None:
        raise OSError("disk full")

    log.sinks += [broken, told.extend]
    log.expose(COPY, "short", "u1", REVISION, "copy")
    log.deliver()
    assert len(told) == 1
    assert "broken failed with 1 exposures" in caplog.text


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveConfig[Config]]:
    files = {
        "livecfg.yaml": "version: 1\nlayers: [base.yaml]\nflags: [flags/**]\nexperiments: [experiments/**]\n",
        "base.yaml": "timeout_s: 2\n",
        "flags/all.json": json.dumps({"flags": {"copy": BOOLEAN}}),
        "experiments/copy.json": json.dumps(experiment()),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = LiveConfig(Config, source=UnsafeNoVerification(tmp_path), service="checkout", env="prod")
    yield made
    made.stop()


def test_sinks_are_told_on_livecfgs_thread_and_at_the_end(live: LiveConfig[Config]) -> None:
    told: list[tuple[str, Exposure]] = []

    @live.on_exposure
    def sink(shown: Sequence[Exposure]) -> None:
        told.extend((threading.current_thread().name, e) for e in shown)

    live.current.flag("copy", default=False, context={"targetingKey": "u1"})
    eventually(lambda: len(told) == 1)
    live.current.flag("copy", default=False, context={"targetingKey": "u2"})
    live.stop()
    assert [(name, e.unit) for name, e in told] == [("livecfg", "u1"), ("livecfg", "u2")]


def test_a_forked_child_counts_from_zero_and_tells_nothing_twice(live: LiveConfig[Config]) -> None:
    told: list[Exposure] = []
    live.on_exposure(told.extend)
    live.current.flag("copy", default=False, context={"targetingKey": "u1"})
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        inherited = len(live._signals.exposures.counts())
        told.clear()  # before the first read: it starts the thread that tells
        live.current.flag("copy", default=False, context={"targetingKey": "u2"})
        live.stop()
        os.write(write, json.dumps([inherited, len(live._signals.exposures.counts()), [e.unit for e in told]]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(read, 4096)) == [0, 1, ["u2"]]
    assert sum(counted(live._signals.exposures)[arm][0] for arm in counted(live._signals.exposures)) == 1
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("make", [lambda n: f"{n}" + "x" * 100_000, lambda n: n * (2**61 - 1)])
def test_units_are_remembered_in_little_memory_and_found_in_little_time(make: Callable[[int], object]) -> None:
    """Numbers of one hash: 20,000 of them are 200 million comparisons; texts of 100 kB: 20,000 of them are 2 GB."""
    log = Exposures()
    tracemalloc.start()
    try:
        started = time.process_time()
        for number in range(20_000):
            log.expose(COPY, "on", make(number), REVISION, "copy")
        log.outcome(COPY, "paid", 1, make(7))
        assert time.process_time() - started < 60
        assert tracemalloc.get_traced_memory()[0] < 50_000_000
    finally:
        tracemalloc.stop()
    assert counted(log) == {("on", ""): (20_000, 0, 0), ("on", "paid"): (1, 1, 1)}


def test_half_a_surrogate_pair_in_a_unit_does_not_fail_the_sinks(tmp_path: Path) -> None:
    shown = SHOWN._replace(unit="u\ud800")
    (event,) = emitted([shown])
    assert event["attributes"]["feature_flag.context.id"] == "u?"
    JsonLines(tmp_path / "shown")([shown])
    assert json.loads((tmp_path / "shown").read_bytes())["unit"] == shown.unit
