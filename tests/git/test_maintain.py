from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError
from livecfg.git import maintain
from livecfg.git.lock import sweep
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from livecfg.git.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator import ConfigRepo


@pytest.fixture
def mirror(repo: ConfigRepo, home: Path) -> Iterator[Mirror]:
    with Mirror(home, GitSource(str(repo.remote_path))) as made:
        for number in range(8):
            repo.publish({"config/checkout/base.yaml": f"payment_timeout_s: {number}.5\n"})
            made.fetch(None)
            made.promote()
        yield made


def ids(repo: ConfigRepo, git_dir: Path) -> list[str]:
    lines = repo.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", at=git_dir).split()
    return sorted(lines)


def test_packing_loses_nothing_and_leaves_no_loose_object(repo: ConfigRepo, mirror: Mirror) -> None:
    git_dir = mirror.folder / "mirror.git"
    before = ids(repo, git_dir)
    assert maintain.repack(git_dir, grace_s=-1) == len(before)
    store = Store(git_dir, 1 << 20)
    assert list(store.loose_names()) == []
    assert len(store.pack_files()) == 1
    store.close()
    assert ids(repo, git_dir) == before
    repo.fsck(git_dir)
    assert maintain.repack(git_dir, grace_s=-1) == 0
    mirror.objects.forget()
    for name in repo.git("rev-list", "HEAD").split():
        assert mirror.objects.read(name, "commit") == repo.raw(name)


def test_a_pack_whose_removal_was_cut_short_is_taken_away_and_one_that_is_being_written_is_not(mirror: Mirror) -> None:
    maintain.repack(mirror.folder / "mirror.git", grace_s=-1)
    (kept,) = (mirror.folder / "mirror.git/objects/pack").glob("pack-*.pack")
    halves = [kept.with_name(f"pack-{digit * 40}.pack") for digit in "12"]
    for half in halves:
        half.write_bytes(kept.read_bytes())
    os.utime(halves[0], (time.time() - 3600, time.time() - 3600))
    os.utime(kept, (time.time() - 3600, time.time() - 3600))
    assert sweep(mirror.folder) == 1
    assert sorted(kept.parent.glob("pack-*.pack")) == sorted([kept, halves[1]])


def test_young_objects_stay_loose(mirror: Mirror) -> None:
    assert maintain.repack(mirror.folder / "mirror.git") == 0


def test_many_small_packs_become_one(repo: ConfigRepo, mirror: Mirror) -> None:
    git_dir = mirror.folder / "mirror.git"
    for number in range(maintain.PACKS_MOST + 1):
        files = {f"config/n{number}/{n}.yaml": f"a: {number}.{n}\n" for n in range(70)}
        repo.publish(files)
        mirror.fetch(None)
        mirror.promote()
    store = Store(git_dir, 1 << 20)
    assert len(store.pack_files()) > maintain.PACKS_MOST
    before = ids(repo, git_dir)
    maintain.repack(git_dir, grace_s=-1)
    assert len(store.pack_files()) == 1
    assert ids(repo, git_dir) == before
    repo.fsck(git_dir)
    store.close()


def test_packs_of_the_same_size_are_merged_so_that_few_are_ever_open(repo: ConfigRepo, mirror: Mirror) -> None:
    git_dir = mirror.folder / "mirror.git"
    store = Store(git_dir, 1 << 20)
    counts = []
    for number in range(12):
        repo.publish({f"config/n{number}.yaml": f"a: {number}\n"})
        mirror.fetch(None)
        mirror.promote()
        maintain.repack(git_dir, grace_s=-1)
        counts.append(len(store.pack_files()))
    assert max(counts) <= 5, "each round alone would leave twelve"
    assert store.read(repo.remote_tip())[0] == "commit"
    repo.fsck(git_dir)
    store.close()


