"""WriteBack: a mirror whose writes happen on a thread of their own, so that the next revision never waits for a disk.

A revision is in use before it is on disk; what a kill takes with it is fetched again. Writes keep their order (objects, ref,
state) and only the newest of each waits: a disk slower than the commits is asked less often, not longer.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from livecfg.errors import LivecfgError

if TYPE_CHECKING:
    from livecfg.git.mirror import Mirror
    from livecfg.revision import Candidate, Objects

log = logging.getLogger(__name__)


class WriteBack:
    """`mirror` with a `promote` and a `save_state` that return at once; the thread starts with the first of them."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._wanted = threading.Condition()
        self._promote = False
        self._states: dict[str, tuple[bytes, int]] = {}
        self._closed = False
        self._failing = False
        self._why = ""
        self._thread: threading.Thread | None = None

    @property
    def objects(self) -> Objects:
        """The objects of the mirror, re-hashed as they are read."""
        return self._mirror.objects

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know: of the mirror, and that it cannot be written."""
        notes = self._mirror.notes
        if self._failing and self._mirror.has_folder:  # without one its own note says it
            notes = (*notes, f"the mirror cannot be written, a restart may not find this revision: {self._why}")
        return notes

    def holds(self, object_id: str) -> bool:
        """Tell whether an object is here."""
        return self._mirror.holds(object_id)

    def fetch(self, since: str | None) -> Candidate | None:
        """Give the tip when it is not `since`; as `Mirror.fetch`."""
        return self._mirror.fetch(since)

    def load_state(self, name: str) -> bytes | None:
        """Give what was saved, the newest that still waits for the disk first."""
        with self._wanted:
            waiting = self._states.get(name)
        return waiting[0] if waiting is not None else self._mirror.load_state(name)

    def promote(self) -> None:
        """Have what was fetched written soon; what failed before is tried again."""
        with self._wanted:
            self._promote = True
            self._go()

    def save_state(self, name: str, data: bytes, position: int) -> bool:
        """Have the state of one service written soon, after the objects it needs, only forwards."""
        with self._wanted:
            self._states[name] = (data, position)
            self._go()
        return True

    def _go(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="livecfg-disk", daemon=True)
            self._thread.start()
        self._wanted.notify()

    def close(self, timeout_s: float = 0.8) -> None:
        """Write what waits, then end; gives up on a disk that takes longer."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._wanted:
                while not self._promote and not self._closed:
                    if self._states and not self._failing:
                        break
                    self._wanted.wait()
                closing = self._closed
                self._promote, states = False, dict(self._states)
            self._write(states)
            if closing:
                return

    def _write(self, states: dict[str, tuple[bytes, int]]) -> None:
        try:
            self._mirror.promote()
            for name, (data, position) in states.items():
                self._mirror.save_state(name, data, position)
                with self._wanted:
                    if self._states.get(name) == (data, position):
                        del self._states[name]
            self._failing = False
        except LivecfgError as error:  # the new revision is in use; only a restart without the remote would miss it
            self._why = str(error)
            if not self._failing:
                log.warning("cannot remember the applied revision: %s", error)
            self._failing = True
        except Exception:  # a fault of ours must not end the writing for good
            log.exception("unexpected error while writing the mirror")
            self._failing = True
