from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from livecfg.errors import FetchError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from livecfg.git.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulator import ConfigRepo, GitHttpServer

ROOT = Path(__file__).resolve().parents[2]


class Peer:
    """Another process of this host, with the same mirror."""

    def __init__(self, home: Path, url: str) -> None:
        words = [sys.executable, "-W", "error", str(Path(__file__).with_name("peer.py")), str(home), url]
        env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(home)}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)

    def send(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, command: str) -> str:
        self.send(command)
        return self.answer()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@pytest.fixture
def peer(home: Path, repo: ConfigRepo) -> Iterator[Callable[[], Peer]]:
    made: list[Peer] = []

    def make() -> Peer:
        made.append(Peer(home, str(repo.remote_path)))
        return made[-1]

    yield make
    for one in made:
        one.__exit__()


def test_one_process_fetches_and_the_others_follow_what_it_brings(repo: ConfigRepo, home: Path, peer: Callable[[], Peer]) -> None:
    source = GitSource(str(repo.remote_path))
    with Mirror(home, source) as mirror:
        assert mirror.is_fetcher
        other = peer()
        assert other.ask("elect") == "False"
        assert "brought nothing yet" in other.ask("fetch")
        mirror.fetch(None)
        assert other.ask("tip") == "none"
        mirror.promote()
        assert other.ask("fetch") == repo.remote_tip()
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        assert other.ask("fetch") != tip
        mirror.fetch(None)
        mirror.promote()
        assert other.ask("fetch") == tip
        assert other.ask(f"read {tip}") == str(len(repo.raw(tip)))


def test_a_follower_takes_over_when_the_fetcher_is_killed(repo: ConfigRepo, home: Path, peer: Callable[[], Peer]) -> None:
    fetcher = peer()
    assert fetcher.ask("elect") == "True"
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        assert not mirror.elect()
        fetcher.kill()
        assert mirror.elect()
        candidate = mirror.fetch(None)
        assert candidate is not None


def test_a_follower_takes_over_when_the_fetcher_closes(repo: ConfigRepo, home: Path, peer: Callable[[], Peer]) -> None:
    source = GitSource(str(repo.remote_path))
    other = peer()
    assert other.ask("elect") == "True"
    with Mirror(home, source) as mirror:
        assert not mirror.elect()
        other.__exit__()
        assert mirror.elect()


def test_a_forked_child_reads_but_is_not_the_fetcher(repo: ConfigRepo, peer: Callable[[], Peer]) -> None:
    parent = peer()
    tip = parent.ask("fetch")
    assert tip == repo.remote_tip()
    assert parent.ask(f"fork read {tip}") == str(len(repo.raw(tip)))
    assert parent.ask("fork elect") == "False"
    assert parent.ask("fork fork elect") == "False"
    assert parent.ask("elect") == "True"
    assert parent.ask("fork fetch") == tip
    newer = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    assert parent.ask("fork fetch") == tip, "a child without the lock must not fetch"
    assert parent.ask("fetch") == newer


def test_a_child_that_never_uses_livecfg_does_not_keep_its_dead_parents_lock(
    repo: ConfigRepo, home: Path, peer: Callable[[], Peer]
) -> None:
    parent = peer()
    assert parent.ask("elect") == "True"
    child = int(parent.ask("quiet-child"))
    try:
        parent.kill()
        with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
            assert mirror.elect()
    finally:
        os.kill(child, signal.SIGKILL)


