"""Where a mirror's objects are looked for: in memory what was fetched and not yet promoted, a cache, and the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from livecfg.errors import WrongKindError

if TYPE_CHECKING:
    from livecfg.git.pack import Content
    from livecfg.revision import Kind

_GENERATION_ENTRIES, _GENERATION_BYTES = 512, 4 * 1024 * 1024
"""Two generations are kept: enough for what one revision shares with the next, and soon full, so that a process that lives long
does not grow with every commit."""


class Shelves(Protocol):
    """The two places a mirror keeps objects in."""

    def quarantined(self, object_id: str) -> Content | None:
        """Give an object that waits for promotion, or None."""
        ...

    def read_stored(self, object_id: str) -> Content:
        """Give an object from disk, re-hashed."""
        ...


@dataclass(slots=True)
class Quarantine:
    """New objects in memory. `pack` and `offsets` are kept when one self-contained pack brought them all."""

    tip: str = ""
    objects: dict[str, Content] = field(default_factory=dict)
    pack: bytes = b""
    offsets: dict[str, int] = field(default_factory=dict)

    def without(self, written: Quarantine) -> Quarantine:
        """What still waits after `written`, an earlier state of this, has reached the disk."""
        if self is written:
            return Quarantine()
        left = {name: content for name, content in self.objects.items() if name not in written.objects}
        return Quarantine(self.tip, left)


class MirrorObjects:
    """`Objects` over a mirror: quarantine, cache of commits and trees, disk; every byte from disk is re-hashed."""

    def __init__(self, mirror: Shelves) -> None:
        self._mirror = mirror
        self._cache: dict[str, Content] = {}
        self._older: dict[str, Content] = {}
        self._cached_bytes = 0

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give the content of one object.

        Raises:
            MissingObjectError, CorruptObjectError: it is not in the mirror, or is not what its id says.
            WrongKindError: it is of another kind.

        """
        found, content = self.content(object_id)
        if found != kind:
            raise WrongKindError(object_id, found, kind)
        return content

    def content(self, object_id: str) -> Content:
        """Give kind and content of one object."""
        found = self._cache.get(object_id)
        if found is not None:
            return found
        found = self.at_hand(object_id) or self._mirror.read_stored(object_id)
        if found[0] != "blob":
            self._keep(object_id, found)
        return found

    def at_hand(self, object_id: str) -> Content | None:
        """Give kind and content of an object that is in memory."""
        return self._cache.get(object_id) or self._older.get(object_id) or self._mirror.quarantined(object_id)

    def _keep(self, object_id: str, found: Content) -> None:
        self._cached_bytes += len(found[1])
        if len(self._cache) >= _GENERATION_ENTRIES or self._cached_bytes > _GENERATION_BYTES:
            self._older, self._cache = self._cache, {}
            self._cached_bytes = len(found[1])
        self._cache[object_id] = found

    def forget(self) -> None:
        """Drop the cache."""
        self._cache, self._older = {}, {}
        self._cached_bytes = 0
