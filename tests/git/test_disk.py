from __future__ import annotations

import os
import random
import resource
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import CorruptObjectError, FetchError, LivecfgError, MissingObjectError
from livecfg.git.diskpack import DiskPack
from livecfg.git.files import write_file
from livecfg.git.lock import exclusive
from livecfg.git.mirror import Mirror
from livecfg.git.pack import Entry, object_id, write_pack
from livecfg.git.source import GitSource
from livecfg.git.state import States
from tests.simulator import ConfigRepo, GitHttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow in this process: the kernel's own refusal, for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def mirror(repo: ConfigRepo, home: Path) -> Iterator[Mirror]:
    with Mirror(home, GitSource(str(repo.remote_path))) as made:
        made.fetch(None)
        made.promote()
        yield made


def object_file(mirror: Mirror, name: str) -> Path:
    return mirror.folder / "mirror.git" / "objects" / name[:2] / name[2:]


def spoil(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_corrupt_object_is_found_when_read_and_healed_by_the_next_fetch(repo: ConfigRepo, mirror: Mirror) -> None:
    tip = mirror.tip()
    blob = repo.git("rev-parse", "HEAD:config/checkout/base.yaml")
    other = repo.git("rev-parse", "HEAD:livecfg.yaml")
    for wrong in (b"", b"garbage", object_file(mirror, other).read_bytes(), object_file(mirror, blob).read_bytes()[:-3]):
        spoil(object_file(mirror, blob), wrong)
        with pytest.raises(CorruptObjectError, match=blob):
            mirror.objects.read(blob, "blob")
    assert mirror.fetch(tip) is None
    assert mirror.objects.read(blob, "blob") == b"payment_timeout_s: 2.0\n"
    assert not (mirror.folder / "damaged").exists()
    repo.fsck(mirror.folder / "mirror.git")


def test_a_lost_object_is_missed_and_healed_by_the_next_fetch(repo: ConfigRepo, mirror: Mirror) -> None:
    tip = mirror.tip()
    blob = repo.git("rev-parse", "HEAD:config/checkout/base.yaml")
    object_file(mirror, blob).unlink()
    with pytest.raises(MissingObjectError):
        mirror.objects.read(blob, "blob")
    mirror.fetch(tip)
    assert mirror.objects.read(blob, "blob") == b"payment_timeout_s: 2.0\n"


@pytest.mark.parametrize("count", [100, 4000])
def test_a_pack_gives_each_of_its_objects_and_no_other_whatever_its_index_weighs(tmp_path: Path, count: int) -> None:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    contents = [random.Random(n).randbytes(n % 7000) for n in range(count)]
    entries = [Entry(object_id("blob", content), "blob", content) for content in contents]
    data, _ = write_pack(entries, level=1)
    subprocess.run(["git", "-C", str(bare), "index-pack", "--stdin"], input=data, check=True, capture_output=True)
    (index,) = (bare / "objects" / "pack").glob("*.idx")
    assert (index.stat().st_size > 64 * 1024) == (count > 1000)
    pack = DiskPack(index, 20, 1 << 20)
    assert sorted(pack.names()) == sorted(entry.name for entry in entries)
    for entry in entries:
        offset = pack.offset(bytes.fromhex(entry.name))
        assert offset is not None
        assert pack.read(offset, _nowhere) == ("blob", entry.content)
    assert pack.offset(b"\xff" * 20) is pack.offset(b"\0" * 20) is None
    pack.close()


def _nowhere(name: str) -> tuple[str, bytes]:
    raise LookupError(name)


def test_asking_for_an_unknown_commit_does_not_cost_a_new_clone(mirror: Mirror) -> None:
    before = (mirror.folder / "mirror.git").stat().st_ino
    with pytest.raises(MissingObjectError):
        mirror.objects.read("1" * 40, "commit")
    mirror.fetch(None)
    assert (mirror.folder / "mirror.git").stat().st_ino == before


@pytest.mark.parametrize("ref", [b"", b"garbage\n", b"0" * 40, b"ref: refs/heads/x\n", b"\xff" * 40])
def test_a_damaged_ref_is_healed_by_the_next_fetch(ref: bytes, repo: ConfigRepo, mirror: Mirror) -> None:
    (mirror.folder / "mirror.git" / "refs" / "livecfg" / "tip").write_bytes(ref)
    candidate = mirror.fetch(None)
    assert candidate is not None
    assert candidate.tip == repo.remote_tip()
    mirror.promote()
    repo.fsck(mirror.folder / "mirror.git")


def test_a_corrupt_pack_is_healed_by_the_next_fetch(repo: ConfigRepo, home: Path) -> None:
    repo.publish({f"config/checkout/{n}.yaml": f"a: {n}\n" for n in range(100)})
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        mirror.promote()
        (pack,) = (mirror.folder / "mirror.git" / "objects" / "pack").glob("*.pack")
        data = bytearray(pack.read_bytes())
        for at in range(12, len(data) - 20, 7):
            data[at] ^= 0x55
        spoil(pack, bytes(data))
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        with pytest.raises(FetchError):
            mirror.objects.read(mirror.tip(), "commit")
        mirror.fetch(None)
        assert mirror.objects.read(mirror.tip(), "commit") == repo.raw("HEAD")
        repo.fsck(mirror.folder / "mirror.git")


def test_a_rebuild_keeps_what_the_remote_has_lost(repo: ConfigRepo, mirror: Mirror) -> None:
    first = repo.tip()
    good = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    mirror.fetch(None)
    mirror.promote()
    repo.force_push(first)
    repo.git("gc", "-q", "--prune=now", at=repo.remote_path)
    mirror.rebuild()
    assert mirror.tip() == first
    assert mirror.objects.read(good, "commit") == repo.raw(good)
    repo.fsck(mirror.folder / "mirror.git")


def test_a_rebuild_that_fails_leaves_the_old_mirror(repo: ConfigRepo, http: GitHttpServer, home: Path) -> None:
    from tests.simulator import Fault

    with Mirror(home, GitSource(http.url(repo.remote_path))) as mirror:
        mirror.fetch(None)
        mirror.promote()
        tip = mirror.tip()
        http.fault = Fault.HTTP_500
        with pytest.raises(FetchError):
            mirror.rebuild()
        assert mirror.tip() == tip
        assert mirror.objects.read(tip, "commit")
        assert not list(mirror.folder.glob("incoming-*"))


def test_a_full_disk_is_said_clearly_and_the_process_serves_from_memory(repo: ConfigRepo, mirror: Mirror) -> None:
    have = mirror.tip()
    tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    with full_disk():
        candidate = mirror.fetch(have)
        assert candidate is not None
        with pytest.raises(FetchError, match="writing"):
            mirror.promote()
        with pytest.raises(FetchError, match="writing"):
            mirror.save_state("a-b", b"{}", 1)
        assert candidate.objects.read(tip, "commit") == repo.raw(tip)
        assert mirror.fetch(tip) is None
    repo.fsck(mirror.folder / "mirror.git")
    mirror.promote()
    repo.fsck(mirror.folder / "mirror.git")
    assert repo.git("rev-parse", "refs/livecfg/tip", at=mirror.folder / "mirror.git") == tip


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "tip"
    write_file(path, b"old")
    with full_disk(), pytest.raises(FetchError):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_usable_home_the_process_serves_from_memory(repo: ConfigRepo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with Mirror(tmp_path / "file" / "home", GitSource(str(repo.remote_path))) as mirror:
        first = mirror.fetch(None)
        assert first is not None
        assert mirror.is_fetcher
        with pytest.raises(FetchError, match="Not a directory"):
            mirror.promote()
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        second = mirror.fetch(first.tip)
        assert second is not None
        assert second.objects.read(tip, "commit") == repo.raw(tip)
        assert mirror.load_state("a-b") is None


def test_alternates_grafts_and_replace_refs_of_the_mirror_are_not_followed(
    repo: ConfigRepo, mirror: Mirror, tmp_path: Path
) -> None:
    other = ConfigRepo(tmp_path / "other")
    hostile = other.found({"x.yaml": "x: 1\n"})
    git = mirror.folder / "mirror.git"
    (git / "objects" / "info" / "alternates").write_text(f"{other.remote_path}/objects\n")
    with pytest.raises(MissingObjectError):
        mirror.objects.read(hostile, "commit")
    tip = mirror.tip()
    (git / "info").mkdir(exist_ok=True)
    (git / "info" / "grafts").write_text(f"{tip} {hostile}\n")
    (git / "refs" / "replace").mkdir()
    (git / "refs" / "replace" / tip).write_text(hostile + "\n")
    (git / "shallow").write_text(tip + "\n")
    mirror.objects.forget()
    assert mirror.objects.read(tip, "commit") == repo.raw(tip)


@pytest.mark.parametrize("name", ["", "../../../../../../../../../../etc/passwd", "0" * 40, "../" * 13 + "x"], ids=range(4))
def test_what_is_no_id_of_an_object_here_is_not_held(name: str, mirror: Mirror, repo: ConfigRepo) -> None:
    assert mirror.holds(repo.tip())
    assert not mirror.holds(name)


# -- state files ---------------------------------------------------------------------------------------------------------


def test_state_is_given_back_and_moves_only_forwards(tmp_path: Path) -> None:
    states = States(tmp_path / "m" / "state")
    assert states.load("checkout-prod") is None
    assert states.save("checkout-prod", b'{"a": 1}', 5)
    assert not states.save("checkout-prod", b'{"a": 0}', 4)
    assert states.load("checkout-prod") == b'{"a": 1}'
    assert states.save("checkout-prod", b'{"a": 2}', 5)
    assert states.load("checkout-prod") == b'{"a": 2}'
    assert states.load("other-prod") is None


def test_state_that_others_could_have_written_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "m" / "state"
    states = States(folder)
    states.save("a-b", b"{}", 1)
    path = folder / "a-b.json"
    for target, mode in ((path, 0o666), (path, 0o620), (folder, 0o777), (folder.parent, 0o775)):
        before = target.stat().st_mode
        target.chmod(mode)
        assert states.load("a-b") is None
        assert "not believed" in caplog.text
        caplog.clear()
        target.chmod(before)
        assert states.load("a-b") == b"{}"
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        assert states.load("a-b") is None
        assert "belongs to user 12345" in caplog.text


def test_a_symbolic_link_in_place_of_state_is_not_believed(tmp_path: Path) -> None:
    states = States(tmp_path / "m" / "state")
    states.save("a-b", b"{}", 1)
    path = tmp_path / "m" / "state" / "a-b.json"
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert states.load("a-b") is None


def test_damaged_state_is_as_good_as_none_and_can_be_replaced(tmp_path: Path) -> None:
    states = States(tmp_path / "m" / "state")
    states.save("a-b", b'{"good": 1}', 7)
    path = tmp_path / "m" / "state" / "a-b.json"
    whole = path.read_bytes()
    for wrong in (b"", whole[:20], whole.replace(b"good", b"evil"), b"[]", b"{}", b"\xff"):
        path.write_bytes(wrong)
        assert states.load("a-b") is None
        assert states.save("a-b", b'{"good": 2}', 1)
        assert states.load("a-b") == b'{"good": 2}'


def test_of_many_processes_that_come_to_one_state_the_first_writes_it(tmp_path: Path) -> None:
    states = States(tmp_path / "m" / "state")
    assert states.save("web-prod", b"{}", 1)
    file = tmp_path / "m" / "state" / "web-prod.json"
    written = file.stat()
    with exclusive(file.with_suffix(".lock-file")):  # nobody waits for a lock to find that nothing is left to do
        assert States(tmp_path / "m" / "state").save("web-prod", b"{}", 1)
    assert file.stat().st_ino == written.st_ino
    assert states.save("web-prod", b'{"in_use": 1}', 1)
    assert states.load("web-prod") == b'{"in_use": 1}'


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\0b"])
def test_a_state_name_cannot_leave_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(LivecfgError):
        States(tmp_path).save(name, b"{}", 1)


def test_a_mirror_that_is_just_being_made_holds_nothing_strange(repo: ConfigRepo, home: Path) -> None:
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        (mirror.folder / "mirror.git").mkdir()  # the thread that writes has begun, and the next fetch does not wait for it
        mirror._evict_strangers()
        assert mirror.notes == ()
        mirror.promote()
        (mirror.folder / "mirror.git" / "hooks").mkdir()
        mirror.fetch(None)
        assert "hooks" in mirror.notes[0]


def test_what_a_stranger_left_goes_with_the_next_revision_behind_it(repo: ConfigRepo, home: Path) -> None:
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        mirror.promote()
        (mirror.folder / "mirror.git" / "hooks").mkdir()
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert (candidate.tip, mirror.notes) == (tip, ())
        mirror.promote()
        assert "hooks" in mirror.notes[0]
        assert not (mirror.folder / "mirror.git" / "hooks").exists()
