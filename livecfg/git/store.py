"""Store: the bare repository on disk, and the only place that writes it.

Every file is written beside its name, fsynced, renamed, and its folder fsynced, so a kill at any instruction leaves either the
old or the new file, and temporary files that `lock.sweep` knows. Reading re-hashes and never follows alternates, grafts,
replace refs or `shallow`. Only the elected fetcher may write.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import threading
import time
import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from dulwich.pack import write_pack_index_v2

from livecfg.errors import CorruptObjectError, FetchError, MissingObjectError
from livecfg.git.diskpack import DamagedPackError, DiskPack
from livecfg.git.faults import explain, raise_shortage, translating
from livecfg.git.files import fsync_folder, read_first, write_file, write_new
from livecfg.git.graph import bottom_up
from livecfg.git.pack import KINDS, Entry, deflate, object_id, write_pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from livecfg.git.pack import Content
    from livecfg.revision import Kind

log = logging.getLogger(__name__)

TIP = "refs/livecfg/tip"
LOOSE_MOST = 64
"""Up to so many new objects are written one by one; more go into a pack."""

_GONE_MOST, _GONE_S = 16, 60.0
_REF_BYTES = 4096
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What says that there is no such file. No other error does, above all not that no file can be opened just now."""
_TICK_NS = 1_000_000_000
_HEX = frozenset("0123456789abcdef")


def config_of(id_length: int) -> bytes:
    """Give the config of a mirror. Nobody but livecfg may maintain it: gc beside a fetch loses commits."""
    form = "\trepositoryformatversion = 1\n" if id_length == 64 else "\trepositoryformatversion = 0\n"
    extension = "[extensions]\n\tobjectformat = sha256\n" if id_length == 64 else ""
    return f"[core]\n{form}\tbare = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n{extension}".encode()


def _is_id(name: str) -> bool:
    return len(name) in {40, 64} and _HEX.issuperset(name)