def test_a_pack_that_was_merged_is_closed_a_minute_later(
    repo: ConfigRepo, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_dir = mirror.folder / "mirror.git"
    store = Store(git_dir, 1 << 20)
    for number in range(3):
        repo.publish({f"config/n{number}.yaml": f"a: {number}\n"})
        mirror.fetch(None)
        mirror.promote()
        maintain.repack(git_dir, grace_s=-1)
        assert store.read(repo.remote_tip())[0] == "commit"
    assert store.open_packs == len(store.pack_files()) + 1, "another thread may still read from it"
    later = time.monotonic() + 61
    monkeypatch.setattr("livecfg.git.store.time.monotonic", lambda: later)
    assert "0" * 40 not in store
    assert store.open_packs == len(store.pack_files())
    store.close()


def test_readers_and_a_fetch_go_on_while_the_store_is_packed(repo: ConfigRepo, mirror: Mirror) -> None:
    git_dir = mirror.folder / "mirror.git"
    names = repo.git("rev-list", "HEAD").split()
    errors: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        store = Store(git_dir, 1 << 20)
        try:
            while not stop.is_set():
                for name in names:
                    store.read(name)
        except FetchError as error:
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            maintain.repack(git_dir, grace_s=-1)
            tip = repo.publish({"config/checkout/base.yaml": f"payment_timeout_s: {number}.75\n"})
            mirror.fetch(None)
            mirror.promote()
            assert mirror.tip() == tip
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    repo.fsck(git_dir)


def test_a_mirror_that_has_grown_packs_itself_in_another_process(
    repo: ConfigRepo, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintain, "LOOSE_MOST", -1)
    repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 99\n"})
    mirror.fetch(None)
    mirror.promote()
    assert mirror._maintenance.process is not None
    assert mirror._maintenance.process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_thousand_fetches_leave_few_packs_few_loose_objects_and_few_open_files(
    repo: ConfigRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintain, "EVERY_S", 5.0)
    commits = a_long_history(repo, 10_000)
    ref = repo.remote_path / "refs/heads/main"
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        store = Store(mirror.folder / "mirror.git", 1 << 20)
        mirror.fetch(None)
        mirror.promote()
        files, written = open_files(), list[float]()
        for number, commit in enumerate(commits):
            ref.with_name("main.new").write_text(commit + "\n")
            ref.with_name("main.new").replace(ref)
            candidate = mirror.fetch(None)
            assert candidate is not None
            assert candidate.tip == commit
            mirror.promote()
            written.append(time.monotonic())
            if number % 100 == 0:
                assert len(store.pack_files()) <= 2 * maintain.PACKS_MOST
                assert open_files() <= files + 6 * maintain.PACKS_MOST  # two each, of those that are there and the last that were
        young = sum(at > written[-1] - 120 for at in written)  # a minute of grace, another for a machine with much to do
        assert len(list(store.loose_names())) <= 5 * young + 256 * (maintain.LOOSE_MOST + 1)  # a commit, three trees, a file
        mirror._maintenance.stop()
        maintain.repack(store.path, grace_s=-1)
        assert list(store.loose_names()) == []
        assert len(store.pack_files()) <= maintain.PACKS_MOST + 1
        repo.fsck(store.path)
        store.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def a_long_history(repo: ConfigRepo, length: int) -> list[str]:
    """Commits on top of the remote's branch, made by `git fast-import` under another name; nobody judges them here."""
    lines = []
    for number in range(length):
        text = f"payment_timeout_s: {number}.5\n"
        lines.append(
            f"commit refs/stage\nmark :{number + 1}\ncommitter Ana <ana@acme> {1_767_300_000 + number} +0000\ndata 1\nm\n"
        )
        lines.append(f"from {repo.remote_tip()}\n" if not number else f"from :{number}\n")
        lines.append(f"M 100644 inline config/checkout/base.yaml\ndata {len(text)}\n{text}\n")
    command = ["git", "-C", str(repo.remote_path), "fast-import", "--quiet"]
    subprocess.run(command, input="".join(lines).encode(), check=True)
    return repo.git("rev-list", "--reverse", "refs/stage", "^refs/heads/main", at=repo.remote_path).split()


def test_a_damaged_object_stops_packing_and_nothing_is_removed(repo: ConfigRepo, mirror: Mirror) -> None:
    git_dir = mirror.folder / "mirror.git"
    store = Store(git_dir, 1 << 20)
    names = list(store.loose_names())
    path = store.loose_path(repo.git("rev-parse", "HEAD:livecfg.yaml"))
    path.chmod(0o644)
    path.write_bytes(b"x")
    with pytest.raises(FetchError):
        maintain.repack(git_dir, grace_s=-1)
    assert list(store.loose_names()) == names
    store.close()
