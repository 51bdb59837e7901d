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
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from dulwich.object_format import SHA1, SHA256
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import write_pack_index_v2

from livecfg.errors import CorruptObjectError, FetchError, MissingObjectError
from livecfg.git.faults import explain, translating
from livecfg.git.graph import bottom_up
from livecfg.git.pack import KINDS, Entry, object_id, write_pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dulwich.pack import Pack

    from livecfg.git.pack import Content
    from livecfg.revision import Kind

log = logging.getLogger(__name__)

TIP = "refs/livecfg/tip"
LOOSE_MOST = 64
"""Up to so many new objects are written one by one; more go into a pack (git-measured.md §0, 4)."""

_HEX = frozenset("0123456789abcdef")


class _Packs(DiskObjectStore):
    """dulwich's store, cut down to the packs of its own folder."""

    @property
    def alternates(self) -> list[object]:  # type: ignore[override]
        """None: another folder must not be able to feed this one (trust.md §9, 13)."""
        return []


class Store:
    """Objects and the tip ref under one bare repository; `object_bytes` caps what is inflated for one read."""

    def __init__(self, path: Path, object_bytes: int, *, follow_alternates: bool = False) -> None:
        self.path = path
        self._object_bytes = object_bytes
        self._kind = DiskObjectStore if follow_alternates else _Packs
        self._packs: dict[int, DiskObjectStore] = {}

    # -- reading --------------------------------------------------------------------------------------------------------

    def read(self, name: str) -> Content:
        """Give one object, re-hashed.

        Raises:
            MissingObjectError, CorruptObjectError: it is not there, or is not what its name says.

        """
        if len(name) not in {40, 64} or not _HEX.issuperset(name):
            raise MissingObjectError(name)
        found = self._loose(name)
        return found if found is not None else self._packed(name)

    def __contains__(self, name: str) -> bool:
        if (self.path / "objects" / name[:2] / name[2:]).exists():
            return True
        with translating("looking for an object"):
            return self._pack_store(len(name)).contains_packed(ObjectID(name.encode()))

    def _loose(self, name: str) -> Content | None:
        try:
            with open(f"{self.path}/objects/{name[:2]}/{name[2:]}", "rb") as file:  # noqa: PTH123 - the hot read path
                stored = file.read(self._object_bytes + 65536)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
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
            number, content = self._pack_store(len(name)).get_raw(ObjectID(name.encode()))
        except KeyError as error:
            raise MissingObjectError(name) from error
        except OSError as error:
            self.close()
            raise FetchError(f"reading object {name}: {explain(error)}") from error
        except Exception as error:
            # A pack that cannot be read (damaged, or replaced under us) and is gone when looked at anew means "missing".
            self.close()
            raise CorruptObjectError(name, f"its pack cannot be read ({type(error).__name__})") from error
        if len(content) > self._object_bytes:
            raise CorruptObjectError(name, f"it has {len(content)} bytes; at most {self._object_bytes} are read")
        return self._checked(name, KINDS.get(number, "?"), content)

    def _checked(self, name: str, kind: str, content: bytes) -> Content:
        if object_id(kind, content, len(name)) != name:
            raise CorruptObjectError(name, "its bytes do not hash to its name")
        return cast("Kind", kind), content

    def _pack_store(self, id_length: int) -> DiskObjectStore:
        store = self._packs.get(id_length)
        if store is None:
            form = SHA256 if id_length == 64 else SHA1
            store = self._packs[id_length] = self._kind(self.path / "objects", object_format=form)
        return store

    def loose_names(self) -> Iterator[str]:
        """Every loose object's name."""
        for folder in sorted((self.path / "objects").glob("[0-9a-f][0-9a-f]")):
            yield from (folder.name + file.name for file in sorted(folder.iterdir()) if _HEX.issuperset(file.name))

    def all_names(self) -> Iterator[str]:
        """The name of every object that can be found; unreadable packs are passed over."""
        seen = set(self.loose_names())
        yield from seen
        for form in (40, 64):
            try:
                packs = self._pack_store(form).packs
            except Exception:  # noqa: BLE001 - whatever is wrong with a damaged store must not stop its salvage
                log.debug("packs of ids of %d digits cannot be listed", form)
                continue
            for pack in packs:
                for name in _names_of(pack):
                    if len(name) == form and name not in seen:
                        seen.add(name)
                        yield name

    def pack_files(self) -> list[Path]:
        """The packs, by name."""
        return sorted((self.path / "objects" / "pack").glob("pack-*.pack"))

    def tip(self) -> str:
        """The commit the mirror's ref names, or an empty string; a damaged ref counts as none."""
        return self.ref(TIP)

    def ref(self, full_ref: str) -> str:
        """The commit a ref names, loose before packed as in git; an empty string when there is none."""
        try:
            text = (self.path / full_ref).read_text("ascii", "replace").strip()
        except OSError:
            text = self._packed_ref(full_ref)
        return text if len(text) in {40, 64} and _HEX.issuperset(text) else ""

    def _packed_ref(self, full_ref: str) -> str:
        try:
            lines = (self.path / "packed-refs").read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.partition(" ")[0] for line in lines if line.partition(" ")[2] == full_ref), "")

    def close(self) -> None:
        """Close every pack; the next read opens them anew."""
        stores, self._packs = list(self._packs.values()), {}
        for store in stores:
            store.close()

    # -- writing --------------------------------------------------------------------------------------------------------

    def create(self, id_length: int) -> None:
        """Make the repository if it is not there; what `git` needs to call it one."""
        for folder in ("objects/pack", "objects/info", "refs/livecfg", "refs/heads"):
            (self.path / folder).mkdir(parents=True, exist_ok=True, mode=0o755)
        if (self.path / "config").exists():
            return
        form = "\trepositoryformatversion = 1\n" if id_length == 64 else "\trepositoryformatversion = 0\n"
        extension = "[extensions]\n\tobjectformat = sha256\n" if id_length == 64 else ""
        # Nobody but livecfg may maintain the mirror: gc beside a fetch loses commits (git-measured.md §8).
        config = f"[core]\n{form}\tbare = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n{extension}"
        write_file(self.path / "config", config.encode())
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
        """Write from the bottom up and make each step durable before the next: what is there is there with all below it."""
        waiting: set[Path] = set()
        for name in bottom_up(objects):
            kind, content = objects[name]
            if kind != "blob":
                for folder in waiting:
                    fsync_folder(folder)
                waiting.clear()
            waiting.add(self._add_loose(name, kind, content))
        for folder in waiting:
            fsync_folder(folder)

    def _add_loose(self, name: str, kind: str, content: bytes) -> Path:
        folder = self.path / "objects" / name[:2]
        folder.mkdir(exist_ok=True)
        target = folder / name[2:]
        if not target.exists():
            body = zlib.compress(b"%s %d\0" % (kind.encode(), len(content)) + content, 1)
            write_file(target, body, beside=f"tmp_obj_{secrets.token_hex(6)}", mode=0o444, sync_folder=False)
        return folder

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