def test_children_forked_while_threads_fetch_and_read_never_hang(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    with Peer(home, http.url(repo.remote_path)) as parent:
        tip = parent.ask("fetch")
        assert parent.ask(f"storm {tip}") == "wrong [] parent True"


def test_processes_that_race_end_at_the_same_tip_with_a_valid_mirror(
    repo: ConfigRepo, home: Path, peer: Callable[[], Peer]
) -> None:
    commits = [repo.commit({"config/checkout/base.yaml": f"payment_timeout_s: {n}.25\n"}) for n in range(12)]
    peers = [peer() for _ in range(3)]
    for one in peers:
        one.send(f"race {commits[-1]}")
    for commit in commits:
        repo.force_push(commit)
    assert [one.answer().split()[0] for one in peers] == ["ok"] * 3
    folder = home / GitSource(str(repo.remote_path)).folder / "mirror.git"
    assert repo.git("rev-parse", "refs/livecfg/tip", at=folder) == commits[-1]
    repo.fsck(folder)


def test_what_a_killed_writer_left_is_swept_by_the_next_fetcher(repo: ConfigRepo, home: Path) -> None:
    source = GitSource(str(repo.remote_path))
    with Mirror(home, source) as mirror:
        mirror.fetch(None)
        mirror.promote()
        folder = mirror.folder
    left = [
        folder / "mirror.git" / "refs" / "livecfg" / "tip.lock",
        folder / "mirror.git" / "packed-refs.lock",
        folder / "mirror.git" / "objects" / "pack" / "pack-1.idx.lock",
        folder / "mirror.git" / "objects" / "pack" / "tmp_pack_x",
        folder / "incoming-1" / "objects" / "x",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    with Mirror(home, source) as mirror:
        assert not any(path.exists() for path in left)
        assert mirror.fetch(None) is not None
        mirror.promote()


def test_a_child_of_a_process_with_an_open_http_connection_makes_its_own(
    repo: ConfigRepo, http: GitHttpServer, home: Path
) -> None:
    url = http.url(repo.remote_path)
    with Peer(home, url) as parent:
        tip = parent.ask("fetch")
        assert tip == repo.remote_tip()
        assert parent.ask(f"fork read {tip}") == str(len(repo.raw(tip)))
        newer = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        assert parent.ask("fork elect") == "False"
        assert parent.ask("fetch") == newer


def test_a_second_mirror_in_the_same_process_follows_the_first(repo: ConfigRepo, home: Path) -> None:
    source = GitSource(str(repo.remote_path))
    with Mirror(home, source) as first, Mirror(home, source) as second:
        assert first.is_fetcher
        assert not second.is_fetcher
        with pytest.raises(FetchError, match="brought nothing yet"):
            second.fetch(None)
        first.fetch(None)
        first.promote()
        found = second.fetch(None)
        assert found is not None


def test_packs_pushed_while_the_remote_is_polled_end_at_the_same_tip(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    commits = [repo.commit({"config/checkout/base.yaml": f"payment_timeout_s: {n}.125\n"}) for n in range(25)]
    errors: list[BaseException] = []
    done = threading.Event()
    with (
        Mirror(home, GitSource(http.url(repo.remote_path))) as mirror,
        Mirror(home / "hub", GitSource(str(repo.remote_path))) as hub,
    ):
        mirror.fetch(None)
        hub.fetch(None)

        def poll() -> None:
            try:
                while not done.is_set():
                    mirror.fetch(None)
                    mirror.promote()
            except BaseException as error:  # noqa: BLE001 - looked at below
                errors.append(error)

        thread = threading.Thread(target=poll)
        thread.start()
        try:
            for commit in commits:
                have = mirror.tip()
                repo.force_push(commit)
                hub.fetch(None)
                mirror.accept_pack(hub.build_pack(have, commit), commit)
        finally:
            done.set()
            thread.join(30)
        assert errors == []
        mirror.fetch(None)
        mirror.fetch(None)
        mirror.promote()
        assert mirror.tip() == commits[-1]
        repo.fsck(mirror.folder / "mirror.git")


def test_the_death_of_the_fetcher_wakes_a_watcher_once_the_lock_is_free(
    repo: ConfigRepo, home: Path, peer: Callable[[], Peer]
) -> None:
    for _ in range(5):
        fetcher = peer()
        assert fetcher.ask("elect") == "True"
        with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
            woken = threading.Event()
            with Watcher([], woken.set, poll_s=60, held=mirror.election.path):
                assert not mirror.elect()
                assert peer().ask("elect") == "False"
                assert not woken.is_set(), "an election that is lost disturbs nobody"
                fetcher.kill()
                assert woken.wait(5)
                assert mirror.elect()
