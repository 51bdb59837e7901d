"""TreeWatcher: wakes somebody when anything below a folder changes; for working trees in development, on every platform.

Events only say "look again". Who uses it looks every second all the same: there are file systems without events, and a folder
that was replaced by another makes no more of them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self

from watchdog.events import EVENT_TYPE_CLOSED_NO_WRITE, EVENT_TYPE_OPENED, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

_OURS = frozenset({EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE})
"""What our own reads make: we would wake ourselves for ever."""


class TreeWatcher:
    """Calls `wake` from a thread of its own soon after a file below `root` changes, but for those in `.git`."""

    def __init__(self, root: Path, wake: Callable[[], object]) -> None:
        self._root = root
        self._wake = wake
        self._observer: BaseObserver | None = None

    def start(self) -> Self:
        """Begin; where there are no events, nothing is said but a line in the log."""
        try:
            observer = Observer()  # it asks the kernel already
            try:
                observer.schedule(_Waker(self._wake), str(self._root), recursive=True)
                observer.start()
            except OSError:
                observer.stop()
                raise
        except OSError as error:  # no such folder yet, none left for this user, no events on this file system
            log.info("no file events for %s (%s): looking every second", self._root, error.strerror)
        else:
            self._observer = observer
        return self

    def stop(self) -> None:
        """End within a second."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(1.0)


class _Waker(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _OURS and ".git" not in Path(str(event.src_path)).parts:
            self._wake()