class Store:
    """Objects and the tip ref under one bare repository; `object_bytes` caps what is inflated for one read."""

    def __init__(self, path: Path, object_bytes: int, *, follow_alternates: bool = False) -> None:
        self.path = path
        self._object_bytes = object_bytes
        self._follow_alternates = follow_alternates
        self._others: list[Store] | None = None
        self._packs: dict[Path, DiskPack] = {}
        self._gone: list[tuple[float, DiskPack]] = []  # since when; another thread may be reading from them: closed later
        self._listed_ns = -1
        """When the folder of packs last changed, of those changes whose packs are open."""
        self._lock = threading.Lock()

    # -- reading --------------------------------------------------------------------------------------------------------

    def read(self, name: str) -> Content:
        """Give one object, re-hashed.

        Raises:
            MissingObjectError, CorruptObjectError: it is not there, or is not what its name says.

        """
        if not _is_id(name):
            raise MissingObjectError(name)
        found = self._loose(name)
        return found if found is not None else self._packed(name)

    def __contains__(self, name: str) -> bool:
        if not _is_id(name):
            return False
        if self._is_loose(name):  # some twelve times per revision
            return True
        with translating("looking for an object"):
            return self._find(name) is not None

    def _is_loose(self, name: str) -> bool:
        """Whether an object has a file of its own; asking costs a tenth of an open that fails."""
        return os.access(f"{self.path}/objects/{name[:2]}/{name[2:]}", os.F_OK)

    def _loose(self, name: str) -> Content | None:
        if not self._is_loose(name):
            return None
        try:
            stored = read_first(f"{self.path}/objects/{name[:2]}/{name[2:]}", self._object_bytes + 65536)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise_shortage(f"reading object {name}", error)  # not the object's fault: the mirror would be fetched anew
            raise CorruptObjectError(name, error.strerror or type(error).__name__) from error
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(stored, self._object_bytes + 64)
        except zlib.error as error:
            raise CorruptObjectError(name, "it cannot be inflated") from error
        if not stream.eof:
            raise CorruptObjectError(name, f"it is truncated or inflates to more than {self._object_bytes} bytes")
        head, nul, content = raw.partition(b"\0")
        kind, _, size = head.decode("latin-1").partition(" ")
        if not nul or size != str(len(content)) or kind not in KINDS.values():
            raise CorruptObjectError(name, "its header is malformed")
        return self._checked(name, kind, content)

    def _packed(self, name: str) -> Content:
        try:
            found = self._find(name)
            if found is None:
                return self._from_others(name)
            kind, content = found[0].read(found[1], self.read)
        except FetchError:
            raise
        except OSError as error:
            raise_shortage(f"reading object {name}", error)
            raise FetchError(f"reading object {name}: {explain(error)}") from error
        except Exception as error:
            raise CorruptObjectError(name, f"its pack cannot be read: {explain(error)}") from error
        return self._checked(name, kind, content)

    def _find(self, name: str) -> tuple[DiskPack, int] | None:
        """The pack that has an object and where; looks for new packs before giving up."""
        raw = bytes.fromhex(name)
        for pack in tuple(self._packs.values()):
            offset = pack.offset(raw)
            if offset is not None:
                return pack, offset
        for pack in self._open_new(len(raw)):
            offset = pack.offset(raw)
            if offset is not None:
                return pack, offset
        return None

    def _open_new(self, id_bytes: int) -> list[DiskPack]:
        """Open packs that have come, close those that have gone."""
        folder = self.path / "objects" / "pack"
        with self._lock:
            now_s = time.monotonic()
            while self._gone and (len(self._gone) > _GONE_MOST or now_s - self._gone[0][0] > _GONE_S):
                self._gone.pop(0)[1].close()
            changed_ns = _changed_ns(folder)
            if changed_ns == self._listed_ns:
                return []
            self._listed_ns = -1
            try:
                there = {folder / name for name in os.listdir(folder) if name.endswith(".idx")}  # noqa: PTH208 - on every miss
            except (FileNotFoundError, NotADirectoryError, PermissionError):  # the last: the mirror of another user
                there = set()
            for gone in [path for path in self._packs if path not in there]:
                self._gone.append((now_s, self._packs.pop(gone)))
            opened = []
            for path in sorted(there - self._packs.keys()):
                try:
                    pack = DiskPack(path, id_bytes, self._object_bytes)
                except FileNotFoundError:
                    continue  # replaced between the listing and now
                self._packs[path] = pack
                opened.append(pack)
            # Another pack may come within the same tick of the clock: only a change that is over is remembered.
            self._listed_ns = changed_ns if time.time_ns() - changed_ns > _TICK_NS else -1
            return opened

    def _from_others(self, name: str) -> Content:
        for other in self._alternates():
            try:
                return other.read(name)
            except MissingObjectError:
                continue
        raise MissingObjectError(name)

    def _alternates(self) -> list[Store]:
        """Other object folders that this one borrows from; never for a mirror."""
        if self._others is None:
            listed: list[Path] = []
            if self._follow_alternates:
                with suppress(*_NOT_THERE):
                    lines = (self.path / "objects" / "info" / "alternates").read_text().splitlines()
                    listed = [(self.path / "objects" / line).resolve() for line in lines if line and not line.startswith("#")]
            self._others = [Store(path.parent, self._object_bytes) for path in listed if path.name == "objects"]
        return self._others

    def _checked(self, name: str, kind: str, content: bytes) -> Content:
        if object_id(kind, content, len(name)) != name:
            raise CorruptObjectError(name, "its bytes do not hash to its name")
        return cast("Kind", kind), content

    def loose_path(self, name: str) -> Path:
        """Where a loose object's file is, if there is one."""
        return self.path / "objects" / name[:2] / name[2:]

    def loose_names(self) -> Iterator[str]:
        """Every loose object's name."""
        for folder in _names_in(self.path / "objects"):
            if len(folder) == 2 and _HEX.issuperset(folder):
                yield from (folder + name for name in _names_in(self.path / "objects" / folder) if _HEX.issuperset(name))

    def all_names(self) -> Iterator[str]:
        """The name of every object that can be found; unreadable packs are passed over."""
        seen = set(self.loose_names())
        yield from seen
        folder = self.path / "objects" / "pack"
        for index in (folder / name for name in _names_in(folder) if name.endswith(".idx")):
            id_bytes = 32 if len(index.stem) > 60 else 20
            try:
                pack = DiskPack(index, id_bytes, self._object_bytes)
            except (OSError, DamagedPackError) as error:
                raise_shortage(f"reading {index.name}", error)
                log.warning("%s is passed over: %s", index.name, explain(error))
                continue
            try:
                for name in pack.names():
                    if name not in seen:
                        seen.add(name)
                        yield name
            except DamagedPackError as error:
                log.warning("the rest of %s is passed over: %s", index.name, error)
            finally:
                pack.close()

    def pack_files(self) -> list[Path]:
        """The packs, by name."""
        return sorted((self.path / "objects" / "pack").glob("pack-*.pack"))

    def tip(self) -> str:
        """The commit the mirror's ref names, or an empty string; a damaged ref counts as none, as that of another user does.

        Raises:
            FetchError: it cannot be read just now.

        """
        with translating("reading the mirror's tip"), suppress(PermissionError):
            return self._ref(TIP)
        return ""

    def ref(self, full_ref: str) -> str:
        """The commit a ref names, loose before packed as in git; an empty string when there is none.

        Raises:
            FetchError: it cannot be read, which says nothing about whether it is there.

        """
        with translating(f"reading {full_ref}"):
            return self._ref(full_ref)

    def _ref(self, full_ref: str) -> str:
        try:
            # Bytes, not text: opening a file in a codec imports it, and a child forked meanwhile would wait for that import.
            found = read_first(f"{self.path}/{full_ref}", _REF_BYTES).strip()
        except _NOT_THERE:
            found = self._packed_ref(full_ref.encode())
        name = found.decode("ascii", "replace")
        return name if _is_id(name) else ""

    def _packed_ref(self, full_ref: bytes) -> bytes:
        wanted = b" " + full_ref + b"\n"
        try:
            with open(self.path / "packed-refs", "rb") as lines:  # noqa: PTH123 - at each look at a remote
                # One line at a time: whoever may push makes any number of refs.
                every = iter(partial(lines.readline, _REF_BYTES), b"")
                return next((line[: -len(wanted)] for line in every if line.endswith(wanted)), b"")
        except _NOT_THERE:
            return b""

    @property
    def open_packs(self) -> int:
        """How many packs are open, two descriptors each."""
        return len(self._packs) + len(self._gone) + sum(other.open_packs for other in self._others or ())

    def close(self) -> None:
        """Close every pack; the next read opens them anew."""
        with self._lock:
            packs, self._packs = [*self._packs.values(), *(pack for _, pack in self._gone)], {}
            self._gone, self._listed_ns = [], -1
        for pack in packs:
            pack.close()
        for other in self._others or ():
            other.close()

    # -- writing --------------------------------------------------------------------------------------------------------

    def create(self, id_length: int) -> None:
        """Make the repository if it is not there; what `git` needs to call it one."""
        for folder in ("objects/pack", "objects/info", "refs/livecfg", "refs/heads"):
            (self.path / folder).mkdir(parents=True, exist_ok=True, mode=0o755)
        if (self.path / "config").exists():
            return
        write_file(self.path / "config", config_of(id_length))
        write_file(self.path / "HEAD", b"ref: refs/heads/none\n")  # git accepts branches only; the tip is no branch

    def add(self, objects: Mapping[str, Content], pack: bytes, offsets: Mapping[str, int]) -> None:
        """Write objects: one by one when few, else as a pack; `pack` is used as it came when it stands alone."""
        if len(objects) <= LOOSE_MOST:
            self._add_each(objects)
            return
        id_length = len(next(iter(objects)))
        if offsets and pack:
            index = _index_of(pack, offsets)
            self.add_pack(pack, index)
        else:
            data, index = write_pack((Entry(name, kind, content) for name, (kind, content) in objects.items()), id_length, 1)
            self.add_pack(data, index)

    def _add_each(self, objects: Mapping[str, Content]) -> None:
        """Write all under temporary names, make them durable, then rename from the bottom up.

        What is there is there with all below it; and of many fsyncs in a row the first pays for the others.
        """
        missing = [name for name in bottom_up(objects) if not self.loose_path(name).exists()]
        written: list[tuple[Path, Path, int]] = []
        try:
            with translating("writing objects"):
                for name in missing:
                    target = self.loose_path(name)
                    target.parent.mkdir(exist_ok=True)
                    temporary = target.with_name(f"tmp_obj_{secrets.token_hex(6)}")
                    written.append((temporary, target, write_new(temporary, _loose(*objects[name]), 0o444)))
                for _, _, descriptor in written:
                    os.fsync(descriptor)
                for temporary, target, _ in written:
                    os.replace(temporary, target)  # noqa: PTH105 - the hot write path
        finally:
            for temporary, _, descriptor in written:
                os.close(descriptor)
                with suppress(OSError):  # gone when all went well
                    temporary.unlink()
        for folder in {target.parent for _, target, _ in written}:
            fsync_folder(folder)

    def add_pack(self, data: bytes, index: list[tuple[bytes, int, int]]) -> Path:
        """Write a pack and its index, the index last: a pack without one is invisible."""
        digest_length = 32 if len(index[0][0]) == 32 else 20
        checksum = data[-digest_length:]
        table = io.BytesIO()
        write_pack_index_v2(table, sorted(index), checksum)
        base = self.path / "objects" / "pack" / f"pack-{checksum.hex()}"
        write_file(base.with_suffix(".pack"), data, beside=f"tmp_pack_{secrets.token_hex(6)}", mode=0o444, sync_folder=False)
        write_file(base.with_suffix(".idx"), table.getvalue(), beside=f"tmp_idx_{secrets.token_hex(6)}", mode=0o444)
        return base.with_suffix(".pack")

    def set_tip(self, name: str) -> None:
        """Move the ref; objects must be on disk by now."""
        # Not beside the ref: git takes every file below refs/ for a ref.
        write_file(self.path / TIP, f"{name}\n".encode(), beside=f"../../incoming-{secrets.token_hex(6)}")


def _names_in(folder: Path) -> list[str]:
    """What a folder holds, in order; unlike with `glob`, one that cannot be opened is no empty one."""
    with translating(f"listing {folder.name}"), suppress(*_NOT_THERE):
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are what is wanted
    return []


def _changed_ns(folder: Path) -> int:
    """When something was put into a folder or taken out of it; 0 where there is none."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - on every miss
    except OSError:
        return 0


def _index_of(pack: bytes, offsets: Mapping[str, int]) -> list[tuple[bytes, int, int]]:
    """Index entries of a pack as it came from the wire: an entry ends where the next one begins."""
    ordered = sorted(offsets.items(), key=lambda item: item[1])
    ends = [offset for _, offset in ordered[1:]] + [len(pack) - len(bytes.fromhex(ordered[0][0]))]
    view = memoryview(pack)
    return [(bytes.fromhex(n), o, zlib.crc32(view[o:end])) for (n, o), end in zip(ordered, ends, strict=True)]


def _loose(kind: str, content: bytes) -> bytes:
    """The bytes of a loose object's file."""
    return deflate(b"%s %d\0" % (kind.encode(), len(content)) + content, 1)
