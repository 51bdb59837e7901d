from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.errors import FetchError, MissingObjectError, WrongKindError
from livecfg.git import local
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource, Limits
from livecfg.git.treewatch import TreeWatcher
from livecfg.git.watch import Watcher, signature
from livecfg.git.worktree import WorkingTree
from tests.e2e.support import eventually
from tests.simulator.descriptors import no_descriptor_left

if TYPE_CHECKING:
    from tests.simulator import ConfigRepo


def test_a_moved_tip_wakes_a_follower(repo: ConfigRepo, home: Path) -> None:
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        mirror.promote()
        woken = threading.Event()
        with Watcher([mirror.watched], woken.set, poll_s=60):
            tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
            mirror.fetch(None)
            assert not woken.is_set()
            mirror.promote()
            assert woken.wait(5)
            assert mirror.tip() == tip


def test_a_real_push_into_a_watched_remote_wakes(repo: ConfigRepo) -> None:
    woken = threading.Event()
    with Watcher([repo.remote_path / "refs" / "heads"], woken.set, poll_s=60):
        repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        assert woken.wait(5)


def test_reading_does_not_wake(repo: ConfigRepo) -> None:
    woken = threading.Event()
    folder = repo.remote_path / "refs" / "heads"
    with Watcher([folder], woken.set, poll_s=0.05):
        for _ in range(50):
            (folder / "main").read_text()
        assert not woken.wait(0.5)


def test_a_folder_that_appears_vanishes_and_comes_back_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "late"
    woken = threading.Event()
    with Watcher([folder], woken.set, poll_s=0.05):
        for _ in range(2):
            folder.mkdir()
            assert woken.wait(5)
            woken.clear()
            (folder / "a").write_text("1")
            assert woken.wait(5)
            woken.clear()
            (folder / "a").unlink()
            folder.rmdir()
            assert woken.wait(5)
            woken.clear()


def test_without_file_events_the_poll_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livecfg.git.watch._is_remote", lambda _: True)  # what an NFS mount looks like
    woken = threading.Event()
    (tmp_path / "a").write_text("1")
    with Watcher([tmp_path], woken.set, poll_s=0.05) as watcher:
        assert not watcher.has_events
        (tmp_path / "b").write_text("1")
        assert woken.wait(5)


def test_an_event_calls_before_the_files_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    woken = threading.Event()
    with Watcher([tmp_path], lambda: (order.append("called"), woken.set()), poll_s=60):
        monkeypatch.setattr("livecfg.git.watch.signature", lambda folders: (order.append("looked"), signature(folders))[1])
        (tmp_path / "a").write_text("1")
        assert woken.wait(5)
    assert order[0] == "called"


def test_what_an_event_told_is_not_told_again_by_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, looks = [], threading.Semaphore(0)
    with Watcher([tmp_path], lambda: calls.append(1), poll_s=0.3):
        monkeypatch.setattr("livecfg.git.watch.signature", lambda folders: (signature(folders), looks.release())[0])
        assert looks.acquire(timeout=5)  # not while it looks: it would find the change, and the event comes all the same
        (tmp_path / "new").mkdir()  # one event
        for _ in range(5):
            assert looks.acquire(timeout=5)
    assert len(calls) == 1


def test_a_repository_replaced_right_after_an_event_is_followed_by_the_look(tmp_path: Path) -> None:
    folder, other = tmp_path / "mirror" / "refs", tmp_path / "other" / "refs"
    folder.mkdir(parents=True)
    other.mkdir(parents=True)
    calls = threading.Semaphore(0)

    def wake() -> None:
        calls.release()
        if (folder / "first").exists():  # once, while whoever was called looks; the watched folder itself is not renamed
            folder.parent.rename(tmp_path / "away")
            other.parent.rename(folder.parent)
            (folder / "unseen").write_text("1")

    with Watcher([folder], wake, poll_s=60):
        (folder / "first").mkdir()
        for _ in range(2):
            assert calls.acquire(timeout=5)


def test_a_callback_that_raises_does_not_end_the_watching(tmp_path: Path) -> None:
    calls = threading.Semaphore(0)

    def wake() -> None:
        calls.release()
        raise RuntimeError("from the callback")

    with Watcher([tmp_path], wake, poll_s=0.05):
        for name in ("a", "b"):
            (tmp_path / name).write_text("1")
            assert calls.acquire(timeout=5)


