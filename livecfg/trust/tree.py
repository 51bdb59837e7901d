"""Raw Git trees: parse, look up, walk, diff; and what a tree may contain.

Trees are compared by their raw ids, so that the cost follows the change and not the repository.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from livecfg.trust.rawtree import BLOB_MODE, TREE_MODE, Entry, RawTree, TreeFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from livecfg.revision import Commit, Kind, Objects
    from livecfg.trust.policy import Policy

MAX_DEPTH = 16
MAX_CHANGES = 200_000
"""How many files and folders may differ from the last good commit: larger changes land in several commits."""
_GENERATION_TREES, _GENERATION_BYTES = 256, 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,128}\Z")
_RESERVED = frozenset({".", "..", ".git", ".gitmodules", "git~1"})
_MANY_NAMES = 16

Change = tuple[Entry | None, Entry | None]
"""Entry before and after; None where there was or is nothing."""
_Apart = tuple[dict[str, Entry], dict[str, Entry]]
_CHANGES_KEPT, _SMALL_CHARS = 64, 1024


def parse(raw: bytes, id_bytes: int) -> dict[str, Entry]:
    """Split a raw tree into its entries, in order.

    Raises:
        TreeFaultError: it is malformed, or a name stands twice.

    """
    return dict(RawTree.split(raw, id_bytes))


class KeptTrees:
    """Trees that were split, two generations of them: what one revision shares with the next, and no more memory than that.

    `policies` are those read from them, by the ids of all they were read from, or of the folder; `load_policy` keeps a few.
    """

    def __init__(self) -> None:
        self.policies: dict[tuple[str, ...], Policy] = {}
        self._newer: dict[str, RawTree] = {}
        self._older: dict[str, RawTree] = {}
        self._bytes = 0

    def get(self, tree_id: str) -> RawTree | None:
        """Give a tree that is kept."""
        found = self._newer.get(tree_id)
        if found is None:
            found = self._older.get(tree_id)
            if found is not None:
                self.keep(tree_id, found)
        return found

    def keep(self, tree_id: str, tree: RawTree) -> None:
        """Keep a tree for a while."""
        self._bytes += tree.weight_bytes
        if self._bytes > _GENERATION_BYTES or len(self._newer) >= _GENERATION_TREES:
            self._older, self._newer = self._newer, {}
            self._bytes = tree.weight_bytes
        self._newer[tree_id] = tree


class SplitObjects:
    """`Objects` that keep the trees and commits they have split: a walk looks at the same ones again and again.

    The commits are kept for this walk; `trees` may outlive it.
    """

    def __init__(self, objects: Objects, trees: KeptTrees | None = None) -> None:
        self._objects = objects
        self.trees = trees if trees is not None else KeptTrees()
        self.commits: dict[str, Commit] = {}
        self.apart: dict[tuple[str | None, str | None], _Apart] = {}
        """What the last small changes of trees consist of: each is asked for by a commit's hygiene and by its rules."""

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give the content of one object."""
        return self._objects.read(object_id, kind)

    def tree(self, tree_id: str, like: RawTree | None = None) -> RawTree:
        """Give one tree, split."""
        found = self.trees.get(tree_id)
        if found is None:
            found = _split(self._objects, tree_id, like)
            self.trees.keep(tree_id, found)
        return found


def _split(objects: Objects, tree_id: str, like: RawTree | None) -> RawTree:
    raw, id_bytes = objects.read(tree_id, "tree"), len(tree_id) // 2
    return RawTree.split(raw, id_bytes) if like is None else like.follow(raw)


def read_tree(objects: Objects, tree_id: str, like: RawTree | None = None) -> RawTree:
    """Read and split one tree; the less it differs from `like`, which may be any other, the faster."""
    return objects.tree(tree_id, like) if isinstance(objects, SplitObjects) else _split(objects, tree_id, like)


def lookup(objects: Objects, tree_id: str, path: str) -> Entry | None:
    """Find what `path` names below a tree; None when there is nothing."""
    entry: Entry | None = Entry(TREE_MODE, tree_id)
    for name in path.split("/"):
        if entry is None or not entry.is_tree:
            return None
        entry = read_tree(objects, entry.id).get(name)
    return entry


def walk(objects: Objects, tree_id: str, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Give (path, entry) of everything below a tree that is not itself a tree, in order.

    Raises:
        TreeFaultError: deeper than 16 levels.

    """
    if prefix.count("/") > MAX_DEPTH:
        raise TreeFaultError(f"{prefix}: nested deeper than {MAX_DEPTH} levels", prefix)
    for name, entry in read_tree(objects, tree_id):
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
        gone, come = _apart(self._objects, old, new)
        changes: dict[str, Change] = {}
        for name in sorted(gone.keys() | come.keys()):
            was, now = gone.get(name), come.get(name)
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


