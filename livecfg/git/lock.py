"""Which process of a host fetches: a `flock` the kernel frees when the process dies, and the sweep of what the dead left.

A forked child shares its parent's lock through the inherited descriptor, so the child closes its copy at once (closing a copy
does not unlock) and must win an election of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from livecfg.forking import at_fork
from livecfg.git.faults import translating

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_held: set[int] = set()
_SHARED_AGE_S = 60.0


def _close_in_child() -> None:
    # Runs on every fork of the host application, so: nothing that could block. The set is emptied since the numbers will
    # be used again: a grandchild must not close what its parent opened meanwhile.
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


at_fork(_close_in_child)


def close_at_fork(*descriptors: int) -> None:
    """Have a forked child close its copies at once: by its first use, the numbers may be those of other files."""
    _held.update(descriptors)


def close(*descriptors: int) -> None:
    """Close what `close_at_fork` was told; numbers below zero are nothing."""
    for descriptor in descriptors:
        _held.discard(descriptor)
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


class Election:
    """The lock on one file, per process: True from `elect` means nobody else on this host fetches.

    The holder, and it alone, also has the file open for writing. When it ends, however it ends, the kernel closes that and tells
    whoever watches the file (`IN_CLOSE_WRITE`), so the next election is held at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._writing = -1
        self._pid = 0

    @property
    def held(self) -> bool:
        """Whether this very process holds the lock."""
        return self._descriptor >= 0 and self._pid == os.getpid()

    def elect(self) -> bool:
        """Try to take the lock; True when this process holds it.

        Raises:
            FetchError: the lock file cannot be opened.

        """
        if self.held:
            return True
        self._descriptor = self._writing = -1  # inherited over a fork: the hook closed them
        with translating("opening the fetcher's lock"):
            descriptor = _open_to_lock(self.path)
        _held.add(descriptor)  # first: another thread may fork at any moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            close(descriptor)
            return False
        self._descriptor, self._pid = descriptor, os.getpid()
        self._open_for_writing()
        self.show_life()
        return True

    def _open_for_writing(self) -> None:
        with suppress(OSError):  # a read-only folder: nobody is told, and others look every second
            self._writing = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            close_at_fork(self._writing)
            # A process that dies closes its files from the highest number down: the lock must be free before anybody is told.
            higher = fcntl.fcntl(self._descriptor, fcntl.F_DUPFD_CLOEXEC, self._writing + 1)
            close_at_fork(higher)
            lower, self._descriptor = self._descriptor, higher
            close(lower)

    def show_life(self) -> None:
        """As the holder: let the others see that this process runs."""
        if self.held and self._writing >= 0:
            with suppress(OSError):
                os.utime(self._writing)

    def silent_s(self) -> float:
        """For how many seconds the holder has not shown life; 0 when there is no telling."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return 0.0

    def resign(self) -> None:
        """Give the lock up."""
        if self.held:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a child forked just now may not have closed its copy yet
            close(self._descriptor, self._writing)
        self._descriptor = self._writing = -1


@contextmanager
def exclusive(path: Path, wait_s: float = 2.0) -> Iterator[None]:
    """Hold the lock on one file for the time of the block.

    A child that another thread forks meanwhile gets a copy of the descriptor, and the kernel keeps the lock for as long as any
    copy is open: so the child closes its copy, the end of the block unlocks rather than only closes, and the wait is bounded.

    Raises:
        FetchError: it is held by somebody else for longer than `wait_s`, or the file cannot be opened.

    """
    with translating(f"locking {path.name}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _held.add(descriptor)
        try:
            _lock(descriptor, time.monotonic() + wait_s)
            yield
        finally:
            _held.discard(descriptor)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)  # flock has no timeout of its own


def _open_to_lock(path: Path) -> int:
    """Open for reading only, so that whoever loses the election disturbs nobody; made when it is not there."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        # A read-only folder can still be locked by whoever may read the file.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def sweep(base: Path) -> int:
    """Remove what killed writers left; only the holder of the lock may call this. Gives the number of things removed.

    `*.lock` and `tmp_*` would wedge or fill the repository for ever; `incoming-*` are ours. A rebuild that was killed between
    its two renames has left the old repository under another name: it is given its own again.
    """
    removed = 0
    for old in base.glob("outgoing-*") if not (base / "mirror.git").exists() else ():
        with suppress(OSError):
            old.rename(base / "mirror.git")
            break
    ours = ("mirror.git/**/*.lock", "mirror.git/**/tmp_*", "mirror.git/**/incoming-*", "incoming-*", "outgoing-*")
    # State and reports are written by every process of the host: what is young may be a write under way.
    shared = [p for p in (*base.glob("state/incoming-*"), *base.glob("processes/incoming-*")) if _age_s(p) > _SHARED_AGE_S]
    lone = [p for p in base.glob("processes/*.alive") if not p.with_suffix(".json").exists()]
    # A pack goes after its index, and comes before it.
    lone += [p for p in base.glob("mirror.git/objects/pack/pack-*.pack") if not p.with_suffix(".idx").exists()]
    shared.extend(p for p in lone if _age_s(p) > _SHARED_AGE_S)
    for pattern in ours:
        shared.extend(base.glob(pattern))
    for path in shared:
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
            removed += 1
    return removed


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
