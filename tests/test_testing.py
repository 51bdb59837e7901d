"""livecfg.testing, the pytest plugin and the ASGI middleware, without a repository."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from livecfg import GitSource, LivecfgError, LiveConfig, RefusedError
from livecfg.contrib.asgi import LivecfgMiddleware
from livecfg.testing import exposures, override, snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

ROOT = Path(__file__).parents[1]


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = Field(2.0, gt=0)


class Ranker(BaseModel, frozen=True):
    model: str


def live_of(model: type[Any] = Checkout) -> LiveConfig[Any]:
    return LiveConfig(model, source=GitSource("https://git.invalid/config.git"), service="checkout", env="prod")


def test_an_override_needs_no_git_and_starts_no_thread() -> None:
    live = live_of()
    before = threading.active_count()
    with override(live, config={"payment_timeout_s": 0.5}, flags={"new": True, "limit": 3, "name": "x", "ratio": 0.5}) as made:
        view = live.current.view({"targetingKey": "u1"})
        assert live.current is made
        assert view.config.payment_timeout_s == 0.5
        assert (view.flag("new", default=False), view.flag("limit", 1), view.flag("name", "y"), view.flag("ratio", 0.1)) == (
            True,
            3,
            "x",
            0.5,
        )
        assert view.flag("unknown", "default") == "default"
        assert view.flag("new", "of another type") == "of another type"
    assert threading.active_count() == before
    assert live._applied is None


def test_without_a_config_the_model_gives_its_defaults() -> None:
    live = live_of()
    with override(live):
        assert live.current.config == Checkout()


def test_a_model_without_defaults_asks_for_a_config() -> None:
    with pytest.raises(LivecfgError, match="give config="), override(live_of(Ranker)):
        pass


def test_a_config_that_does_not_fit_is_told() -> None:
    with pytest.raises(LivecfgError, match="payment_timeout_s"), override(live_of(), config={"payment_timeout_s": -1}):
        pass
    with (
        pytest.raises(LivecfgError, match="expected to be a Checkout or a mapping, got a Ranker"),
        override(live_of(), config=Ranker(model="m")),
    ):
        pass


def test_splits_give_the_arm_that_was_set_and_record_the_exposure() -> None:
    live = live_of()
    ranker = live.split("ranker", Ranker)
    with override(live, splits={"ranker": ("v9", Ranker(model="m9"))}):
        view = live.current.view({"targetingKey": "u1"})
        assert ranker.peek(view).name == "v9"
        assert exposures(live) == []
        assert (ranker(view).name, ranker(view).value.model) == ("v9", "m9")
        with override(live, flags={"inner": True}):
            ranker(live.current.view({"targetingKey": "u2"}))
            ranker(live.current.view({"targetingKey": "u2"}))
        assert [(e.name, e.arm, e.unit) for e in exposures(live)] == [("ranker", "v9", "u1"), ("ranker", "v9", "u2")]
    with override(live, splits={"ranker": ("v9", Ranker(model="m9"))}):
        assert exposures(live) == []
    with pytest.raises(LivecfgError, match=r"no override\(\) around"):
        exposures(live)


def test_a_flag_under_an_experiment_is_exposed_when_it_is_read_and_not_when_it_is_peeked_at() -> None:
    flag = {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"}
    experiment = {
        "experiment": "e",
        "hypothesis": "h",
        "owner": "o",
        "flag": "limit",
        "arms": {"a": {"weight": 0}, "b": {"weight": 1}},
        "until": "2999-01-01",
    }
    made = snapshot(flags={"flags": {"limit": flag, "plain": flag}}, experiments=[experiment])
    view = made.view({"targetingKey": "u1"})
    assert (view.peek("limit", 0), view.flag("plain", 0), view.peek("gone", 7)) == (2, 1, 7)
    assert made.flag("limit", 0, {}) == 1  # no unit: it takes no part
    assert exposures(made) == []
    assert (view.flag("limit", 0), view.evaluate("limit", 0).variant) == (2, "b")
    assert [(e.kind, e.name, e.arm, e.flag, e.unit) for e in exposures(made)] == [("experiment", "e", "b", "limit", "u1")]


def test_a_split_that_was_not_set_says_how_to_set_it() -> None:
    live = live_of()
    ranker = live.split("ranker", Ranker)
    with override(live), pytest.raises(LivecfgError, match="sets no arm of the split 'ranker'; add splits="):
        ranker(live.current.view({}))


def test_a_split_or_flag_against_its_declaration_is_told() -> None:
    live = live_of()
    live.split("ranker", Ranker)
    live.flag("limit", 3)
    with (
        pytest.raises(LivecfgError, match="declares no split 'rankr'"),
        override(live, splits={"rankr": ("a", Ranker(model="m"))}),
    ):
        pass
    with (
        pytest.raises(LivecfgError, match="expected to be a Ranker, got a Checkout"),
        override(live, splits={"ranker": ("a", Checkout())}),
    ):
        pass
    with pytest.raises(LivecfgError, match="'limit' is declared as int, got str"), override(live, flags={"limit": "three"}):
        pass


def test_a_nested_override_adds_to_the_one_around_it_and_ends_with_its_block() -> None:
    live = live_of()
    with override(live, config={"payment_timeout_s": 0.5}, flags={"a": 1}):
        with override(live, flags={"b": 2}):
            assert (live.current.flag("a", 0, {}), live.current.flag("b", 0, {})) == (1, 2)
            assert live.current.config.payment_timeout_s == 0.5
        assert live.current.flag("b", 0, {}) == 0


def test_other_threads_and_tasks_do_not_see_an_override() -> None:
    live = live_of()
    ready = threading.Barrier(3, timeout=10)
    seen: list[tuple[int, int]] = []

    def one(number: int) -> None:
        with override(live, flags={"number": number}):
            ready.wait()  # all three are inside at once
            seen.append((number, live.current.flag("number", 0, {})))
            ready.wait()

    threads = [threading.Thread(target=one, args=(i,)) for i in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(seen) == [(1, 1), (2, 2), (3, 3)]


FLAG = """
flags:
  backend:
    state: ENABLED
    variants: {stable: stable, canary: canary}
    defaultVariant: stable
    targeting: {if: [{"==": [{var: plan}, pro]}, canary, stable]}
