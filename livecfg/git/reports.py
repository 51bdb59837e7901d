"""Reports: what each process of this host says of itself, beside the mirror, and which of these processes still live.

A process holds a lock on a file of its own for as long as it lives. Process ids would not do: they are given out again (in a
container mostly to the next process), and those of another container on the same host mean nothing here.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from livecfg.errors import LivecfgError
from livecfg.git.faults import translating
from livecfg.git.lock import close, close_at_fork
from livecfg.git.state import checked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

REPORT_BYTES = 256 * 1024
EVERY_S = 10.0
"""How often a process writes its report at least."""
_SILENT_S = 3 * EVERY_S
_TOLD: set[str] = set()
_ROOM_BYTES = REPORT_BYTES - len('"exposures":[],')


def fitting(content: dict[str, Any], rows: Sequence[bytes] = ()) -> tuple[bytes, int]:
    """Write a report with its counts, rows of JSON, as many of them as fit; give how many those are.

    Before rows it leaves its signals out, and before what is served all but a few refusals.
    """
    data = _encoded(content)
    if len(data) - 1 + sum(map(len, rows)) + len(rows) > _ROOM_BYTES and content.get("signals"):
        _tell_once("a report is too large, and goes without its signals")
        content = {key: value for key, value in content.items() if key != "signals"}
        data = _encoded(content)
    for most in (20, 5, 1):
        if len(data) > _ROOM_BYTES:
            content = content | {"refusals": content.get("refusals", [])[:most]}
            data = _encoded(content)
    sizes = accumulate((len(row) + 1 for row in rows), initial=len(data) - 1)
    kept = max(0, sum(size <= _ROOM_BYTES for size in sizes) - 1)
    if kept < len(rows):
        _tell_once("a report has no room for all counts: each row waits for its turn")
    return b'%s,"exposures":[%s]}' % (data[:-1], b",".join(rows[:kept])), kept


def _tell_once(words: str) -> None:
    if words not in _TOLD:  # a report is written every second
        _TOLD.add(words)
        log.warning("%s; %d bytes are kept", words, REPORT_BYTES)


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


class Reports:
    """`<boot>.json`, written by rename, and `<boot>.alive`, locked while its process lives; `boot` is made anew after a fork."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot = ""
        self._descriptor = -1
        self._read: dict[str, tuple[int, int, int]] = {}

    def write(self, boot: str, data: bytes) -> None:
        """Replace this process's report; the first says that the process lives, until `close`.

        Raises:
            FetchError: it cannot be written.
            LivecfgError: it is over 256 KiB.

        """
        if len(data) > REPORT_BYTES:
            raise LivecfgError(f"a report has {len(data)} bytes; at most {REPORT_BYTES} are kept")
        with translating("writing a report"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if boot != self._boot:
                self._live(boot)
            beside = self._folder / f"incoming-{checked(boot)}"
            beside.write_bytes(data)  # no fsync: a report that a power cut loses is written again in seconds
            beside.replace(self._folder / f"{boot}.json")

    def _live(self, boot: str) -> None:
        """Lock the file that says this process lives; in a forked child the hook has closed that of its parent."""
        self._descriptor = os.open(self._folder / f"{checked(boot)}.alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        close_at_fork(self._descriptor)
        self._boot = boot
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            log.debug("no locks here (%s): a process lives while its report is young", error.strerror)

    def close(self) -> None:
        """Say that this process reports no more. What it wrote stays, for the fetcher to send."""
        descriptor, self._descriptor, self._boot = self._descriptor, -1, ""
        close(descriptor)

    def read(self) -> dict[str, bytes]:
        """Give every report by boot id; unreadable or oversized ones are left out."""
        self._read = {}
        return {boot: data for boot, data in self.read_again().items() if data is not None}

    def read_again(self) -> dict[str, bytes | None]:
        """Do so; give None for those that stand as they were when they were read last."""
        found: dict[str, bytes | None] = {}
        before, self._read = self._read, {}
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return found
        for path in paths:
            try:
                at = path.stat()
                if at.st_size <= REPORT_BYTES:
                    version = at.st_ino, at.st_mtime_ns, at.st_size
                    found[path.stem] = None if before.get(path.stem) == version else path.read_bytes()
                    self._read[path.stem] = version
            except OSError:
                continue  # its process replaced or removed it just now
        return found

    def is_alive(self, boot: str) -> bool:
        """Tell whether the process that reports under `boot` lives; where there are no locks, whether its report is young."""
        try:
            descriptor = os.open(self._folder / f"{checked(boot)}.alive", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return self._is_young(boot)
        close_at_fork(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return self._is_young(boot)
        finally:
            close(descriptor)
        return False

    def _is_young(self, boot: str) -> bool:
        try:
            return time.time() - (self._folder / f"{boot}.json").stat().st_mtime < _SILENT_S
        except OSError:
            return False

    def remove(self, boot: str) -> None:
        """Forget a report."""
        with translating("removing a report"):
            (self._folder / f"{checked(boot)}.json").unlink(missing_ok=True)
            (self._folder / f"{boot}.alive").unlink(missing_ok=True)
