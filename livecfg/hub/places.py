"""Places: where commits stand on the followed ref, for those who wait until a fleet is past one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from livecfg.errors import MissingObjectError
from livecfg.hub._pb import hub_pb2
from livecfg.trust.history import first_parents

if TYPE_CHECKING:
    from livecfg.revision import Objects
    from livecfg.trust.root import Good


class Places:
    """The ids of a ref's chain, read when somebody first asks and kept: each may ask for anything, as often as they like."""

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._chain: list[str] = []  # oldest first
        self._reading = threading.Lock()

    def find(self, objects: Objects, tip: str, good: Good | None, rev: str) -> hub_pb2.Commit:
        """Give the newest commit up to `tip` whose id begins with `rev`, placed by a commit whose position is known.

        Raises:
            LivecfgError: the mirror cannot be read.

        """
        with self._reading:
            self._read(objects, tip)
            newest = len(self._chain) - 1
            at = next((i for i in range(newest, -1, -1) if self._chain[i].startswith(rev)), -1)
            if at < 0:
                return hub_pb2.Commit()
            known = next((i for i in range(newest, -1, -1) if good is not None and self._chain[i] == good.commit), -1)
            position = good.position + at - known if good is not None and known >= 0 else -1
            return hub_pb2.Commit(ref=self._ref, commit=self._chain[at], position=position)

    def _read(self, objects: Objects, tip: str) -> None:
        """Take the chain of a tip over, down to where it is known."""
        known, new = self._chain[-1:], []
        try:
            for object_id in first_parents(objects, tip):
                if [object_id] == known:
                    break
                new.append(object_id)
            else:
                self._chain = []  # the first time, or after a force push
        except MissingObjectError:  # a shallow mirror: what is below has no place here
            self._chain = []
        self._chain += reversed(new)
