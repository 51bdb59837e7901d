"""Small files beside the mirror: the last good commit of a service, and what each process reports.

A state file spares the walk from the anchor, so it is believed only when nobody but this process's user could have written it
, and it only moves forwards.
"""

from __future__ import annotations

import json
import logging
import os
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from livecfg.errors import LivecfgError
from livecfg.git.faults import translating
from livecfg.git.lock import exclusive
from livecfg.git.store import write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

STATE_BYTES = 1024 * 1024
REPORT_BYTES = 256 * 1024
_TOLD: set[str] = set()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,199}\Z")
_OTHERS_MAY_WRITE = 0o022


def owned(*paths: Path) -> str:
    """Say why one of these could have been written by another user; an empty string when none could."""
    for path in paths:
        found = path.lstat()
        if found.st_uid != os.geteuid():
            return f"{path.name} belongs to user {found.st_uid}"
        if found.st_mode & _OTHERS_MAY_WRITE:
            return f"others may write {path.name}"
    return ""


class States:
    """State files in one folder, each a JSON object with the SHA-256 of its text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> bytes | None:
        """Give what was saved; None when there is nothing or it cannot be trusted, which is logged."""
        path = self._path(name)
        try:
            why = owned(path, self._folder, self._folder.parent)
            position, text = _parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("state %s is not usable (%s); verifying from the anchor", name, type(error).__name__)
            return None
        if why:
            log.warning("state %s is not believed: %s; verifying from the anchor", name, why)
            return None
        log.debug("state %s at position %d", name, position)
        return text

    def save(self, name: str, data: bytes, position: int) -> bool:
        """Replace the state unless the kept one is further along; False when it was.

        Raises:
            FetchError: it cannot be written.

        """
        path = self._path(name)
        with translating(f"writing state {name}"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with exclusive(path.with_suffix(".lock-file")):
                if self._kept_position(path) > position:
                    return False
                text = data.decode()
                record = {"version": 1, "position": position, "sha256": sha256(data).hexdigest(), "state": text}
                write_file(path, json.dumps(record).encode(), mode=0o600)
                return True

    def _kept_position(self, path: Path) -> int:
        try:
            return _parse(path.read_bytes())[0] if not owned(path) else -1
        except (OSError, ValueError):
            return -1

    def _path(self, name: str) -> Path:
        return self._folder / f"{_checked(name)}.json"


def _parse(raw: bytes) -> tuple[int, bytes]:
    if len(raw) > STATE_BYTES:
        raise ValueError("too big")
    record = json.loads(raw)
    text = record["state"].encode() if isinstance(record, dict) and isinstance(record.get("state"), str) else None
    if text is None or record.get("version") != 1 or not isinstance(record.get("position"), int):
        raise ValueError("not a state file")
    if sha256(text).hexdigest() != record.get("sha256"):
        raise ValueError("its digest does not match")
    return record["position"], text


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise LivecfgError(f"{name!r} is not a name for a file of livecfg")
    return name


def fitting(content: dict[str, Any]) -> bytes:
    """Write a report, without its counts where they would make it too large: what is served matters more."""
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    for name in ("signals", "exposures"):
        if len(data) > REPORT_BYTES:
            if name not in _TOLD:  # once: a report is written every second
                _TOLD.add(name)
                log.warning("a report has %d bytes, and %d are kept: it goes without its %s", len(data), REPORT_BYTES, name)
            content = {key: value for key, value in content.items() if key != name}
            data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return data


class Reports:
    """`processes/<boot>.json`: each process writes its own by rename, the fetcher reads all and removes the dead ones'."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, boot: str, data: bytes) -> None:
        """Replace this process's report.

        Raises:
            FetchError: it cannot be written, or is over 256 KiB.

        """
        if len(data) > REPORT_BYTES:
            raise LivecfgError(f"a report has {len(data)} bytes; at most {REPORT_BYTES} are kept")
        with translating("writing a report"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._folder / f"incoming-{_checked(boot)}"
            beside.write_bytes(data)  # no fsync: a report that a power cut loses is written again in seconds
            beside.replace(self._folder / f"{boot}.json")

    def read(self) -> dict[str, bytes]:
        """Give every report by boot id; unreadable or oversized ones are left out."""
        found: dict[str, bytes] = {}
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return found
        for path in paths:
            try:
                if path.stat().st_size <= REPORT_BYTES:
                    found[path.stem] = path.read_bytes()
            except OSError:
                continue  # its process replaced or removed it just now
        return found

    def remove(self, boot: str) -> None:
        """Forget a report."""
        with translating("removing a report"):
            (self._folder / f"{_checked(boot)}.json").unlink(missing_ok=True)

    def sweep(self, is_dead: Callable[[bytes], bool]) -> list[str]:
        """Remove the reports `is_dead` says so of, and give their boot ids."""
        dead = [boot for boot, data in self.read().items() if is_dead(data)]
        for boot in dead:
            self.remove(boot)
        return dead
