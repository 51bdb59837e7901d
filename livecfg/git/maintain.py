"""Keeping a mirror small: loose objects and small packs become one pack, now and then, in a process of its own.

Thousands of loose files are slow to list and many packs slow to search; packing them takes a second of CPU that must not be taken
from the application. Nothing is ever dropped, reachable or not: an object's old file is removed only after the new pack, read
back and re-hashed, is durable. So fetching and reading may go on meanwhile, and a kill at any moment loses nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.errors import FetchError
from livecfg.git.diskpack import DiskPack
from livecfg.git.faults import translating
from livecfg.git.files import fsync_folder
from livecfg.git.pack import Entry, object_id, write_pack
from livecfg.git.store import Store

if TYPE_CHECKING:
    from livecfg.git.pack import Content

log = logging.getLogger(__name__)

LOOSE_MOST = 16
"""Files in one of the 256 folders of loose objects, so about 4,000 objects in all."""

PACKS_MOST = 16
_SMALL_PACK_BYTES = 8 * 1024 * 1024
EVERY_S = 600.0
"""At most so often, in seconds."""

_GRACE_S = 60.0
_OBJECT_BYTES = 64 * 1024 * 1024
_PROGRAM = (
    "import os, sys; sys.path[:] = sys.argv[3:]; from pathlib import Path; from livecfg.git.maintain import repack; "
    "os.nice(10); repack(Path(sys.argv[1]), int(sys.argv[2]))"
)


class Maintenance:
    """Packs one repository in a process of its own when it has grown."""

    def __init__(self, repository: Path, object_bytes: int) -> None:
        self._repository = repository
        self._object_bytes = object_bytes
        self.process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    def start_when_due(self) -> None:
        """Call it after each write."""
        now = time.monotonic()
        if now < self._not_before or (self.process is not None and self.process.poll() is None):
            return
        self.process = None
        if is_due(self._repository):
            self._not_before = now + EVERY_S
            try:
                self.process = start(self._repository, self._object_bytes)
            except FetchError as error:  # the mirror grows, that is all
                log.warning("%s", error)

    def stop(self) -> None:
        """What it does is safe to interrupt, and will be done another time."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def is_due(repository: Path) -> bool:
    """Tell whether there is enough to pack; looks at two folders only."""
    objects = repository / "objects"
    return _count(objects / "17") > LOOSE_MOST or _count(objects / "pack") > 2 * PACKS_MOST


def _count(folder: Path) -> int:
    try:
        return len(os.listdir(folder))  # noqa: PTH208 - after every fetch
    except OSError:
        return 0


def start(repository: Path, object_bytes: int) -> subprocess.Popen[bytes] | None:
    """Pack in a process of its own, or here where this interpreter cannot be started again (embedded Python)."""
    if "python" not in Path(sys.executable or "").name:
        repack(repository, object_bytes)
        return None
    words = [sys.executable, "-c", _PROGRAM, str(repository), str(object_bytes), *sys.path]
    null = subprocess.DEVNULL
    with translating("starting maintenance"):
        return subprocess.Popen(words, stdin=null, stdout=null, stderr=null, start_new_session=True)  # noqa: S603 - our own interpreter


def repack(repository: Path, object_bytes: int = _OBJECT_BYTES, grace_s: float = _GRACE_S) -> int:
    """Put loose objects older than `grace_s`, and packs that are no larger, into one pack; gives the number of objects packed.

    Raises:
        FetchError: the disk does not play along; everything is still there.

    """
    with translating("packing the mirror"):
        descriptor = os.open(repository / "maintenance", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0  # another one is at it
            return _repack(repository, object_bytes, grace_s)
        finally:
            os.close(descriptor)


def _repack(repository: Path, object_bytes: int, grace_s: float) -> int:
    store = Store(repository, object_bytes)
    try:
        oldest = time.time() - grace_s
        loose = {name: path for name in store.loose_names() if _age_before(path := store.loose_path(name), oldest)}
        small = _small_packs(store, sum(map(_size, loose.values())))
        found: dict[str, Content] = {}
        for name in [*loose, *_names(small, object_bytes)]:
            if name not in found:
                found[name] = store.read(name)
        if not found:
            return 0
        id_length = len(next(iter(found)))
        entries = (Entry(name, kind, content) for name, (kind, content) in sorted(found.items()))
        data, index = write_pack(entries, id_length)
        made = store.add_pack(data, index)
        _check(made, found, object_bytes)
        _remove([*loose.values(), *(p for p in small if p != made)])
        return len(found)
    finally:
        store.close()


def _age_before(path: Path, oldest: float) -> bool:
    try:
        return path.stat().st_mtime <= oldest
    except OSError:
        return False


def _small_packs(store: Store, size_bytes: int) -> list[Path]:
    """Packs worth merging into one of that size, each no larger than what goes in before it: so sizes double from pack to pack.

    Every process of the host has each of them open. When there are too many all the same, all the small ones.
    """
    packs = [path for path in store.pack_files() if path.with_suffix(".idx").exists()]
    small = sorted((size, path) for path in packs if (size := _size(path)) <= _SMALL_PACK_BYTES)
    if len(packs) > PACKS_MOST:
        return [path for _, path in small]
    merged: list[Path] = []
    for size, path in small:
        if size > size_bytes:
            break
        merged.append(path)
        size_bytes += size
    return merged


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _names(packs: list[Path], object_bytes: int) -> list[str]:
    names: list[str] = []
    for path in packs:
        pack = DiskPack(path.with_suffix(".idx"), 32 if len(path.stem) > 60 else 20, object_bytes)
        try:
            names.extend(pack.names())
        finally:
            pack.close()
    return names


def _check(made: Path, wanted: dict[str, Content], object_bytes: int) -> None:
    """Read the new pack back before anything is removed for it."""
    id_length = len(next(iter(wanted)))
    pack = DiskPack(made.with_suffix(".idx"), id_length // 2, object_bytes)
    try:
        for name in wanted:
            offset = pack.offset(bytes.fromhex(name))
            if offset is None or object_id(*pack.read(offset, lambda base: wanted[base]), id_length) != name:
                raise OSError(f"the new pack does not give back {name}")
    finally:
        pack.close()


def _remove(paths: list[Path]) -> None:
    """Remove what the new pack holds; a pack's index goes first, so that no index is left without its pack."""
    for path in paths:
        with suppress(FileNotFoundError):
            if path.suffix == ".pack":
                path.with_suffix(".idx").unlink()
            path.unlink()
    for folder in {path.parent for path in paths}:
        fsync_folder(folder)
