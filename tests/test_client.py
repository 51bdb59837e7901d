"""LiveConfig over real repositories: reading, hooks, pins, forks, restarts, refusals."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from livecfg import Condition, FetchError, GitSource, LivecfgError, LiveConfig, RefusedError, Snapshot
from livecfg.refusal import MOST_FAULTS
from tests.simulator import ConfigRepo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BASE = "config/checkout/base.yaml"


class Config(BaseModel, frozen=True):
    timeout_ms: int = Field(200, ge=1)
    name: str = "shop"


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    repo = ConfigRepo(tmp_path / "repo")
    repo.person("ana@acme")
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"})
    repo.push()
    return repo


@pytest.fixture
def make(repo: ConfigRepo, tmp_path: Path) -> Iterator[Callable[..., LiveConfig[Config]]]:
    made: list[LiveConfig[Config]] = []

    def make(**changes: Any) -> LiveConfig[Config]:
        settings: dict[str, Any] = {
            "source": GitSource(url=str(repo.remote_path)),
            "trusted_root": repo.trusted_root,
            "service": "checkout",
            "env": "prod",
            "home": tmp_path / "home",
            "poll_interval_s": 0.2,
            "start_timeout_s": 5.0,
        }
        live = LiveConfig(Config, **(settings | changes))
        made.append(live)
        return live

    yield make
    for live in made:
        live.stop()


Make = "Callable[..., LiveConfig[Config]]"


def set_timeout(repo: ConfigRepo, text: object) -> str:
    return repo.publish({BASE: f"timeout_ms: {text}\n"})


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        pause.wait(0.01)


def test_the_first_read_gives_the_newest_revision_and_later_ones_follow(repo: ConfigRepo, make: Make) -> None:
    live = make()
    assert live.status.condition is Condition.STARTING
    assert live.current.config.timeout_ms == 1
    snapshot = live.wait_for(set_timeout(repo, 300))
    assert snapshot.config.timeout_ms == 300
    assert live.current is snapshot
    assert live.status.condition is Condition.READY
    assert live.status.applied == snapshot.revision


def test_a_type_error_is_refused_with_its_place_and_the_next_good_commit_heals(repo: ConfigRepo, make: Make) -> None:
    live = make().start()
    bad = set_timeout(repo, "fast")
    wait_until(lambda: live.status.condition is Condition.REFUSED)
    (refusal,) = live.status.refusals
    assert (refusal.code.value, refusal.where, refusal.commit) == ("LC202", f"{BASE}:1:13", bad)
    assert live.current.config.timeout_ms == 1
    assert live.wait_for(set_timeout(repo, 7)).config.timeout_ms == 7
    assert live.status.condition is Condition.READY


def test_an_unsigned_commit_is_skipped_and_a_revert_heals(repo: ConfigRepo, make: Make) -> None:
    live = make().start()
    bad = repo.commit({BASE: "timeout_ms: 666\n"}, signed=False)
    repo.push()
    wait_until(lambda: live.status.condition is Condition.REFUSED)
    assert [(r.code.value, r.commit) for r in live.status.refusals] == [("LC301", bad)]
    assert live.current.config.timeout_ms == 1
    assert live.wait_for(set_timeout(repo, 1)).config.timeout_ms == 1
    assert live.status.condition is Condition.READY


def test_an_innocent_commit_on_top_of_an_unsigned_one_does_not_launder_it(repo: ConfigRepo, make: Make) -> None:
    live = make().start()
    repo.commit({BASE: "timeout_ms: 1\nname: evil\n"}, signed=False)
    set_timeout(repo, "2\nname: evil")
    wait_until(lambda: live.status.condition is Condition.REFUSED)
    assert live.current.config.name == "shop"


def test_of_many_refusals_the_newest_are_told_and_each_is_logged_once(
    repo: ConfigRepo, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    live = make(poll_interval_s=0.2).start()
    for n in range(MOST_FAULTS + 5):
        bad = repo.commit({BASE: f"timeout_ms: {n}\n"}, signed=False)
    repo.push()
    wait_until(lambda: live.status.condition is Condition.REFUSED)
    refusals = live.status.refusals
    assert (len(refusals), refusals[-1].commit) == (MOST_FAULTS, bad)
    rounds = live._follower()._attempts + 3
    wait_until(lambda: live._follower()._attempts >= rounds)
    assert len([r for r in caplog.records if r.getMessage().startswith("refused ")]) == MOST_FAULTS


def test_a_force_push_is_refused_and_the_old_branch_resumes(repo: ConfigRepo, make: Make) -> None:
    live = make().start()
    first = repo.tip()
    second = set_timeout(repo, 2)
    live.wait_for(second)
    repo.force_push(first)
    wait_until(lambda: live.status.condition is Condition.REFUSED)
    assert live.status.refusals[0].code.value == "LC320"
    assert live.current.config.timeout_ms == 2
    repo.force_push(second)
    wait_until(lambda: live.status.condition is Condition.READY)


def test_without_a_remote_and_a_mirror_the_first_read_says_why_and_the_next_one_tries_again(repo: ConfigRepo, make: Make) -> None:
    gone = repo.remote_path.rename(repo.path / "gone.git")
    live = make(start_timeout_s=1.0)
    with pytest.raises(FetchError, match=r"remote\.git"):
        _ = live.current
    gone.rename(repo.remote_path)
    wait_until(lambda: _reads(live))


def _reads(live: LiveConfig[Config]) -> bool:
    try:
        return live.current.config.timeout_ms == 1
    except FetchError:
        return False


def test_a_first_revision_that_does_not_fit_is_raised_with_every_fault(repo: ConfigRepo, make: Make) -> None:
    repo.publish({BASE: "timeout_ms: 0\nnmae: x\n"})
    with pytest.raises(RefusedError) as caught:
        _ = make().current
    assert [r.code.value for r in caught.value.refusals] == ["LC201", "LC204"]


@pytest.mark.parametrize("root", [None, b"version: 1", b"{", b"\xff"])
def test_a_missing_or_malformed_trusted_root_is_said_at_the_first_read(make: Make, root: bytes | None) -> None:
    with pytest.raises(LivecfgError, match="trusted root"):
        _ = make(trusted_root=root).current


def test_another_repository_than_the_pinned_one_is_refused(repo: ConfigRepo, make: Make) -> None:
    other = repo.trusted_root.replace(b"6f1c0c1e", b"00000000")
    with pytest.raises(LivecfgError):
        _ = make(trusted_root=other).current


def test_a_process_restarts_offline_from_its_mirror(repo: ConfigRepo, make: Make) -> None:
    make().start().stop()
    repo.remote_path.rename(repo.path / "gone.git")
    live = make(max_staleness_s=0.0)
    assert live.current.config.timeout_ms == 1
    wait_until(lambda: live.status.condition is Condition.STALE)
    assert "no answer from" in live.status.reason


def test_two_processes_of_a_host_share_a_mirror_and_one_of_them_fetches(repo: ConfigRepo, make: Make) -> None:
    a, b = make().start(), make().start()
    wanted = set_timeout(repo, 5)
    assert a.wait_for(wanted).config.timeout_ms == b.wait_for(wanted).config.timeout_ms == 5
    assert [a.status.fetcher, b.status.fetcher].count(True) == 1


def test_when_the_fetcher_goes_another_takes_over(repo: ConfigRepo, make: Make) -> None:
    a, b = make().start(), make(poll_interval_s=60.0).start()
    assert a.status.fetcher
    a.stop()
    wait_until(lambda: b.status.fetcher)
    assert b.wait_for(set_timeout(repo, 5)).config.timeout_ms == 5


def test_prepare_sees_every_revision_first_and_may_veto(repo: ConfigRepo, make: Make) -> None:
    live = make()
    seen: list[tuple[int | None, int]] = []

    @live.prepare
    def check(old: Snapshot[Config] | None, new: Snapshot[Config]) -> None:
        seen.append((old.config.timeout_ms if old else None, new.config.timeout_ms))
        if new.config.timeout_ms == 13:
            raise ValueError("unlucky s3cret")

    live.start()
    set_timeout(repo, 13)
    wait_until(lambda: live.status.condition is Condition.REFUSED)
    assert live.status.refusals[0].code.value == "LC501"
    assert "s3cret" not in str(live.status.as_dict())  # the text of a hook's exception stays in the log of this process
    assert live.current.config.timeout_ms == 1
    live.wait_for(set_timeout(repo, 14))
    assert seen[0] == (None, 1)
    assert (1, 13) in seen
    assert seen[-1] == (1, 14)


def test_on_change_is_called_after_the_swap_in_order_and_only_for_its_keys(repo: ConfigRepo, make: Make) -> None:
    live = make()
    timeouts: list[tuple[int, int]] = []
    names: list[str] = []

    @live.on_change("timeout_ms")
    def timeout_changed(old: Snapshot[Config], new: Snapshot[Config]) -> None:
        timeouts.append((old.config.timeout_ms, new.config.timeout_ms))
        assert live.current is new

    @live.on_change("name")
    def name_changed(_: Snapshot[Config], new: Snapshot[Config]) -> None:
        names.append(new.config.name)
        raise ZeroDivisionError

    live.start()
    live.wait_for(set_timeout(repo, 2))
    live.wait_for(set_timeout(repo, "2\nname: other"))
    live.wait_for(set_timeout(repo, "3\nname: other"))
    wait_until(lambda: len(timeouts) == 2)
    assert timeouts == [(1, 2), (2, 3)]
    assert names == ["other"]


def test_an_async_callback_runs_on_the_loop_of_async_with(repo: ConfigRepo, make: Make) -> None:
    live = make()

    async def main() -> tuple[int, bool]:
        seen: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        @live.on_change()
        async def changed(_: Snapshot[Config], new: Snapshot[Config]) -> None:
            await asyncio.sleep(0)
            seen.set_result((new.config.timeout_ms, asyncio.get_running_loop() is loop))

        async with live:
            await loop.run_in_executor(None, set_timeout, repo, 9)
            return await asyncio.wait_for(seen, 10)

    assert asyncio.run(main()) == (9, True)


def test_an_async_callback_without_a_loop_is_refused(make: Make) -> None:
    live = make().start()
    with pytest.raises(LivecfgError, match="async with"):

        @live.on_change()
        async def changed(_: object, __: object) -> None: ...


def test_a_pin_keeps_one_snapshot_for_its_context_only(repo: ConfigRepo, make: Make) -> None:
    live = make().start()
    elsewhere: list[int] = []
    with live.pin() as pinned:
        newest = live.wait_for(set_timeout(repo, 2))
        assert live.current is pinned
        assert live.current.config.timeout_ms == 1
        thread = threading.Thread(target=lambda: elsewhere.append(live.current.config.timeout_ms))
        thread.start()
        thread.join()
    assert elsewhere == [2]
    assert live.current is newest


def test_explain_names_layer_place_commit_author_and_signer(repo: ConfigRepo, make: Make) -> None:
    live = make()
    wanted = set_timeout(repo, 2)
    live.start()
    repo.publish({"config/checkout/prod.yaml": "name: other\n"})
    live.wait_for(repo.tip())
    origin = live.current.explain("timeout_ms")
    assert (origin.path, origin.line, origin.column, origin.commit) == (BASE, 1, 13, wanted)
    assert origin.signers == ("ana@acme",)
    assert "ana@acme" in origin.author
    with pytest.raises(KeyError):
        live.current.explain("nothing.of.this.name")


def test_local_overrides_come_last_and_show_by_name(repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVECFG_SET_timeout_ms", "77")
    live = make()
    assert live.current.config.timeout_ms == 77
    assert live.current.explain("timeout_ms").layer == "environment"
    assert live.status.overrides == ("LIVECFG_SET_timeout_ms",)
    assert live.wait_for(set_timeout(repo, 5)).config.timeout_ms == 77


def test_hold_applies_nothing_after_a_revision(repo: ConfigRepo, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    held = set_timeout(repo, 2)
    monkeypatch.setenv("LIVECFG_HOLD", held)
    live = make().start()
    beyond = set_timeout(repo, 3)
    wait_until(lambda: live.status.desired is not None and live.status.desired.commit == beyond)
    assert live.current.config.timeout_ms == 2
    assert live.status.drift


def test_declarations_come_before_the_first_read(make: Make) -> None:
    live = make().start()
    with pytest.raises(LivecfgError, match="before the first read"):
        live.flag("new-checkout", default=False)


def test_stop_is_quick_and_leaves_the_last_snapshot_readable(make: Make) -> None:
    live = make().start()
    began = time.monotonic()
    live.stop()
    assert time.monotonic() - began < 1.0
    assert live.current.config.timeout_ms == 1
    assert live.status.condition is Condition.STOPPED


def _child(live: LiveConfig[Config], queue: Any, go: Any) -> None:
    queue.put((os.getpid(), live.current.config.timeout_ms))
    go.wait(20)
    wait_until(lambda: live.current.config.timeout_ms == 44)
    queue.put((os.getpid(), live.current.config.timeout_ms))
    live.stop()


def test_a_forked_child_serves_what_it_inherited_and_goes_on_following(repo: ConfigRepo, make: Make) -> None:
    live = make().start()
    context = multiprocessing.get_context("fork")
    queue, go = context.Queue(), context.Event()
    child = context.Process(target=_child, args=(live, queue, go))
    child.start()
    assert queue.get(timeout=20)[1] == 1
    set_timeout(repo, 44)
    go.set()
    assert queue.get(timeout=20)[1] == 44
    child.join(20)
    assert child.exitcode == 0
    wait_until(lambda: live.current.config.timeout_ms == 44)


_FORK_STORM = """
import os, sys, time
from pathlib import Path
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig

