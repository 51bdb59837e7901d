"""MergedSide: the commits that a merge brings in, and where they left the chain of first parents.

Exact and bounded without trusting any date. Every commit off the chain that the second parent reaches is visited, down to the
chain; of those, what an earlier merge already brought in is taken out. An earlier merge can only have brought in a commit if it
lies above the oldest place where one of them left the chain: all that could matter is looked at, and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from livecfg.trust.commits import read_commit

if TYPE_CHECKING:
    from livecfg.revision import Commit, Objects

MAX_MERGED = 1000
MAX_BEFORE = 20_000
_OBJECT_ID = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")


class TooManyError(Exception):
    """More commits off the chain than a merge may vouch with."""


class _Chain:
    """The first parents below a merge, newest first, read only as far as somebody asks."""

    def __init__(self, objects: Objects, tip: str) -> None:
        self.objects = objects
        self.commits: list[Commit] = []
        self.index: dict[str, int] = {}
        self._next = tip

    def extend(self, count: int) -> bool:
        """Read up to `count` more; False when the chain was at its end."""
        started = bool(self._next)
        for _ in range(count):
            if not self._next:
                break
            commit = read_commit(self.objects, self._next)
            self.index[commit.id] = len(self.commits)
            self.commits.append(commit)
            self._next = parents_of(commit)[0] if parents_of(commit) else ""
        return started


def parents_of(commit: Commit) -> tuple[str, ...]:
    """Give the parents that are object ids at all."""
    return tuple(parent for parent in commit.parents if _OBJECT_ID.match(parent))


class MergedSide:
    """What one merge brings in. `commits` stand parents first; empty where there are too many (`overflow`).

    `base[id]` is the place on `chain` (0: the first parent, counting down) of the newest chain commit that is an ancestor of the
    commit; a commit without one shares no history with the chain. `second_base` is that of the second parent. `visited` counts
    the commits off the chain that were looked at to find this out.
    """

    def __init__(self, objects: Objects, merge: Commit) -> None:
        self._objects = objects
        self._chain = _Chain(objects, merge.parents[0])
        self.overflow = False
        self.visited = 0
        self.second_base: int | None = None
        self.commits: dict[str, Commit] = {}
        self.base: dict[str, int] = {}
        self.children: dict[str, list[str]] = {}
        try:
            off = self._off_chain(merge.parents[1], MAX_MERGED)
            self._find_bases(off)
            before = self._brought_in_before(off)
        except TooManyError:
            self.overflow = True
            return
        self.commits = {commit_id: commit for commit_id, commit in off.items() if commit_id not in before}
        for commit_id, commit in self.commits.items():
            for parent in commit.parents:
                if parent in self.commits:
                    self.children.setdefault(parent, []).append(commit_id)
        self.second_base = self._place(merge.parents[1])

    @property
    def chain(self) -> list[Commit]:
        """The chain below the merge, newest first, as far as it was needed."""
        return self._chain.commits

    def _off_chain(self, start: str, limit: int) -> dict[str, Commit]:
        """Everything reachable from `start` without passing the chain; parents first."""
        while True:
            found, met_first = self._visit(start, limit)
            # A commit deeper on the chain would have led us down to a first commit: none was met, so none is on it.
            if not met_first or not self._chain.extend(max(256, len(self.chain))):
                return found

    def _visit(self, start: str, limit: int) -> tuple[dict[str, Commit], bool]:
        """Depth first, parents before children. The chain is read on beside, so that a fork point far down is met in time."""
        done: dict[str, Commit] = {}
        seen: dict[str, Commit] = {}
        stack = [start]
        met_first = False
        while stack:
            commit_id = stack[-1]
            if commit_id not in self._chain.index and commit_id not in seen:
                self._chain.extend(8)
            if commit_id in self._chain.index or commit_id in done:
                stack.pop()
            elif commit_id in seen:
                done[commit_id] = seen[commit_id]
                stack.pop()
            elif len(seen) < limit:
                commit = seen[commit_id] = read_commit(self._objects, commit_id)
                self.visited += 1
                met_first = met_first or not parents_of(commit)
                stack += [parent for parent in parents_of(commit) if parent not in seen]
            elif self._chain.extend(1 << 30):  # only now is it certain what is off the chain
                return self._visit(start, limit)
            else:
                raise TooManyError
        return {i: c for i, c in done.items() if i not in self._chain.index}, met_first

    def _find_bases(self, off: dict[str, Commit]) -> None:
        for commit_id, commit in off.items():
            places = [place for parent in parents_of(commit) if (place := self._place(parent)) is not None]
            if places:
                self.base[commit_id] = min(places)

    def _place(self, commit_id: str) -> int | None:
        return self._chain.index.get(commit_id, self.base.get(commit_id))

    def _brought_in_before(self, off: dict[str, Commit]) -> set[str]:
        """Those of `off` that an earlier merge of the chain reaches."""
        oldest = max(self.base.values(), default=0)
        if len(self.base) < len(off):  # some share no history with the chain: any merge may have brought them in
            self._chain.extend(1 << 30)
            oldest = len(self.chain)
        known: set[str] = set()
        left = MAX_BEFORE
        for merge in self.chain[:oldest] if off else []:
            for start in parents_of(merge)[1:]:
                reached = self._off_chain(start, left)
                left -= len(reached)
                known.update(reached)
        return known & off.keys()