"""


def test_a_flag_document_is_loaded_as_a_repository_would_load_it() -> None:
    made = snapshot(flags=FLAG)
    assert made.flag("backend", "?", {"plan": "pro"}) == "canary"
    assert made.flag("backend", "?", {}) == "stable"
    as_mapping = {"flags": {"a": {"state": "ENABLED", "variants": {"x": 1}, "defaultVariant": "x"}}}
    assert snapshot(flags=as_mapping).flag("a", 0, {}) == 1
    assert snapshot().flag("backend", "none", {}) == "none"


def test_a_faulty_flag_document_is_refused_with_its_place() -> None:
    with pytest.raises(RefusedError, match=r"flags\.yaml:\d+:\d+ LC4"):
        snapshot(flags=FLAG.replace("ENABLED", "MAYBE"))


# --- ASGI -----------------------------------------------------------------------------------------------------------------


def test_the_middleware_pins_a_request_and_names_its_revision() -> None:
    live = live_of()
    sent: list[MutableMapping[str, Any]] = []
    seen: list[bool] = []

    async def app(
        _scope: MutableMapping[str, Any],
        _receive: Callable[[], Awaitable[Any]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        first = live.current
        await asyncio.sleep(0)
        seen.append(live.current is first)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    with override(live):
        asyncio.run(LivecfgMiddleware(app, live)({"type": "http"}, receive, send))
    assert seen == [True]
    assert sent[0]["headers"] == [(b"a", b"b"), (b"x-config-revision", b"0" * 40)]
    assert sent[1] == {"type": "http.response.body", "body": b"ok"}


def test_the_middleware_leaves_lifespan_alone() -> None:
    met: list[str] = []

    async def app(scope: MutableMapping[str, Any], _receive: Any, _send: Any) -> None:
        met.append(scope["type"])

    asyncio.run(LivecfgMiddleware(app, live_of())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]  # never called
    assert met == ["lifespan"]


# --- pytest plugin ----------------------------------------------------------------------------------------------------------

PLUGIN = """
import pytest
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig

class Checkout(BaseModel, frozen=True):
    timeout_s: float = 2.0

live = LiveConfig(Checkout, source=GitSource("https://git.invalid/c.git"), service="a", env="b")

@pytest.mark.livecfg(live, flags={"new": True})
def test_marked() -> None:
    assert live.current.flag("new", False, {})

@pytest.mark.livecfg(live, flags={"new": True, "old": True})
class TestClass:
    @pytest.mark.livecfg(live, flags={"new": False})
    def test_own_mark_wins_and_adds(self) -> None:
        assert (live.current.flag("new", True, {}), live.current.flag("old", False, {})) == (False, True)

def test_fixture(livecfg_override) -> None:
    livecfg_override(live, config={"timeout_s": 0.1})
    assert live.current.config.timeout_s == 0.1

def test_nothing_is_left_behind() -> None:
    assert live._pinned.get(None) is None

@pytest.mark.livecfg(flags={})
def test_without_live() -> None:
    raise AssertionError("never runs")
"""


def test_the_plugin_applies_marks_and_fixture_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PLUGIN)
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "livecfg.contrib.pytest_plugin",
        "--strict-markers",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
    ]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/nonexistent", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, *words, "test_it.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert "4 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "expected the LiveConfig as the one positional argument" in done.stdout


PARALLEL = """
import asyncio
import pytest
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig
from livecfg.testing import override

class Checkout(BaseModel, frozen=True):
    timeout_s: float = 2.0

live = LiveConfig(Checkout, source=GitSource("https://git.invalid/c.git"), service="a", env="b")

async def ask(number):
    with override(live, flags={"own": number}):
        for _ in range(20):
            await asyncio.sleep(0)  # let the others override in between
            assert live.current.flag("own", -1, {}) == number
            assert live.current.flag("shared", "", {}) == "marked"
        inner = asyncio.get_running_loop().create_task(child(number))
    await inner  # a task keeps the values it was made with, after the block too
    assert live.current.flag("own", -1, {}) == -1

async def child(number):
    await asyncio.sleep(0)
    assert live.current.flag("own", -1, {}) == number
    assert await asyncio.to_thread(lambda: live.current.flag("own", -1, {})) == number

@pytest.mark.livecfg(live, flags={"shared": "marked"})
@pytest.mark.parametrize("number", range(12))
def test_tasks_beside_each_other(number, worker_id):
    assert worker_id in {"gw0", "gw1"}
    async def all_of_them():
        await asyncio.gather(*(ask(100 * number + i) for i in range(10)))
    asyncio.run(all_of_them())

def test_nothing_is_left_in_this_worker():
    assert live._pinned.get(None) is None
"""


def test_overrides_hold_in_tasks_beside_each_other_and_in_workers_of_xdist(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PARALLEL)
    words = ["-q", "-p", "livecfg.contrib.pytest_plugin", "-p", "xdist", "-p", "no:cacheprovider", "-n", "2", "--strict-markers"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/nonexistent", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", *words, "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert "13 passed" in done.stdout, done.stdout + done.stderr
