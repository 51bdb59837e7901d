"""Raw Git trees: parse, look up, walk, diff; and what a tree may contain.

Trees are compared by their raw ids, so that the cost follows the change and not the repository.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from livecfg.revision import Commit, Kind, Objects

BLOB_MODE, TREE_MODE = "100644", "40000"
MAX_DEPTH = 16
MAX_KEPT_ENTRIES = 50_000
MAX_CHANGES = 200_000
"""How many files and folders may differ from the last good commit: larger changes land in several commits."""
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,128}\Z")
_RESERVED = frozenset({".", "..", ".git", ".gitmodules", "git~1"})


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


Change = tuple[Entry | None, Entry | None]
"""Entry before and after; None where there was or is nothing."""


class TreeFaultError(Exception):
    """A tree that is malformed or breaks a rule; the text says which entry and why, `path` where, as far as that is known."""

    def __init__(self, text: str, path: str = "") -> None:
        self.path = path
        super().__init__(text)


def parse(raw: bytes, id_bytes: int) -> dict[str, Entry]:
    """Split a raw tree into its entries, in order.

    Raises:
        TreeFaultError: it is malformed, or a name stands twice.

    """
    entries: dict[str, Entry] = {}
    position, end = 0, len(raw)
    while position < end:
        space = raw.find(b" ", position, position + 7)
        nul = raw.find(b"\0", space)
        start, position = position, nul + 1 + id_bytes
        if space < 0 or nul < 0 or position > end:
            raise TreeFaultError("a malformed tree")
        name = raw[space + 1 : nul].decode("utf-8", "surrogateescape")
        if name in entries:
            raise TreeFaultError(f"the name {name!r} stands twice in a tree")
        entries[name] = Entry(raw[start:space].decode("latin-1"), raw[nul + 1 : position].hex())
    return entries


class SplitObjects:
    """`Objects` that keep the trees and commits they have split: a walk looks at the same ones again and again."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.commits: dict[str, Commit] = {}
        self._trees: dict[str, dict[str, Entry]] = {}
        self._count = 0

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give the content of one object."""
        return self._objects.read(object_id, kind)

    def entries(self, tree_id: str) -> dict[str, Entry]:
        """Give the entries of one tree."""
        found = self._trees.get(tree_id)
        if found is None:
            found = entries(self._objects, tree_id)
            self._count += len(found)
            if self._count > MAX_KEPT_ENTRIES:
                self._trees.clear()
                self._count = len(found)
            self._trees[tree_id] = found
        return found


def entries(objects: Objects, tree_id: str) -> dict[str, Entry]:
    """Read and split one tree."""
    if isinstance(objects, SplitObjects):
        return objects.entries(tree_id)
    return parse(objects.read(tree_id, "tree"), len(tree_id) // 2)


def lookup(objects: Objects, tree_id: str, path: str) -> Entry | None:
    """Find what `path` names below a tree; None when there is nothing."""
    entry: Entry | None = Entry(TREE_MODE, tree_id)
    for name in path.split("/"):
        if entry is None or not entry.is_tree:
            return None
        entry = entries(objects, entry.id).get(name)
    return entry


def walk(objects: Objects, tree_id: str, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Give (path, entry) of everything below a tree that is not itself a tree, in order.

    Raises:
        TreeFaultError: deeper than 16 levels.

    """
    if prefix.count("/") > MAX_DEPTH:
        raise TreeFaultError(f"{prefix}: nested deeper than {MAX_DEPTH} levels", prefix)
    for name, entry in entries(objects, tree_id).items():
        if entry.is_tree:
            yield from walk(objects, entry.id, f"{prefix}{name}/")
        else:
            yield prefix + name, entry


def diff(objects: Objects, old: str | None, new: str | None, *, most: int = MAX_CHANGES) -> dict[str, Change]:
    """Give every path that is not the same below two trees (None: the empty tree), with its entries before and after.

    A folder that is malformed or lies too deep counts as one changed path, so that taking it back is a change of that path
    alone; `check` refuses such trees. A few trees that name each other again and again stand for any number of paths: after
    `most` differing entries, folders included, it ends.

    Raises:
        TreeFaultError: one of the two trees itself is malformed, or too much differs.

    """
    return _Differ(objects, most).trees(old, new, "")


class _TooMuchError(TreeFaultError):
    """More differs than anybody may ask us to look at."""


class _Differ:
    """One comparison, and how many entries it may still look at."""

    def __init__(self, objects: Objects, most: int) -> None:
        self._objects = objects
        self._left = self._most = most

    def trees(self, old: str | None, new: str | None, prefix: str) -> dict[str, Change]:
        if old == new:
            return {}
        if prefix.count("/") > MAX_DEPTH:
            raise TreeFaultError(f"{prefix}: nested deeper than {MAX_DEPTH} levels", prefix)
        before = entries(self._objects, old) if old else {}
        after = entries(self._objects, new) if new else {}
        changes: dict[str, Change] = {}
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was != now:
                self._left -= 1
                if self._left < 0:
                    raise _TooMuchError(f"more than {self._most:,} files and folders differ")
                changes |= self._entries(was, now, prefix + name)
        return changes

    def _entries(self, was: Entry | None, now: Entry | None, path: str) -> dict[str, Change]:
        was_tree, now_tree = was is not None and was.is_tree, now is not None and now.is_tree
        changes: dict[str, Change] = {}
        if was_tree or now_tree:
            try:
                changes = self.trees(was.id if was and was_tree else None, now.id if now and now_tree else None, f"{path}/")
            except _TooMuchError:
                raise
            except TreeFaultError:
                return {path: (was, now)}
        if (was is not None and not was_tree) or (now is not None and not now_tree):
            changes[path] = (None if was_tree else was, None if now_tree else now)
        return changes


def check(objects: Objects, tree_id: str, known: str | None, prefix: str = "") -> None:
    """Check the hygiene of every tree that `known` (already checked) lacks: modes, names, order, depth, case-fold twins.

    Raises:
        TreeFaultError: the first entry that breaks a rule.

    """
    if tree_id == known:
        return
    if prefix.count("/") >= MAX_DEPTH:
        raise TreeFaultError(f"{prefix}: nested deeper than {MAX_DEPTH} levels", prefix)
    found = entries(objects, tree_id)
    before = entries(objects, known) if known else {}
    _check_names(found, prefix)
    for name, entry in found.items():
        if entry.is_tree:
            was = before.get(name)
            check(objects, entry.id, was.id if was is not None and was.is_tree else None, f"{prefix}{name}/")


def _check_names(found: Mapping[str, Entry], prefix: str) -> None:
    folded: set[str] = set()
    order = ""
    for name, entry in found.items():
        path = prefix + name
        if entry.mode not in {BLOB_MODE, TREE_MODE}:
            raise TreeFaultError(f"{path}: mode {entry.mode}; only plain files (100644) and folders (40000) may be here", path)
        if not _NAME.match(name) or name.casefold() in _RESERVED:
            why = "expected a name of [A-Za-z0-9._@+-], at most 128 characters, and not one of Git's own"
            raise TreeFaultError(f"{path}: {why}", path)
        if name.casefold() in folded:
            raise TreeFaultError(f"{path}: differs from another name only in upper and lower case", path)
        folded.add(name.casefold())
        key = name + ("/" if entry.is_tree else "")
        if key <= order:
            raise TreeFaultError(f"{path}: the tree is not in canonical order", path)
        order = key
