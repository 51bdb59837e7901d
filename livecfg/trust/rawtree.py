"""RawTree: one raw Git tree and where its entries begin. An entry is made only when somebody asks for it.

A tree is split once, by one regular expression. A tree that follows a known one is split only where the two differ: the bytes
that both begin and end with are found by halving. Nothing is concluded from what bytes look like, since an id may look like
anything: each beginning was reached entry by entry from the beginning of the tree, or of a tree that is the same up to there,
and splitting meets the old tree again only at one of its own beginnings from which on all bytes are the same.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from weakref import ReferenceType

BLOB_MODE, TREE_MODE = "100644", "40000"
_FOLDER = b"40000"
# What is no entry takes all that is left: one failure, and no second try further on.
_ENTRY = {n: re.compile(rb"(([^ ]{0,6}) ([^\0]*+)\0.{%d})|.+" % n, re.DOTALL) for n in (20, 32)}
_OVERHEAD_BYTES = 400
_SCANNED_BYTES = 16 * 1024
"""Up to here reading all of a tree for one name is faster than halving it entry by entry, a few times so."""
_WINDOW_BYTES = 512
"""So many bytes are compared faster as two numbers than by further halving."""


class Entry(NamedTuple):
    """One entry of a tree: its mode as Git writes it, and the id of what it names."""

    mode: str
    id: str

    @property
    def is_tree(self) -> bool:
        """Whether it names another tree."""
        return self.mode == TREE_MODE

    @property
    def is_file(self) -> bool:
        """Whether it names a plain file. Only those are read: what a link to another repository names is never there."""
        return self.mode == BLOB_MODE


class TreeFaultError(Exception):
    """A tree that is malformed or breaks a rule; the text says which entry and why, `path` where, as far as that is known."""

    def __init__(self, text: str, path: str = "") -> None:
        self.path = path
        super().__init__(text)


class RawTree:
    """A tree whose entries are known to be whole and of different names; `is_clean` once somebody has checked more (tree.py)."""

    __slots__ = ("__weakref__", "_by_name", "_id_bytes", "_place", "_starts", "is_clean", "raw")

    def __init__(self, raw: bytes, id_bytes: int, starts: array[int], by_name: dict[bytes, int] | None) -> None:
        self.raw = raw
        self.is_clean = False
        self._id_bytes = id_bytes
        self._starts = starts  # and the end of the last entry
        self._by_name = by_name  # None where the order of the entries says it
        self._place: tuple[ReferenceType[RawTree], range, range] | None = None  # the tree it follows, and `beside` of the two

    @classmethod
    def split(cls, raw: bytes, id_bytes: int) -> RawTree:
        """Split a whole tree.

        Raises:
            TreeFaultError: it is malformed, or a name stands twice.

        """
        found = _ENTRY[id_bytes].findall(raw)
        starts = array("I", accumulate((len(entry) for entry, _, _ in found), initial=0))
        if starts[-1] != len(raw):
            raise TreeFaultError("a malformed tree")
        by_name: dict[bytes, int] = {}
        for index, (_, _, name) in enumerate(found):
            if by_name.setdefault(name, index) != index:
                raise TreeFaultError(f"the name {name.decode('utf-8', 'surrogateescape')!r} stands twice in a tree")
        return cls(raw, id_bytes, starts, None if _rises(_key(mode, name) for _, mode, name in found) else by_name)

    def follow(self, raw: bytes) -> RawTree:
        """Split a tree that is mostly this one; the same as `split`, whatever the two have in common.

        Raises:
            TreeFaultError: it is malformed, or a name stands twice.

        """
        found = self._spliced(raw) if self.is_canonical else None
        return found if found is not None else RawTree.split(raw, self._id_bytes)

    def _spliced(self, raw: bytes) -> RawTree | None:
        """The split of a tree with the places that this one has; None unless it is whole, of different names and in order."""
        parts = self._resplit(raw)
        if parts is None:
            return None
        first, last, middle = parts
        shift = len(raw) - len(self.raw)
        starts = self._starts
        if shift or middle != starts[first:last]:
            rest = starts[last:]
            starts = starts[:first] + middle + (array("I", [start + shift for start in rest]) if shift else rest)
        new = RawTree(raw, self._id_bytes, starts, None)
        new._place = ref(self), range(first, last), range(first, first + len(middle))
        if starts is self._starts and all(new._head(index) == self._head(index) for index in range(first, last)):
            return new  # nothing but ids, as nearly always: names and order are the known ones
        names = [new._name(index) for index in range(first, first + len(middle))]
        if names != [self._name(index) for index in range(first, last)]:
            places = [self._index(name) for name in names]
            if len(set(names)) < len(names) or any(at is not None and not first <= at < last for at in places):
                return None
        around = range(max(first - 1, 0), min(first + len(middle) + 1, len(new)))
        return new if _rises(map(new._key_at, around)) else None

    def _resplit(self, raw: bytes) -> tuple[int, int, array[int]] | None:
        """Which entries of this tree `raw` does not have in their place: from, up to; and where those in their place begin."""
        same = _common_beginning(raw, self.raw)
        first = bisect_right(self._starts, same) - 1
        position = self._starts[first]
        tail = _common_end(raw, self.raw, min(len(raw), len(self.raw)) - position)
        middle = array("I")
        while True:
            left = len(raw) - position
            if left <= tail:
                last = bisect_left(self._starts, len(self.raw) - left)
                if self._starts[last] == len(self.raw) - left:
                    return first, last, middle
            entry = _ENTRY[self._id_bytes].match(raw, position)
            if entry is None or not entry[1]:
                return None
            middle.append(position)
            position = entry.end()

    def beside(self, new: RawTree) -> tuple[range, range]:
        """Give the places, here and in another tree, that are not among the whole entries with which both begin and end."""
        if new._place is not None and new._place[0]() is self:
            return new._place[1:]
        first = bisect_right(self._starts, _common_beginning(self.raw, new.raw)) - 1
        tail = _common_end(self.raw, new.raw, min(len(self.raw), len(new.raw)) - self._starts[first])
        here, there = bisect_left(self._starts, len(self.raw) - tail), bisect_left(new._starts, len(new.raw) - tail)
        # What both end with may begin inside an entry of one of them: go on to where an entry of both begins.
        while (more := (len(self.raw) - self._starts[here]) - (len(new.raw) - new._starts[there])) != 0:
            here, there = (here + 1, there) if more > 0 else (here, there + 1)
        return range(first, here), range(first, there)

    # --- reading ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def is_canonical(self) -> bool:
        """Whether the entries stand in Git's order: by name, those of folders with a `/` behind."""
        return self._by_name is None

    @property
    def weight_bytes(self) -> int:
        """About how much memory it holds."""
        return len(self.raw) + 4 * len(self._starts) + _OVERHEAD_BYTES + (100 * len(self._by_name) if self._by_name else 0)

    def __getitem__(self, index: int) -> tuple[str, Entry]:
        """Name and entry at a place."""
        return self._name(index).decode("utf-8", "surrogateescape"), self._entry(index)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """Name and entry of all, in order."""
        return map(self.__getitem__, range(len(self)))

    def get(self, name: str) -> Entry | None:
        """Give the entry of a name."""
        index = self._index(name.encode("utf-8", "surrogateescape"))
        return None if index is None else self._entry(index)

    def _entry(self, index: int) -> Entry:
        start, end = self._starts[index], self._starts[index + 1]
        mode = self.raw[start : self.raw.find(b" ", start)]
        return Entry(mode.decode("latin-1"), self.raw[end - self._id_bytes : end].hex())

    def _index(self, name: bytes) -> int | None:
        if self._by_name is not None:
            return self._by_name.get(name)
        return self._scanned(name) if len(self.raw) <= _SCANNED_BYTES else self._halved(name)

    def _halved(self, name: bytes) -> int | None:
        places = range(len(self))
        at = bisect_left(places, name, key=self._key_at)
        if at < len(self) and self._name(at) == name:
            return at
        at = bisect_left(places, name + b"/", at, key=self._key_at)
        return at if at < len(self) and self._name(at) == name else None

    def _scanned(self, name: bytes) -> int | None:
        """Look for the bytes that an entry of this name has; only where an entry has its name they are one, elsewhere an id's."""
        sought, at = b" %s\0" % name, -1
        while (at := self.raw.find(sought, at + 1)) >= 0:
            index = bisect_right(self._starts, at) - 1
            if self.raw.find(b" ", self._starts[index]) == at and self._starts[index + 1] - self._id_bytes == at + len(sought):
                return index
        return None

    def _head(self, index: int) -> bytes:
        """Mode and name."""
        return self.raw[self._starts[index] : self._starts[index + 1] - self._id_bytes]

    def _name(self, index: int) -> bytes:
        start = self.raw.find(b" ", self._starts[index]) + 1
        return self.raw[start : self._starts[index + 1] - self._id_bytes - 1]

    def _key_at(self, index: int) -> bytes:
        start = self._starts[index]
        space = self.raw.find(b" ", start)
        return _key(self.raw[start:space], self.raw[space + 1 : self._starts[index + 1] - self._id_bytes - 1])


