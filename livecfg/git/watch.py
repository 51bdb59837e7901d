"""Watcher: wakes somebody when a file under one of a few folders may have changed.

Events (inotify) only say "look again": nothing is derived from their paths. A stat of each folder and its files every second
catches what the events miss (network file systems, a folder that was replaced, a system without inotify). Only small folders are
watched: an object folder makes hundreds of events per push.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from livecfg.git.lock import close, close_at_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

POLL_S = 1.0
_SETTLE_S = 0.05
_NO_EVENTS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "vboxsf", "afs"})

# <sys/inotify.h>. Not IN_OPEN and IN_CLOSE_NOWRITE: our own reads make those, and we would wake ourselves for ever.
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF, _ONLY_FOLDERS = 0x100, 0x200, 0x400, 0x800, 0x1000000
_CHANGES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_ENDS = _DELETE_SELF | _MOVE_SELF | 0x2000 | 0x4000 | 0x8000  # and IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED
_EVENT = struct.Struct("iIII")
_EVENTS_BYTES = 1 << 16

Signature = tuple[tuple[str, int, int, int], ...]


class Watcher:
    """Calls `wake` from its own thread soon after anything changes in `folders` (not below them); a context manager.

    It also does when whoever had the file `held` open for writing closes it, or dies. Wakes too often rather than too seldom.
    Folders may be missing, vanish and come back. Where `files` are named, the look every second is at these alone.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        wake: Callable[[], object],
        poll_s: float = POLL_S,
        held: Path | None = None,
        files: Iterable[Path] = (),
    ) -> None:
        self._folders = tuple(folders)
        self._files = tuple(files)
        self._held_file = held
        self._wake = wake
        self._poll_s = poll_s
        self._signature: Signature = ()
        self._inotify = _Inotify()
        self._watched: set[Path] = set()
        self._armed: list[tuple[int, int]] = []
        self._remote: dict[int, bool] = {}
        self._stop_read, self._stop_write = -1, -1
        self._thread = threading.Thread(target=self._run, name="livecfg-watch", daemon=True)

    @property
    def has_events(self) -> bool:
        """Whether any folder is watched by events, not by the poll alone."""
        return bool(self._watched)

    def start(self) -> Self:
        """Begin; what changes from now on wakes."""
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        close_at_fork(self._stop_read, self._stop_write)
        self._arm()
        self._signature = self._look()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End within a second."""
        if self._stop_write < 0:
            return
        os.write(self._stop_write, b"\0")
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)
        self._inotify.close()
        close(self._stop_read, self._stop_write)
        self._stop_read = self._stop_write = -1

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop_read, select.POLLIN)
        if self._inotify.descriptor >= 0:
            poll.register(self._inotify.descriptor, select.POLLIN)
        due = time.monotonic() + self._poll_s
        told = False  # by an event, since the last look at every file
        while True:
            wait_s = max(0.0, due - time.monotonic())
            ready = [descriptor for descriptor, _ in poll.poll((min(wait_s, _SETTLE_S) if told else wait_s) * 1000)]
            if self._stop_read in ready:
                return
            if ready:
                told = self._tell()
            elif (found := self._look()) != self._signature:
                self._signature = found
                if not told or _stamps(self._folders) != self._armed:
                    self._call()
            if not ready:
                told = False
            if time.monotonic() >= due:
                self._arm()
                due = time.monotonic() + self._poll_s

    def _tell(self) -> bool:
        """Call after an event, and let the look at every file wait: it would take the processor from whoever was called.

        True when what that look finds has made the event, or will make one; unless other folders are there by then.
        """
        ended = self._inotify.drain()
        if ended:
            self._arm()
        sure = not ended and len(self._watched) == len(self._folders)
        if not sure:
            self._signature = self._look()  # before the call: what changes during it wakes again
        self._call()
        return sure

    def _look(self) -> Signature:
        return tuple(map(_stamp, self._files)) if self._files else signature(self._folders)

    def _call(self) -> None:
        try:
            self._wake()
        except Exception:  # the callback's fault must not end the watching
            log.exception("waking after a change failed")

    def _arm(self) -> None:
        """Watch each folder that is there; again every second, since another may have taken its name (and even its inode)."""
        self._armed = _stamps(self._folders)
        self._watched = {folder for folder in self._folders if not self._is_remote(folder) and self._inotify.watch(folder)}
        if self._held_file is not None and not self._is_remote(self._held_file):
            self._inotify.watch(self._held_file, _CLOSE_WRITE)

    def _is_remote(self, folder: Path) -> bool:
        try:
            device = folder.stat().st_dev
        except OSError:
            return False
        if device not in self._remote:
            self._remote[device] = _is_remote(folder)
        return self._remote[device]


def _kernel_calls() -> tuple[Any, Any] | None:
    """`inotify_init1` and `inotify_add_watch`; None on another system."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        calls = libc.inotify_init1, libc.inotify_add_watch
    except (OSError, AttributeError, TypeError):
        return None
    return calls


_KERNEL = _kernel_calls()  # at import: a child forked while another thread loads a library could wait for the loader for ever


class _Inotify:
    """The kernel's file events, read as "something happened"; without them (`descriptor` is -1) the poll does it all."""

    def __init__(self) -> None:
        self.descriptor: int = _KERNEL[0](os.O_NONBLOCK | os.O_CLOEXEC) if _KERNEL is not None else -1
        if self.descriptor >= 0:
            close_at_fork(self.descriptor)
        else:
            log.info("file events are not available: looking every second")

    def watch(self, path: Path, events: int = _CHANGES | _ONLY_FOLDERS) -> bool:
        """Ask for the changes in one folder, once or again; False when it is not there or the kernel has no watch left."""
        if self.descriptor < 0 or _KERNEL is None:
            return False
        found: int = _KERNEL[1](self.descriptor, os.fsencode(path), events)
        return found >= 0

    def drain(self) -> bool:
        """Take every event from the queue; True when one says that a watch is over, or that events were lost."""
        ended = False
        with suppress(OSError):  # BlockingIOError: the queue is empty
            while events := os.read(self.descriptor, _EVENTS_BYTES):
                at = 0
                while at < len(events):
                    _, mask, _, name_bytes = _EVENT.unpack_from(events, at)
                    ended = ended or bool(mask & _ENDS)
                    at += _EVENT.size + name_bytes
        return ended

    def close(self) -> None:
        """Let go of the descriptor."""
        descriptor, self.descriptor = self.descriptor, -1
        close(descriptor)


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


def _stamp(file: Path) -> tuple[str, int, int, int]:
    try:
        stat = os.stat(file)  # noqa: PTH116 - every second
    except OSError:
        return str(file), 0, 0, 0
    return str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size


def _stamps(folders: Iterable[Path]) -> list[tuple[int, int]]:
    """Which folders these are."""
    found = []
    for folder in folders:
        try:
            stat = os.stat(folder)  # noqa: PTH116 - between an event and the call
            found.append((stat.st_dev, stat.st_ino))
        except OSError:
            found.append((0, 0))
    return found


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
