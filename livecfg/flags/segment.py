"""Segments: lists of units as files of their own, one member to a line; `{"in": [{"var": "user.id"}, {"$ref": "segment:beta"}]}`.

`segments/beta.txt` is the segment `beta`. A line is a member as it stands; empty lines and lines that begin with `#` are none.
`$ref` is flagd's, so a document that names a segment stays one that flagd's schema takes; `livecfg flags export --flagd` writes
the members out. A rule keeps the members as a set: asking is one look-up, however many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livecfg.errors import RefusedError
from livecfg.flags.references import references
from livecfg.refusal import Code, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "segment:"
ENDING = ".txt"
MAX_MEMBERS = 1_000_000


class Segment:
    """A named set of texts; equal to what has the same name and the same `version` (the id of the file's bytes)."""

    __slots__ = ("members", "name", "version")

    def __init__(self, name: str, version: str, members: Iterable[str]) -> None:
        self.name = name
        self.version = version
        self.members = frozenset(members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segment) and (self.name, self.version) == (other.name, other.version)

    def __hash__(self) -> int:
        return hash(self.version)

    def __repr__(self) -> str:
        return f"Segment({self.name!r}, {self.version!r}, {len(self.members):,} members)"


def read_segment(data: bytes, path: str, version: str, most_bytes: int) -> Segment:
    """Read the file of a segment; its name is the file's.

    Raises:
        RefusedError: the first fault, with line and column: not UTF-8, white space around a member, characters that cannot
            be seen, a member that stands twice, too many of them.

    """
    if len(data) > most_bytes:
        raise _fault(path, 1, 1, f"{len(data):,} bytes; at most {most_bytes:,} are read")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _fault(path, line, 1, "expected UTF-8 text") from None
    lines = text.split("\n")
    members = [line for line in lines if line and line[0] != "#"]
    if not "".join(members).isprintable() or any(m != m.strip() for m in members):
        raise _unclean(path, lines)
    segment = Segment(path.rpartition("/")[2].removesuffix(ENDING), version, members)
    if len(segment.members) != len(members):
        raise _twice(path, lines)
    if len(members) > MAX_MEMBERS:
        raise _fault(path, 1, 1, f"{len(members):,} members; at most {MAX_MEMBERS:,} are read")
    return segment


def _unclean(path: str, lines: list[str]) -> RefusedError:
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        if line != line.strip():
            column = len(line) - len(line.lstrip()) or len(line.rstrip()) + 1
            return _fault(path, number, 1 if line[0].isspace() else column, "white space around a member", "remove it")
        odd = next((i for i, c in enumerate(line, 1) if not c.isprintable()), 0)
        if odd:
            return _fault(path, number, odd, "a character that cannot be seen", "write members in printable text")
    raise AssertionError("a fault that is on no line")


def _twice(path: str, lines: list[str]) -> RefusedError:
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line and line[0] != "#" and first.setdefault(line, number) != number:
            return _fault(path, number, 1, f"the member of line {first[line]} stands here again", "remove one of them")
    raise AssertionError("a fault that is on no line")


def _fault(path: str, line: int, column: int, message: str, advice: str = "") -> RefusedError:
    return RefusedError(Refusal(Code.SEGMENT_INVALID, message, path=path, line=line, column=column, advice=advice))


def named(rule: Any, segments: Mapping[str, Segment]) -> dict[str, Segment]:
    """Give the segments that a rule, or a whole document, names, by the name of the reference."""
    return {name: segments[name] for name in references(rule) if name in segments}