def _key(mode: bytes, name: bytes) -> bytes:
    """What Git orders the entries of a tree by."""
    return name + b"/" if mode == _FOLDER else name


def _rises(keys: Iterable[bytes]) -> bool:
    last = b""
    for key in keys:
        if key <= last:
            return False
        last = key
    return True


def _common_beginning(one: bytes, other: bytes) -> int:
    """How many bytes both begin with alike: halved down to a few, without copying, and then read as two numbers."""
    low, high = 0, min(len(one), len(other))
    if high > _WINDOW_BYTES:
        view = memoryview(other)
        while high - low > _WINDOW_BYTES:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if one.startswith(view[low:middle], low) else (low, middle - 1)
    differ = int.from_bytes(one[low:high]) ^ int.from_bytes(other[low:high])
    return high - (differ.bit_length() + 7) // 8


def _common_end(one: bytes, other: bytes, most: int) -> int:
    """How many bytes, up to `most`, both end with alike."""
    low, high = 0, most
    if high > _WINDOW_BYTES:
        view = memoryview(other)
        while high - low > _WINDOW_BYTES:
            middle = (low + high + 1) // 2
            alike = one.startswith(view[len(other) - middle : len(other) - low], len(one) - middle)
            low, high = (middle, high) if alike else (low, middle - 1)
    differ = int.from_bytes(one[len(one) - high : len(one) - low]) ^ int.from_bytes(other[len(other) - high : len(other) - low])
    return low + ((differ & -differ).bit_length() - 1) // 8 if differ else high
