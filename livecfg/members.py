"""Members: the entries of one mapping in a JSON document, by place; of a later version only those whose text differs are read.

`read_members` is `document.read`, and remembers where each entry stands. `edited` compares the text of the next version with that
of the last: what both begin and end with was read before, between the same tokens. The entries that lie, or partly lie, between
them are read by the same strict parser and must end where the common end begins; from there it would go on as it did before.
Whatever is not as plain as that, and whatever has a fault, gives None: read all of it.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.document import (
    JSON,
    LIMITS,
    Document,
    DocumentLimits,
    JsonFaultError,
    bound_json,
    decoded,
    is_shallow,
    most_values,
    no_surrogates,
    read,
)
from livecfg.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*+)"[ \t\n\r]*:[ \t\n\r]*')
_OPEN, _COMMA, _CLOSE = (re.compile(rf"[ \t\n\r]*{mark}") for mark in (r"\{", ",", r"\}"))
_END = re.compile(r"[ \t\n\r]*\Z")
_FEW = 32
"""Fewer entries are read whole: remembering them costs more than it saves."""


class _NotPlainError(Exception):
    """A text that is to be read whole."""


class Members(NamedTuple):
    """The text of a document, and where each entry of its mapping stands: from the quote of the key to the end of the value."""

    text: str
    values: int
    """How many values it holds at most."""
    limits: DocumentLimits
    rest: dict[str, Any]
    """What else stands at the root of the document."""
    keys: Sequence[str]
    starts: array[int]
    ends: array[int]


class Edit(NamedTuple):
    """The next version: its entries, and the values of those that were read anew."""

    members: Members
    fresh: dict[str, Any]


def read_members(data: bytes, path: str, name: str, limits: DocumentLimits = LIMITS) -> tuple[Document, Members | None]:
    """Read a document strictly; give the entries of the mapping `name` at its root, where it is JSON and has many of them.

    Raises:
        RefusedError: as `document.read` does.

    """
    if not path.endswith(".json"):
        return read(data, path, limits), None
    text = decoded(data, path, limits)
    bound_json(text, path, limits)
    try:
        root, found = _whole(text, name)
        if "\\u" in text:
            no_surrogates(root, path)
    except (_NotPlainError, JsonFaultError, ValueError, RefusedError):
        return read(data, path, limits), None
    if len(found.keys) < _FEW:
        return Document(path, data, root), None
    rest = {key: value for key, value in root.items() if key != name}
    return Document(path, data, root), Members(text, most_values(text), limits, rest, found.keys, found.starts, found.ends)


def edited(before: Members, data: bytes, path: str, limits: DocumentLimits) -> Edit | None:
    """Read what differs in the next version of a document; None where all of it must be read."""
    try:
        text = decoded(data, path, limits)
        return _edited(before, text, path) if limits == before.limits else None
    except (_NotPlainError, JsonFaultError, ValueError, RefusedError):
        return None


class _Found:
    """The entries met so far."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.starts, self.ends = array("L"), array("L")
        self.values: list[Any] = []

    def entry(self, text: str, at: int) -> int:
        """Read one entry; give where it ends."""
        match = _KEY.match(text, at)
        if match is None:
            raise _NotPlainError
        value, end = JSON.raw_decode(text, match.end())
        self.keys.append(match[1])
        self.starts.append(match.start(1) - 1)
        self.ends.append(end)
        self.values.append(value)
        return end

    def mapping(self) -> dict[str, Any]:
        made = dict(zip(self.keys, self.values, strict=True))
        if len(made) < len(self.keys):
            raise _NotPlainError
        return made


def _whole(text: str, name: str) -> tuple[dict[str, Any], _Found]:
    """Read a whole document whose root is a mapping with the mapping `name` in it."""
    root, inner = dict[str, Any](), _Found()
    at = _past(_OPEN, text, 0)
    while True:
        match = _KEY.match(text, at)
        if match is None or match[1] in root:
            raise _NotPlainError
        if match[1] == name:
            at = _entries(text, _past(_OPEN, text, match.end()), inner)
            root[name] = inner.mapping()
        else:
            root[match[1]], at = JSON.raw_decode(text, match.end())
        comma = _COMMA.match(text, at)
        if comma is None:
            break
        at = comma.end()
    _past(_END, text, _past(_CLOSE, text, at))
    if name not in root:
        raise _NotPlainError
    return root, inner


def _entries(text: str, at: int, found: _Found) -> int:
    at = found.entry(text, at)
    while (comma := _COMMA.match(text, at)) is not None:
        at = found.entry(text, comma.end())
    return _past(_CLOSE, text, at)


def _past(mark: re.Pattern[str], text: str, at: int) -> int:
    match = mark.match(text, at)
    if match is None:
        raise _NotPlainError
    return match.end()


def _edited(before: Members, text: str, path: str) -> Edit | None:
    old, shift = before.text, len(text) - len(before.text)
    same = _common_beginning(old, text)
    tail = _common_end(old, text, min(len(old), len(text)) - same)
    first, last = bisect_right(before.starts, same) - 1, bisect_left(before.ends, len(old) - tail)
    if first < 0 or last == len(before.ends):
        return None
    at, end = before.starts[first], before.ends[last] + shift
    if 2 * (end - at) > len(text):  # reading all takes little longer, and would come on top where this is refused
        return None
    part = text[at:end]
    values = before.values + most_values(part) - most_values(old[at : before.ends[last]])
    if values > before.limits.nodes or not is_shallow(part, before.limits.depth - 2):
        return None
    found = _Found()
    at = found.entry(text, at)
    while at < end:
        at = found.entry(text, _past(_COMMA, text, at))
    if at != end:
        return None
    fresh = found.mapping()
    keys = [*before.keys[:first], *found.keys, *before.keys[last + 1 :]]
    if len(fresh.keys() - before.keys[first : last + 1]) and len(set(keys)) < len(keys):
        return None
    if "\\u" in part:
        no_surrogates(fresh, path)
    starts = before.starts[:first] + found.starts + _shifted(before.starts[last + 1 :], shift)
    ends = before.ends[:first] + found.ends + _shifted(before.ends[last + 1 :], shift)
    return Edit(before._replace(text=text, values=values, keys=keys, starts=starts, ends=ends), fresh)


def _shifted(places: array[int], by: int) -> array[int]:
    return array("L", [place + by for place in places]) if by else places


def _common_beginning(one: str, other: str) -> int:
    """How many characters both begin with alike, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one.startswith(other[low:middle], low) else (low, middle - 1)
    return low


def _common_end(one: str, other: str, most: int) -> int:
    """How many characters, up to `most`, both end with alike."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        alike = one.startswith(other[len(other) - middle : len(other) - low], len(one) - middle)
        low, high = (middle, high) if alike else (low, middle - 1)
    return low
