"""Building packs: what the hub sends, and what maintenance writes.

dulwich walks the whole history and tree to build a pack (2 s at 100,000 files); this follows the new commits and the tree
differences only, so its cost follows the change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dulwich.pack import create_delta

from livecfg.errors import FetchError, LivecfgError, ShortageError
from livecfg.git.faults import over_limit
from livecfg.git.graph import FOLDER, GITLINK, bottom_up, changed_entries, entries_of_tree, links, links_of_commit, new_commits
from livecfg.git.pack import Entry, write_pack

if TYPE_CHECKING:
    from livecfg.git.pack import Content
    from livecfg.git.source import Limits
    from livecfg.git.store import Store
    from livecfg.revision import Kind, Objects

_COMMITS_MOST = 100_000
_DELTA_FROM_BYTES = 512
"""A tree this big is sent as a delta on the one it replaces: an entry costs 35 bytes, a delta about 60."""


class _Builder:
    def __init__(self, objects: Objects, limits: Limits, id_length: int) -> None:
        self._objects = objects
        self._limits = limits
        self._id_length = id_length
        self._bytes = 0
        self.entries: dict[str, Entry] = {}

    def add(self, name: str, kind: str, content: bytes, base: tuple[str, bytes] | None = None) -> None:
        entry = Entry(name, kind, content)
        # A base among the entries could be a delta itself, and chains would grow with the number of commits.
        if base is not None and base[0] not in self.entries and len(content) >= _DELTA_FROM_BYTES:
            delta = b"".join(create_delta(base[1], content))
            if len(delta) * 2 < len(content):
                entry = Entry(name, kind, delta, base[0])
        self.entries[name] = entry
        self._bytes += len(entry.content)
        if self._bytes > self._limits.inflated_bytes:
            raise over_limit("the pack would be too big", self._limits.inflated_bytes, "inflated_bytes")
        if len(self.entries) > self._limits.objects:
            raise over_limit("the pack would have too many objects", self._limits.objects, "objects")

    def tree(self, new: str, old: str) -> None:
        """Add what tree `new` has and tree `old` (may be empty) does not."""
        work = [(new, old)]
        while work:
            name, before = work.pop()
            if name == before or name in self.entries:
                continue
            content = self._objects.read(name, "tree")
            old_content = self._objects.read(before, "tree") if before else b""
            self.add(name, "tree", content, (before, old_content) if before else None)
            for mode, below, replaced in changed_entries(content, old_content, self._id_length):
                if mode == FOLDER:
                    work.append((below, replaced))
                elif mode != GITLINK and below not in self.entries:
                    self.add(below, "blob", self._objects.read(below, "blob"))


def build_pack(objects: Objects, have: str, tip: str, limits: Limits) -> bytes:
    """Give a pack with what `tip` reaches and `have` does not; thin: wide trees are deltas on trees of `have`.

    Raises:
        FetchError: an object is missing, or a limit would be exceeded.

    """
    id_length = len(tip)
    builder = _Builder(objects, limits, id_length)
    for name, content in new_commits(objects, have, tip, _COMMITS_MOST):
        tree, *parents = links_of_commit(content)
        builder.add(name, "commit", content)
        before = links_of_commit(objects.read(parents[0], "commit"))[0] if parents else ""
        builder.tree(tree, before)
    return write_pack(builder.entries.values(), id_length)[0]


def is_incomplete(objects: Objects, tip: str) -> bool:
    """Read everything `tip` reaches; True when something is missing or corrupt. Costs a pass over the repository."""
    work: list[tuple[str, Kind]] = [(tip, "commit")] if tip else []
    seen: set[str] = set()
    while work:
        name, kind = work.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            content = objects.read(name, kind)
        except ShortageError:
            raise
        except FetchError:
            return True
        if kind == "commit":
            tree, *parents = links_of_commit(content)
            work.append((tree, "tree"))
            work.extend((parent, "commit") for parent in parents)
        elif kind == "tree":
            entries = entries_of_tree(content, len(name))
            work.extend((below, "tree" if mode == FOLDER else "blob") for mode, _, below in entries if mode != GITLINK)
    return False


def salvage(old: Store, new: Store) -> int:
    """Copy what is readable and complete in a damaged store and the new one lacks; the last good revision may be among it."""
    found: dict[str, Content] = {}
    for name in old.all_names():
        try:
            if name not in new:
                found[name] = old.read(name)
        except ShortageError:
            raise  # the old store is removed afterwards
        except LivecfgError:
            continue  # that is the damage
    kept: dict[str, Content] = {}
    for name in bottom_up(found):
        if all(below in kept or below in new for below in links(*found[name], len(name))):
            kept[name] = found[name]
    if kept:
        new.add(kept, b"", {})
    return len(kept)
