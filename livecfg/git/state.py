"""States: the last good commit of each service of this host, beside the mirror.

A state file spares the walk from the anchor, so it is believed only when nobody but this process's user could have written it,
and it only moves forwards.
"""

from __future__ import annotations

import json
import logging
import os
import re
from hashlib import sha256
from typing import TYPE_CHECKING

from livecfg.errors import LivecfgError
from livecfg.git.faults import raise_shortage, translating
from livecfg.git.files import write_file
from livecfg.git.lock import exclusive

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

STATE_BYTES = 1024 * 1024
_OTHERS_MAY_WRITE = 0o022
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,199}\Z")


def checked(name: str) -> str:
    """Give a name back that may be one of a file here: of a service, an instance, a process.

    Raises:
        LivecfgError: it may not.

    """
    if not _NAME.match(name):
        raise LivecfgError(f"{name!r} is not a name for a file of livecfg")
    return name


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
        """Give what was saved; None when there is nothing or it cannot be trusted, which is logged.

        Raises:
            ShortageError: it cannot be read just now. Rollback attack: to go on without would forget what was applied.

        """
        path = self._path(name)
        try:
            why = owned(path, self._folder, self._folder.parent)
            position, text = _parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise_shortage(f"reading state {name}", error)
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
        path, wanted = self._path(name), (position, data)
        with translating(f"writing state {name}"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Every process of a service comes to the same state at the same moment: one writes, the others find it written.
            if self._kept(path) == wanted:
                return True
            with exclusive(path.with_suffix(".lock-file")):
                kept = self._kept(path)
                if kept != wanted and kept[0] <= position:
                    record = {"version": 1, "position": position, "sha256": sha256(data).hexdigest(), "state": data.decode()}
                    write_file(path, json.dumps(record).encode(), mode=0o600)
                return kept[0] <= position

    def _kept(self, path: Path) -> tuple[int, bytes]:
        try:
            return _parse(path.read_bytes()) if not owned(path) else (-1, b"")
        except (OSError, ValueError) as error:
            raise_shortage(f"reading {path.name}", error)  # what is kept may be further along
            return -1, b""

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked(name)}.json"


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
