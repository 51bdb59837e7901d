"""Path patterns of the policy, part by part: `*` inside a part, `**` as a whole part, `!` excludes; case counts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

POLICY_PATH, SIGNERS_PATH, MANIFEST_PATH = ".livecfg/policy.yaml", ".livecfg/allowed_signers", "livecfg.yaml"
_GLOB_PART = re.compile(r"[A-Za-z0-9._@+*-]+\Z")


def _check_glob(text: str) -> str:
    parts = text.removeprefix("!").split("/")
    if not all(part == "**" or (_GLOB_PART.match(part) and "**" not in part) for part in parts):
        raise ValueError("expected path parts with * inside a part, or ** as a whole part")
    return text


Glob = Annotated[str, AfterValidator(_check_glob)]


def is_root_path(path: str) -> bool:
    """Whether only the root role may change a path: who may do what, and which files count."""
    return path.startswith(".livecfg/") or path == MANIFEST_PATH


def matches(globs: Sequence[str], path: str) -> bool:
    """Whether some pattern matches a path and no `!` pattern does."""
    return bool(_index(tuple(globs)).find(path))


class PathIndex:
    """Lists of patterns, their parts in one tree: a path is walked down once for all of them, whatever their number.

    What all patterns allow is followed at once, so that no pattern can make it more than (parts of all) x (parts of the path).
    """

    def __init__(self, lists: Iterable[Sequence[str]]) -> None:
        self._top = _Node()
        for number, globs in enumerate(lists):
            for glob in globs:
                node = self._top.below(glob.removeprefix("!").split("/"))
                if glob.startswith("!"):
                    node.excludes += (number,)
                else:
                    node.wants += (number,)

    def find(self, path: str) -> list[int]:
        """Give the numbers, in order, of the lists that match a path: some pattern of it does and no `!` pattern."""
        nodes = {self._top}
        for name in path.split("/"):
            nodes = _after(nodes, name)
        wants = {number for node in nodes for number in node.wants}
        return sorted(wants.difference(*(node.excludes for node in nodes)))


class _Node:
    """Where the patterns with one beginning stand once it is matched; behind `**` they may stay where they are."""

    __slots__ = ("deep", "excludes", "literal", "loops", "wants", "wild")

    def __init__(self, *, loops: bool = False) -> None:
        self.wants: tuple[int, ...] = ()  # the lists that hold this very pattern
        self.excludes: tuple[int, ...] = ()
        self.literal: dict[str, _Node] = {}
        self.wild: dict[tuple[int, int], dict[tuple[str, str], dict[str, _Wild]]] = {}
        self.deep: _Node | None = None
        self.loops = loops

    def below(self, parts: Sequence[str]) -> _Node:
        """Give the node where these further parts lead, made where there is none."""
        node = self
        for part in parts:
            node = node._next(part)
        return node

    def _next(self, part: str) -> _Node:
        if part == "**":
            self.deep = self.deep or _Node(loops=True)
            return self.deep
        if "*" not in part:
            return self.literal.setdefault(part, _Node())
        head, tail = part[: part.index("*")], part[part.rindex("*") + 1 :]
        alike = self.wild.setdefault((len(head), len(tail)), {}).setdefault((head, tail), {})
        return alike.setdefault(part, (_part(part), _Node()))[1]

    def by_name(self, name: str) -> Iterator[_Node]:
        """Give where parts other than `**` lead from here."""
        if name in self.literal:
            yield self.literal[name]
        for (head, tail), ends in self.wild.items():  # one look-up for all that fix as many characters at both ends
            alike = ends.get((name[:head], name[len(name) - tail :]), {})
            yield from (node for pattern, node in alike.values() if pattern.match(name))


def _after(nodes: set[_Node], name: str) -> set[_Node]:
    """Where one more part of a path leads. `**` takes it, or takes none and leaves it to what follows."""
    after = {node for node in nodes if node.loops}
    asked: set[_Node] = set()
    for start in nodes:
        node: _Node | None = start
        while node is not None and node not in asked:
            asked.add(node)
            after.update(node.by_name(name))
            node = node.deep
            if node is not None:
                after.add(node)
    return after


_Wild = tuple[re.Pattern[str], _Node]


@lru_cache(maxsize=256)
def _index(globs: tuple[str, ...]) -> PathIndex:
    return PathIndex([globs])


@lru_cache(maxsize=4096)
def _part(part: str) -> re.Pattern[str]:
    """One part with `*`, which takes as little as it can and never tries again: enough for a wildcard."""
    first, *inner, last = (re.escape(piece) for piece in part.split("*"))
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in inner) + f".*{last}\\Z", re.DOTALL)