def _names_of(pack: Pack) -> list[str]:
    try:
        return [name.decode() for name in pack]
    except Exception:  # noqa: BLE001 - as in all_names
        log.debug("a pack's index cannot be read")
        return []


def _index_of(pack: bytes, offsets: Mapping[str, int]) -> list[tuple[bytes, int, int]]:
    """Index entries of a pack as it came from the wire: an entry ends where the next one begins."""
    ordered = sorted(offsets.items(), key=lambda item: item[1])
    ends = [offset for _, offset in ordered[1:]] + [len(pack) - len(bytes.fromhex(ordered[0][0]))]
    view = memoryview(pack)
    return [(bytes.fromhex(n), o, zlib.crc32(view[o:end])) for (n, o), end in zip(ordered, ends, strict=True)]


def write_file(path: Path, data: bytes, *, beside: str = "", mode: int = 0o644, sync_folder: bool = True) -> None:
    """Write a file whole: under the name `beside` (relative, same file system), fsync, rename, fsync of the folder.

    Raises:
        FetchError: the disk is full, read-only or out of order; nothing was replaced.

    """
    temporary = path.parent / (beside or f"incoming-{secrets.token_hex(6)}")
    try:
        with translating(f"writing {path.parent.name}/{path.name}"):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - from a descriptor
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)  # noqa: PTH105 - the hot write path
            if sync_folder:
                fsync_folder(path.parent)
    except FetchError:
        with suppress(OSError):
            temporary.unlink()
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    with translating(f"writing {folder.name}"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