def test_of_a_remote_on_this_host_the_followed_branch_alone_is_looked_at(
    repo: ConfigRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livecfg.git.watch._is_remote", lambda _: True)  # no events: what the look finds, and nothing else
    tip = repo.remote_tip()
    woken = threading.Event()
    with local.watcher(GitSource(f"file://{repo.remote_path}"), woken.set):
        repo.git("update-ref", "refs/heads/other", tip, at=repo.remote_path)
        assert not woken.wait(2)
        for command in (["pack-refs", "--all"], ["update-ref", "refs/heads/main", repo.commit({"x": "1"})]):
            repo.git("push", "-q", "origin", "HEAD:refs/heads/ahead")
            repo.git(*command, at=repo.remote_path)
            assert woken.wait(5)
            woken.clear()


def test_a_remote_whose_path_holds_a_blank_is_watched(repo: ConfigRepo, tmp_path: Path) -> None:
    (tmp_path / "of us").mkdir()
    moved = repo.remote_path.rename(tmp_path / "of us" / "remote.git")
    woken = threading.Event()
    with local.watcher(GitSource(f"file://{tmp_path}/of%20us/remote.git"), woken.set):
        (moved / "refs" / "heads" / "main").write_text("0" * 40)
        assert woken.wait(5)


def test_a_signature_names_what_stat_can_see(tmp_path: Path) -> None:
    before = signature([tmp_path])
    (tmp_path / "a").write_text("1")
    assert signature([tmp_path]) != before
    assert signature([tmp_path / "missing"]) != before


# -- working trees --------------------------------------------------------------------------------------------------------


def test_a_working_tree_has_the_tree_id_git_would_give(repo: ConfigRepo) -> None:
    repo.commit({"config/checkout/a.b/c.yaml": "x: 1\n", "config/checkout/a/c.yaml": "x: 2\n", "config/checkout/a0": "x"})
    tree = WorkingTree(repo.work)
    assert tree.tree_id() == repo.git("rev-parse", "HEAD^{tree}")
    for line in repo.git("ls-tree", "-r", "-t", "HEAD").splitlines():
        _, kind, rest = line.split(" ", 2)
        name = rest.partition("\t")[0]
        assert tree.objects.read(name, kind) == repo.raw(name, kind)  # type: ignore[arg-type]


def test_a_file_in_a_folder_made_later_wakes_and_reading_or_git_does_not(tmp_path: Path) -> None:
    woken = threading.Event()
    (tmp_path / ".git").mkdir()
    (tmp_path / "read.yaml").write_text("a: 1\n")
    watcher = TreeWatcher(tmp_path, woken.set).start()
    try:
        (tmp_path / "read.yaml").read_text()
        (tmp_path / ".git" / "index").write_text("x")
        assert not woken.wait(0.5)
        (tmp_path / "config" / "checkout").mkdir(parents=True)
        (tmp_path / "config" / "checkout" / "prod.yaml").write_text("a: 1\n")
        assert woken.wait(5)
    finally:
        watcher.stop()


def test_a_folder_that_is_not_there_yet_is_no_error_and_nothing_stays_of_the_try(tmp_path: Path) -> None:
    threads, queues = set(threading.enumerate()), _event_queues()
    watcher = TreeWatcher(tmp_path / "nowhere", lambda: None).start()
    assert set(threading.enumerate()) <= threads  # those of an earlier test may end meanwhile
    assert _event_queues() <= queues
    watcher.stop()


def _event_queues() -> int:
    """How many inotify descriptors this process has."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += "inotify" in str(link.readlink())
    return found


class Numbered(BaseModel, frozen=True):
    number: int


def test_a_working_tree_is_followed_where_the_kernel_gives_no_more_event_queues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\n")
    (tmp_path / "base.yaml").write_text("number: 1\n")
    start = TreeWatcher.start

    def start_without(watcher: TreeWatcher) -> TreeWatcher:
        with no_descriptor_left():
            return start(watcher)

    monkeypatch.setattr(TreeWatcher, "start", start_without)
    before = _event_queues()
    with LiveConfig(Numbered, source=UnsafeNoVerification(tmp_path), service="checkout", env="dev") as live:
        assert live.current.config.number == 1
        assert _event_queues() <= before
        (tmp_path / "base.yaml").write_text("number: 2\n")
        eventually(lambda: live.current.config.number == 2)


def test_a_mirror_is_followed_where_the_kernel_gives_no_more_event_queues(tmp_path: Path) -> None:
    woken = threading.Event()
    with no_descriptor_left():  # the kernel says the same where a user has no event queue left: there are 128 by default
        made = Watcher([tmp_path], woken.set, poll_s=0.05)
    with made as watcher:
        assert not watcher.has_events
        (tmp_path / "a").write_text("1")
        assert woken.wait(5)


def test_a_changed_file_changes_the_tree_and_the_old_state_is_gone(repo: ConfigRepo) -> None:
    tree = WorkingTree(repo.work)
    before = tree.tree_id()
    assert tree.tree_id() == before
    blob = repo.git("rev-parse", "HEAD:config/checkout/base.yaml")
    (repo.work / "config/checkout/base.yaml").write_text("payment_timeout_s: 5.0\n")
    after = tree.tree_id()
    assert after != before
    with pytest.raises(MissingObjectError):
        tree.objects.read(blob, "blob")
    with pytest.raises(WrongKindError):
        tree.objects.read(after, "blob")
    repo.git("add", "-A")
    assert after == repo.git("write-tree")


def test_links_hidden_files_and_git_are_left_out(repo: ConfigRepo) -> None:
    clean = WorkingTree(repo.work).tree_id()
    (repo.work / "link.yaml").symlink_to("/etc/passwd")
    (repo.work / "loop").symlink_to(repo.work)
    (repo.work / ".env").write_text("SECRET=1")
    (repo.work / "config" / ".swp").write_text("x")
    (repo.work / "empty").mkdir()
    assert WorkingTree(repo.work).tree_id() == clean


def test_a_directory_that_is_missing_or_too_big_is_a_fetch_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not a directory"):
        WorkingTree(tmp_path / "nowhere").tree_id()
    (tmp_path / "big").write_bytes(b"x" * 100)
    with pytest.raises(FetchError, match="LC102"):
        WorkingTree(tmp_path, Limits(object_bytes=50)).tree_id()
