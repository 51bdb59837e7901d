"""Reading packs on disk: an index of version 2 and the pack beside it, by `pread` only.

No memory map, so that a file cut short under us is an error and not a SIGBUS in the host application; no shared file position,
so threads and forked children may read through the same descriptor.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from dulwich.pack import apply_delta

from livecfg.git.pack import KINDS, OFS_DELTA, REF_DELTA, delta_size, entry_header, offset_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_TABLE = 8 + 1024
_FIRST_BYTES = 4096
"""What one call reads of an entry: most are whole in it, and another call costs more than the bytes."""
_SMALL_INDEX_BYTES = 64 * 1024
"""An index of some two thousand objects at most is kept: each look into it on disk takes two calls."""
_DEPTH_MOST = 4096
_BASES_BYTES = 4 * 1024 * 1024


class DamagedPackError(ValueError):
    """The pack or its index is not what it should be."""


class DiskPack:
    """One pack; opened at once, closed by `close`. `id_bytes` is 20 or 32, `object_bytes` caps what one read inflates."""

    def __init__(self, index: Path, id_bytes: int, object_bytes: int) -> None:
        self.index = index
        self._id_bytes = id_bytes
        self._object_bytes = object_bytes
        self._descriptors: list[int] = []
        self._bases: dict[int, tuple[str, bytes]] = {}
        self._base_bytes = 0
        self._small_index = b""
        try:
            for path in (index, index.with_suffix(".pack")):
                self._descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            self._fanout = self._read_fanout()
            if os.fstat(self._descriptors[0]).st_size <= _SMALL_INDEX_BYTES:
                self._small_index = os.pread(self._descriptors[0], _SMALL_INDEX_BYTES, 0)
        except BaseException:
            self.close()
            raise
        self._count = self._fanout[255]

    def _read_fanout(self) -> list[int]:
        head = os.pread(self._descriptors[0], _TABLE, 0)
        if head[:8] != _MAGIC or len(head) != _TABLE:
            raise DamagedPackError(f"{self.index.name} is no pack index of version 2")
        return [int.from_bytes(head[8 + 4 * n : 12 + 4 * n]) for n in range(256)]

    def close(self) -> None:
        """Close both files."""
        self._bases.clear()
        self._small_index = b""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def names(self) -> Iterator[str]:
        """Every id the index lists."""
        for first in range(0, self._count, 4096):
            block = self._from_index(_TABLE + first * self._id_bytes, min(4096, self._count - first) * self._id_bytes)
            yield from (block[at : at + self._id_bytes].hex() for at in range(0, len(block), self._id_bytes))

    def offset(self, name: bytes) -> int | None:
        """Where the object with this raw id begins in the pack, or None."""
        size = self._id_bytes
        low, high = self._fanout[name[0] - 1] if name[0] else 0, self._fanout[name[0]]
        if not low < high <= self._count:
            return None
        bucket = self._from_index(_TABLE + low * size, (high - low) * size)
        at = bucket.find(name)
        while at >= 0 and at % size:
            at = bucket.find(name, at + 1)
        if at < 0:
            return None
        table = _TABLE + self._count * (size + 4)
        found = int.from_bytes(self._from_index(table + 4 * (low + at // size), 4))
        if found & 0x80000000:
            found = int.from_bytes(self._from_index(table + 4 * self._count + 8 * (found & 0x7FFFFFFF), 8))
        return found

    def read(self, offset: int, elsewhere: Callable[[str], tuple[str, bytes]]) -> tuple[str, bytes]:
        """Give kind and content of the object at an offset; `elsewhere` reads a delta's base by id.

        Raises:
            DamagedPackError, OSError, zlib.error, ApplyDeltaError: it cannot be read.

        """
        deltas: list[tuple[int, bytes]] = []
        taken = 0
        while True:
            known = self._bases.get(offset)
            if known is not None:
                name, content = known
                break
            kind, base, content = self._entry(offset)
            if kind in KINDS:
                name = KINDS[kind]
                if deltas:
                    self._keep(offset, name, content)
                break
            deltas.append((offset, content))
            taken += len(content)
            if len(deltas) > _DEPTH_MOST or taken > 4 * self._object_bytes:
                raise DamagedPackError("a delta chain is too long")
            if isinstance(base, int):
                offset = base
                continue
            inside = self.offset(base)
            if inside is None:
                name, content = elsewhere(base.hex())
                break
            offset = inside
        while deltas:
            offset, delta = deltas.pop()
            if delta_size(delta) > self._object_bytes:
                raise DamagedPackError("an object is bigger than allowed")
            content = b"".join(apply_delta(content, delta))
            if deltas:
                self._keep(offset, name, content)
        return name, content

    def _keep(self, offset: int, kind: str, content: bytes) -> None:
        """Remember a delta's base: its neighbours in the pack are mostly deltas on it too."""
        self._base_bytes += len(content)
        if self._base_bytes > _BASES_BYTES:
            self._bases.clear()
            self._base_bytes = len(content)
        self._bases[offset] = (kind, content)

    def _entry(self, offset: int) -> tuple[int, int | bytes, bytes]:
        """(type, base offset or raw base id, inflated bytes) of one entry."""
        head = self._from_pack(offset, _FIRST_BYTES)
        try:
            kind, size, at = entry_header(head, 0)
            base: int | bytes = -1
            if kind == OFS_DELTA:
                back, at = offset_back(head, at)
                base = offset - back
                if back <= 0 or base < 12:
                    raise DamagedPackError("a delta's base lies outside the pack")
            elif kind == REF_DELTA:
                base = head[at : at + self._id_bytes]
                at += self._id_bytes
            elif kind not in KINDS:
                raise DamagedPackError(f"an entry has the unknown type {kind}")
        except IndexError as error:
            raise DamagedPackError("the pack ends inside an entry") from error
        if size > self._object_bytes:
            raise DamagedPackError("an object is bigger than allowed")
        return kind, base, self._inflated(offset + len(head), size, head[at:])

    def _inflated(self, offset: int, size: int, chunk: bytes) -> bytes:
        """Inflate an object whose compressed bytes are `chunk` and what stands in the pack from `offset` on."""
        stream = zlib.decompressobj()
        content = stream.decompress(chunk, size + 1)
        if stream.eof and len(content) == size:
            return content
        parts, got = [content], len(content)
        step = size + (size >> 10) + 64
        while not stream.eof and got <= size:
            chunk = self._from_pack(offset, step)
            if not chunk:
                raise DamagedPackError("the pack ends inside an object")
            parts.append(stream.decompress(chunk, size - got + 1))
            got += len(parts[-1])
            offset += len(chunk)
        if got != size:
            raise DamagedPackError("an object has another size than it declares")
        return b"".join(parts)

    def _from_index(self, offset: int, size: int) -> bytes:
        data = self._small_index[offset : offset + size] or os.pread(self._descriptors[0], size, offset)
        if len(data) != size:
            raise DamagedPackError(f"{self.index.name} is truncated")
        return data

    def _from_pack(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptors[1], size, offset)
