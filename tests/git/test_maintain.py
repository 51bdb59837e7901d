from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError
from livecfg.git import maintain
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from livecfg.git.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
