"""Layout: where the keys, values and comments of a YAML text stand, for edits of the text itself.

A comment belongs to a mapping or a list, and is encrypted under the keys above that: one at the end of a line to what holds that
line's value, one on a line of its own to what holds the next key or item, or, where it is indented deeper, to what it ends.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livecfg.sops import is_comment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Keys = tuple[str, ...]
_HEADER = re.compile(r"[|>][-+0-9]*[ \t]+#(.*)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value, or an item of a list; `keys` are those above the value, `container` those above what holds it."""

    start: int
    column: int
    loc: tuple[str | int, ...]
    keys: Keys
    container: Keys
    key: Any  # the node; None for an item
    value: Any
    flow: bool


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, from its `#` to the end of its line; `text` is without the `#`."""

    start: int
    end: int
    text: str
    column: int
    own_line: bool


class Layout:
    """The entries of a well-formed document with a mapping at its root, and its comments, in their order."""

    def __init__(self, text: str) -> None:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.text = text
        root: Any = yaml.compose(text, Loader=loader)
        self.flow = bool(root.flow_style)
        self.column = root.start_mark.column
        self.end = root.end_mark.index
        self.entries = list(_entries(root, (), (), flow=self.flow))
        self._starts = [entry.start for entry in self.entries]
        self._dropped: dict[tuple[str | int, ...], list[int]] = {}
        for entry in self.entries:
            if entry.key is None and is_comment(getattr(entry.value, "value", None)):
                self._dropped.setdefault(entry.loc[:-1], []).append(int(entry.loc[-1]))
        self.comments = list(_comments(text, yaml.scan(text, Loader=loader)))

    def span(self, node: Any) -> tuple[int, int]:
        """Where a scalar stands; a block scalar without the line end after it."""
        start, end = node.start_mark.index, node.end_mark.index
        return (start, start + len(self.text[start:end].rstrip())) if node.style in {"|", ">"} else (start, end)

    def spaced(self, start: int, literal: str) -> str:
        """The literal, after a blank where it would touch its key's colon."""
        return f" {literal}" if self.text[start - 1 : start] == ":" else literal

    def ends_line(self, end: int) -> bool:
        """Whether nothing follows on the line."""
        return not self.text[end:].split("\n", 1)[0].strip()

    def header_comment(self, node: Any) -> str:
        """The comment behind the `|` or `>` of a block scalar, without its `#`."""
        match = _HEADER.match(self.text, node.start_mark.index) if node.style in {"|", ">"} else None
        return match[1] if match else ""

    def keys_of(self, comment: Comment) -> Keys:
        """The keys above what a comment belongs to."""
        at = bisect_left(self._starts, comment.start)
        before = self.entries[at - 1] if at else None
        after = self.entries[at] if at < len(self.entries) else None
        if not comment.own_line:
            return () if before is None else self._outermost_flow(before)
        if after is not None and after.column >= comment.column:
            return after.container
        if before is None:
            return ()
        around = [e for e in self.entries[:at] if before.loc[: len(e.loc)] == e.loc and e.column <= comment.column]
        return around[-1].container if around else ()

    def candidates(self, comment: Comment) -> Iterator[Keys]:
        """What a comment that another program placed may belong to: the likeliest first."""
        at = bisect_left(self._starts, comment.start)
        seen = {self.keys_of(comment): None}
        for entry in self.entries[max(at - 1, 0) : at + 1]:
            seen |= dict.fromkeys(entry.keys[:depth] for depth in range(len(entry.keys), -1, -1))
        yield from seen

    def without_comments(self, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The place of a value when the items that are comments are not counted."""
        return tuple(
            part - sum(index < part for index in self._dropped.get(loc[:depth], ())) if isinstance(part, int) else part
            for depth, part in enumerate(loc)
        )

    def _outermost_flow(self, entry: Entry) -> Keys:
        """What the comment at the end of a line belongs to: where the line closes brackets, what stands in them."""
        if not entry.flow:
            return entry.container
        outer = [e for e in self.entries if entry.loc[: len(e.loc)] == e.loc and not e.flow]
        return outer[-1].keys if outer else ()


def _entries(node: Any, loc: tuple[str | int, ...], keys: Keys, *, flow: bool) -> Iterator[Entry]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place, below = (*loc, key.value), (*keys, key.value)
            yield Entry(key.start_mark.index, key.start_mark.column, place, below, keys, key, value, flow)
            yield from _entries(value, place, below, flow=flow or bool(value.flow_style) if _is_open(value) else flow)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            place = (*loc, index)
            yield Entry(value.start_mark.index, node.start_mark.column, place, keys, keys, None, value, flow)
            yield from _entries(value, place, keys, flow=flow or bool(value.flow_style) if _is_open(value) else flow)


def _is_open(node: Any) -> bool:
    return not isinstance(node.value, str)


def _comments(text: str, tokens: Iterable[Any]) -> Iterator[Comment]:
    """What stands between the tokens and is not blank is a comment."""
    at = 0
    for token in tokens:
        start = token.start_mark.index
        while (sharp := text.find("#", at, start)) >= 0:
            end = text.find("\n", sharp)
            end = len(text) if end < 0 else end
            line = text.rfind("\n", 0, sharp) + 1
            yield Comment(sharp, end, text[sharp + 1 : end], sharp - line, not text[line:sharp].strip())
            at = end
        at = max(at, token.end_mark.index)