def _apart(objects: Objects, old: str | None, new: str | None) -> _Apart:
    """The entries of each of two trees (None: the empty tree), without most of those that are the same in both."""
    kept = objects.apart if isinstance(objects, SplitObjects) else {}
    found = kept.get((old, new))
    if found is None:
        found = _compared(objects, old, new)
        if sum(map(len, found[0])) + sum(map(len, found[1])) <= _SMALL_CHARS:
            if len(kept) >= _CHANGES_KEPT:
                kept.clear()
            kept[old, new] = found
    return found


def _compared(objects: Objects, old: str | None, new: str | None) -> _Apart:
    before = read_tree(objects, old) if old else None
    after = read_tree(objects, new, before) if new else None
    if before is None or after is None:
        return dict(before or ()), dict(after or ())
    here, there = before.beside(after)
    return dict(map(before.__getitem__, here)), dict(map(after.__getitem__, there))


def check(objects: Objects, tree_id: str, known: str | None, prefix: str = "") -> None:
    """Check the hygiene of every tree that `known` (already checked) lacks: modes, names, order, depth, case-fold twins.

    Raises:
        TreeFaultError: the first entry that breaks a rule.

    """
    if tree_id == known:
        return
    if prefix.count("/") >= MAX_DEPTH:
        raise TreeFaultError(f"{prefix}: nested deeper than {MAX_DEPTH} levels", prefix)
    before = read_tree(objects, known) if known else None
    found = read_tree(objects, tree_id, before)
    gone, come = _apart(objects, known, tree_id)
    if not (found.is_clean or (before is not None and before.is_clean and _stays_clean(found, gone, come))):
        _check_names(found, prefix)
    found.is_clean = True
    for name, entry in come.items():
        if entry.is_tree:
            was = gone.get(name)
            check(objects, entry.id, was.id if was is not None and was.is_tree else None, f"{prefix}{name}/")


def _stays_clean(tree: RawTree, gone: Mapping[str, Entry], come: Mapping[str, Entry]) -> bool:
    """Whether a tree keeps the rules since one that does differs from it by these entries only; False: look at all of them."""
    if not tree.is_canonical or any(_why_not(name, entry) for name, entry in come.items()):
        return False
    folded = {name.casefold() for name in come}
    added = folded - {name.casefold() for name in gone}
    if len(folded) < len(come) or len(added) > _MANY_NAMES:
        return False
    lowered = tree.raw.lower() if added else b""
    # Each stands there once as itself. Another hit may lie within an id, or be a twin.
    return all(lowered.count(b" %s\0" % name.encode()) == 1 for name in added)


def _why_not(name: str, entry: Entry) -> str:
    """Say which rule an entry by itself breaks."""
    if entry.mode not in {BLOB_MODE, TREE_MODE}:
        return f"mode {entry.mode}; only plain files (100644) and folders (40000) may be here"
    if not _NAME.match(name) or name.casefold() in _RESERVED:
        return "expected a name of [A-Za-z0-9._@+-], at most 128 characters, and not one of Git's own"
    return ""


def _check_names(tree: RawTree, prefix: str) -> None:
    folded: set[str] = set()
    order = ""
    for name, entry in tree:
        path = prefix + name
        why = _why_not(name, entry)
        if why:
            raise TreeFaultError(f"{path}: {why}", path)
        if name.casefold() in folded:
            raise TreeFaultError(f"{path}: differs from another name only in upper and lower case", path)
        folded.add(name.casefold())
        key = name + ("/" if entry.is_tree else "")
        if key <= order:
            raise TreeFaultError(f"{path}: the tree is not in canonical order", path)
        order = key


__all__ = [
    "BLOB_MODE",
    "MAX_DEPTH",
    "TREE_MODE",
    "Change",
    "Entry",
    "KeptTrees",
    "SplitObjects",
    "TreeFaultError",
    "check",
    "diff",
    "lookup",
    "parse",
    "read_tree",
    "walk",
]
