"""Complaints: what processes of a host say of their mirror, for its fetcher to look into, and what came of it, for people to see.

`damaged` and `suspect` beside the mirror are marks that any process may leave; the fetcher takes them away.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from livecfg.git.strangers import evict

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

MENDED_SHOWN_S = 600.0
DAMAGED, SUSPECT = "damaged", "suspect"


class Complaints:
    """The marks in `folder`, and the last thing that was put right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mended: tuple[float, str] = (-MENDED_SHOWN_S, "")

    def leave(self, mark: str) -> None:
        """Say that something is wrong."""
        with suppress(OSError):
            (self._folder / mark).touch()

    def has(self, *marks: str) -> bool:
        """Whether somebody left one of the marks."""
        return any(os.path.exists(f"{self._folder}/{mark}") for mark in marks)  # noqa: PTH110 - at each fetch

    def take(self, mark: str) -> bool:
        """Take a mark away; False where there is none."""
        found = self.has(mark)
        if found:
            with suppress(OSError):
                (self._folder / mark).unlink(missing_ok=True)
        return found

    def tell(self, what: str) -> None:
        """Keep what was put right, for a while."""
        self._mended = (time.monotonic(), what)
        log.warning("%s", what)

    def evict_strangers(self, id_length: int) -> None:
        """Take away what nobody but a stranger writes into the mirror; nothing in one without a tip (`id_length` 0)."""
        with suppress(OSError):
            if id_length and (found := evict(self._folder / "mirror.git", id_length)):
                self.tell(f"the mirror held what livecfg never writes there; put right: {', '.join(found)}")

    def notes(self, unwritable: str) -> tuple[str, ...]:
        """Say that there is no mirror (`unwritable`: why), that it is damaged, or that it was a short while ago."""
        if unwritable:
            return (f"no mirror on disk, serving from memory, which grows with the history: {unwritable}",)
        at_s, what = self._mended
        mended = (what,) if time.monotonic() - at_s < MENDED_SHOWN_S else ()
        return (*mended, *(("the mirror is damaged, and not mended yet",) if self.has(DAMAGED) else ()))