class Config(BaseModel, frozen=True):
    timeout_ms: int = 200

url, root, home = sys.argv[1:]
live = LiveConfig(Config, source=GitSource(url=url), trusted_root=Path(root), service="checkout", env="prod", home=Path(home),
                  hub="127.0.0.1:1", poll_interval_s=0.2)
live.start()
children = []
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        assert live.current.config.timeout_ms == 1
        while live.status.condition != "READY" or live.status.checked_at is None:
            time.sleep(0.01)
        live.stop()
        os._exit(0)
    children.append(pid)
deadline = time.monotonic() + 30
while children and time.monotonic() < deadline:
    pid, status = os.waitpid(-1, os.WNOHANG)
    if pid:
        assert status == 0
        children.remove(pid)
    time.sleep(0.01)
live.stop()
print(len(children))
"""


def test_children_forked_right_after_the_first_read_all_come_alive(repo: ConfigRepo, tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_bytes(repo.trusted_root)
    words = [sys.executable, "-c", _FORK_STORM, str(repo.remote_path), str(tmp_path / "root.yaml"), str(tmp_path / "storm")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=True)
    assert done.stdout.strip() == "0", done.stderr


def test_a_lost_mirror_does_not_lose_the_memory_of_what_was_applied(repo: ConfigRepo, make: Make, tmp_path: Path) -> None:
    first = repo.tip()
    live = make()
    live.start()
    second = set_timeout(repo, 2)
    live.wait_for(second)
    wait_until(lambda: any(second.encode() in p.read_bytes() for p in (tmp_path / "home").rglob("checkout-prod.json")))
    live.stop()
    (mirror,) = (tmp_path / "home").glob("*/mirror.git")
    shutil.rmtree(mirror)
    repo.force_push(first)
    live = make()
    with pytest.raises(RefusedError, match="LC320"):
        _ = live.current
    repo.force_push(second)
    wait_until(lambda: live.status.condition is Condition.READY)
    assert live.current.config.timeout_ms == 2


def test_a_remembered_revision_that_the_new_model_refuses_is_raised_with_its_faults(
    repo: ConfigRepo, make: Make, tmp_path: Path
) -> None:
    make().start().stop()

    class Stricter(BaseModel):
        timeout_ms: int = Field(200, ge=100)

    live = LiveConfig(
        Stricter,
        source=GitSource(url=str(repo.remote_path)),
        trusted_root=repo.trusted_root,
        service="checkout",
        env="prod",
        home=tmp_path / "home",
        start_timeout_s=5.0,
    )
    with pytest.raises(RefusedError, match="LC201"):
        _ = live.current
    live.stop()
