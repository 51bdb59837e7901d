"""Watcher: wakes somebody when a file under one of a few folders may have changed.

Events only say "look again": nothing is derived from their paths. A stat of each folder and its files every second catches what
the events miss (network file systems, a folder that was replaced, a full event queue). Only small folders are watched: an object
folder makes hundreds of events per push, and one rename out of it blocks the queue for half a second.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

POLL_S = 1.0
_CHANGES: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
]
"""Not "opened" and "closed": our own reads make those, and we would wake ourselves for ever."""

_NO_EVENTS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "vboxsf", "afs"})

Signature = tuple[tuple[str, int, int, int], ...]


class Watcher:
    """Calls `wake` from its own thread soon after anything changes in `folders` (not below them); a context manager.

    Wakes too often rather than too seldom. Folders may be missing, vanish and come back.
    """

    def __init__(self, folders: Iterable[Path], wake: Callable[[], object], poll_s: float = POLL_S) -> None:
        self._folders = tuple(folders)
        self._wake = wake
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._signature: Signature = ()
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, int] = {}
        self._thread = threading.Thread(target=self._run, name="livecfg-watch", daemon=True)

    def start(self) -> Self:
        """Begin; what changes from now on wakes."""
        self._signature = signature(self._folders)
        self._arm()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End within a second."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)
        self._disarm()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s):
            now = signature(self._folders)
            if now != self._signature:
                self._changed()
            self._rearm()

    def _changed(self) -> None:
        self._signature = signature(self._folders)
        try:
            self._wake()
        except Exception:  # the callback's fault must not end the watching
            log.exception("waking after a change failed")

    def _arm(self) -> None:
        wanted = [folder for folder in self._folders if _is_folder(folder) and not _is_remote(folder)]
        if not wanted:
            return
        observer = Observer()
        handler = _Handler(self._changed)
        watched: dict[Path, int] = {}
        try:
            for folder in wanted:
                watched[folder] = folder.stat().st_ino
                observer.schedule(handler, str(folder), recursive=False, event_filter=_CHANGES)
            observer.start()
        except OSError as error:  # no inotify instances left, say: the poll is enough
            log.info("file events are not available (%s); polling every %g s", error.strerror, self._poll_s)
            with suppress(Exception):
                observer.stop()
            return
        self._observer, self._watched = observer, watched

    def _rearm(self) -> None:
        """Watch anew when a folder appeared or was replaced by another of the same name."""
        now = {folder: _inode(folder) for folder in self._folders if not _is_remote(folder)}
        if {folder: inode for folder, inode in now.items() if inode} != self._watched:
            self._disarm()
            self._arm()

    def _disarm(self) -> None:
        observer, self._observer, self._watched = self._observer, None, {}
        if observer is not None:
            observer.stop()
            observer.join(2.0)


class _Handler(FileSystemEventHandler):
    def __init__(self, changed: Callable[[], None]) -> None:
        self._notify = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        del event  # its path proves nothing
        self._notify()


def signature(folders: Iterable[Path]) -> Signature:
    """What stat says of the folders' files; differs when any was written, replaced, added or removed."""
    found: list[tuple[str, int, int, int]] = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(OSError):
                        stat = entry.stat()
                        found.append((entry.path, stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append((str(folder), 0, 0, 0))
    return tuple(sorted(found))


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # a home that this user may not even look into: served from memory, nothing to watch
        return False


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


def _is_remote(folder: Path) -> bool:
    """Whether the folder lies on a file system whose other clients make no events here."""
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - no file of ours
            for line in mounts:
                _, where, this_kind, *_ = line.split(" ")
                if len(where) >= len(best) and (str(folder) + "/").startswith(where.rstrip("/") + "/"):
                    best, kind = where, this_kind
    except OSError:
        return False
    return kind in _NO_EVENTS
