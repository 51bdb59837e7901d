"""Reading a pack in memory under caps, and writing one: the quarantine of what comes from outside.

Nothing touches the disk. Every object is inflated with a bound, its deltas resolved with a bound, and hashed by us; what comes
out is a dict of id → (kind, content) that can be judged before it is kept. Thin packs are completed through `base`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from dulwich.pack import apply_delta

from livecfg.errors import FetchError, MissingObjectError
from livecfg.git.faults import over_limit, translating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livecfg.git.source import Limits
    from livecfg.revision import Kind

    Content = tuple[Kind, bytes]
    Base = Callable[[str], Content]

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
KINDS: dict[int, str] = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}
NUMBERS = {name: number for number, name in KINDS.items()}


def object_id(kind: str, content: bytes, id_length: int = 40) -> str:
    """The Git id of an object: SHA-1 for ids of 40 hex digits, SHA-256 for 64."""
    header = b"%s %d\0" % (kind.encode(), len(content))
    if id_length == 64:
        return hashlib.sha256(header + content).hexdigest()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class _Delta:
    offset: int
    base_offset: int
    base_id: str
    data: bytes


@dataclass(slots=True)
class PackReader:
    """Reads one pack. `id_length` is 40 or 64; `base` gives objects the pack's deltas refer to but does not hold."""

    data: bytes
    limits: Limits
    base: Base
    id_length: int = 40
    objects: dict[str, Content] = field(default_factory=dict)
    self_contained: bool = True
    offsets: dict[str, int] = field(default_factory=dict)
    _inflated: int = 0
    _by_offset: defaultdict[int, list[_Delta]] = field(default_factory=lambda: defaultdict(list))
    _by_id: defaultdict[str, list[_Delta]] = field(default_factory=lambda: defaultdict(list))

    def read(self) -> dict[str, Content]:
        """Give every object of the pack.

        Raises:
            FetchError: it is malformed, truncated, over a cap, or a delta has no base.

        """
        with translating("reading the pack"):
            return self._read()

    def _read(self) -> dict[str, Content]:
        data, digest = self.data, self.id_length // 2
        if len(data) > self.limits.wire_bytes:
            raise over_limit(f"the pack has {len(data)} bytes", self.limits.wire_bytes, "wire_bytes")
        count = check_header(data, self.limits)
        end = len(data) - digest
        hasher = hashlib.sha256() if digest == 32 else hashlib.sha1(usedforsecurity=False)
        hasher.update(memoryview(data)[: max(end, 0)])
        if end < 12 or hasher.digest() != data[end:]:
            raise FetchError("the pack is truncated or damaged: its checksum does not match")
        position = 12
        whole: list[tuple[int, str, bytes]] = []
        for _ in range(count):
            position = self._entry(position, end, whole)
        if position != end:
            raise FetchError(f"the pack has {end - position} bytes after its last object")
        for offset, kind, content in whole:
            self._add(offset, kind, content)
        self._complete_thin()
        return self.objects

    def _entry(self, position: int, end: int, whole: list[tuple[int, str, bytes]]) -> int:
        """Read one entry: a whole object goes to `whole`, a delta waits for its base; gives the position after it."""
        start, data = position, self.data
        kind, size, position = entry_header(data, position)
        base_offset, base_id = -1, ""
        if kind == OFS_DELTA:
            back, position = offset_back(data, position)
            base_offset = start - back
            if back <= 0 or base_offset < 12:
                raise FetchError("the pack has a delta whose base lies outside it")
        elif kind == REF_DELTA:
            base_id = data[position : position + self.id_length // 2].hex()
            position += self.id_length // 2
        elif kind not in KINDS:
            raise FetchError(f"the pack has an entry of unknown type {kind}")
        content, position = self._inflate(position, end, size)
        if kind in KINDS:
            whole.append((start, KINDS[kind], content))
        elif base_id:
            self._by_id[base_id].append(_Delta(start, -1, base_id, content))
        else:
            self._by_offset[base_offset].append(_Delta(start, base_offset, "", content))
        return position

    def _inflate(self, position: int, end: int, size: int) -> tuple[bytes, int]:
        if size > self.limits.object_bytes:
            raise over_limit(f"an object has {size} bytes", self.limits.object_bytes, "object_bytes")
        self._account(size)
        stream = zlib.decompressobj()
        parts: list[bytes] = []
        got, step = 0, size + (size >> 10) + 64  # a deflate stream is hardly ever longer than that
        view = memoryview(self.data)
        while not stream.eof:
            if position >= end:
                raise FetchError("the pack ends inside an object")
            chunk = view[position : min(position + step, end)]
            part = stream.decompress(chunk, size - got + 1)
            got += len(part)
            parts.append(part)
            position += len(chunk) - len(stream.unused_data) - len(stream.unconsumed_tail)
            if got > size:
                raise FetchError(f"an object inflates to more than the {size} bytes it declares")
        if got != size:
            raise FetchError(f"an object inflates to {got} bytes; expected {size}")
        return b"".join(parts), position

    def _account(self, size: int) -> None:
        self._inflated += size
        if self._inflated > self.limits.inflated_bytes:
            raise over_limit("the pack inflates to more bytes than allowed", self.limits.inflated_bytes, "inflated_bytes")

    def _add(self, offset: int, kind: str, content: bytes) -> None:
        """Keep an object and every delta that was waiting for it, without recursion."""
        work = [(offset, kind, content, 0)]
        while work:
            offset, kind, content, depth = work.pop()
            if depth > self.limits.delta_depth:
                raise over_limit(f"a delta chain is {depth} deep", self.limits.delta_depth, "delta_depth")
            name = object_id(kind, content, self.id_length)
            self.objects[name] = (cast("Kind", kind), content)
            self.offsets[name] = offset
            waiting = (*self._by_offset.pop(offset, ()), *self._by_id.pop(name, ()))
            work.extend((delta.offset, kind, self._apply(content, delta.data), depth + 1) for delta in waiting)

    def _complete_thin(self) -> None:
        """Resolve deltas against objects we already have (a thin pack)."""
        while self._by_id:
            name = next(iter(self._by_id))
            try:
                kind, content = self.base(name)
            except MissingObjectError as error:
                raise FetchError(f"the pack has a delta on {name}, which is neither in it nor in the mirror") from error
            self.self_contained = False
            for delta in self._by_id.pop(name):
                self._add(delta.offset, kind, self._apply(content, delta.data))
        if self._by_offset:
            raise FetchError("the pack has a delta whose base is no object of it")

    def _apply(self, base: bytes, delta: bytes) -> bytes:
        size = delta_size(delta)
        if size > self.limits.object_bytes:
            raise over_limit(f"an object has {size} bytes", self.limits.object_bytes, "object_bytes")
        self._account(size)
        return b"".join(apply_delta(base, delta))


def check_header(data: bytes | bytearray, limits: Limits) -> int:
    """Give the object count of a pack from its first 12 bytes, checked against the caps."""
    if len(data) < 12 or data[:4] != b"PACK":
        raise FetchError(f"expected a pack, got {len(data)} bytes of something else")
    version, count = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
    if version != 2:
        raise FetchError(f"expected a pack of version 2, got version {version}")
    if count > limits.objects:
        raise over_limit(f"the pack has {count} objects", limits.objects, "objects")
    return count


def entry_header(data: bytes, position: int) -> tuple[int, int, int]:
    """(type, inflated size, position after it) of the entry at a position."""
    byte = data[position]
    kind, size, shift = (byte >> 4) & 7, byte & 15, 4
    position += 1
    while byte & 0x80:
        if shift > 60:
            raise FetchError("the pack declares an object of absurd size")
        byte = data[position]
        size |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return kind, size, position


def offset_back(data: bytes, position: int) -> tuple[int, int]:
    """(how far back the base lies, position after it) of an OFS_DELTA entry."""
    byte = data[position]
    value = byte & 0x7F
    position += 1
    while byte & 0x80:
        if value > 1 << 50:
            raise FetchError("the pack has a delta with an absurd offset")
        byte = data[position]
        value = ((value + 1) << 7) | (byte & 0x7F)
        position += 1
    return value, position


def delta_size(delta: bytes) -> int:
    """The size of what a delta makes."""
    _, position = _varint(delta, 0)
    return _varint(delta, position)[0]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if shift > 60:
            raise FetchError("the pack has a delta of absurd size")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if not byte & 0x80:
            return value, position


@dataclass(frozen=True, slots=True)
class Entry:
    """One object to put into a pack; with `delta_on`, `content` is a delta on that object."""

    name: str
    kind: str
    content: bytes
    delta_on: str = ""


def write_pack(entries: Iterable[Entry], id_length: int = 40, level: int = -1) -> tuple[bytes, list[tuple[bytes, int, int]]]:
    """Give the bytes of a pack and, per entry, (raw id, offset, CRC-32) as an index wants them."""
    listed = list(entries)
    parts = [b"PACK" + (2).to_bytes(4) + len(listed).to_bytes(4)]
    index: list[tuple[bytes, int, int]] = []
    position = 12
    for entry in listed:
        number = REF_DELTA if entry.delta_on else NUMBERS[entry.kind]
        head = _packed_header(number, len(entry.content)) + bytes.fromhex(entry.delta_on)
        body = head + deflate(entry.content, level)
        index.append((bytes.fromhex(entry.name), position, zlib.crc32(body)))
        parts.append(body)
        position += len(body)
    whole = b"".join(parts)
    digest = hashlib.sha256(whole) if id_length == 64 else hashlib.sha1(whole, usedforsecurity=False)
    return whole + digest.digest(), index


def deflate(content: bytes, level: int) -> bytes:
    """Compress with a window no larger than the content: the tables of a full one cost four times as much as a small object."""
    return zlib.compress(content, level, max(9, min(15, len(content).bit_length())))


def _packed_header(number: int, size: int) -> bytes:
    byte = (number << 4) | (size & 15)
    size >>= 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    out.append(byte)
    return bytes(out)
