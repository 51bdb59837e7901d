"""StatementRef: one signed statement kept at a ref of its own beside the branches, as a commit with no parent and one file.

What is read is judged by `livecfg.trust` alone; here it is just bytes under small caps.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, MissingObjectError
from livecfg.git.graph import FOLDER, entries_of_tree, links_of_commit
from livecfg.git.intake import Intake, Upstream
from livecfg.git.pack import Entry, object_id, write_pack
from livecfg.git.push import push
from livecfg.git.source import GitSource, Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livecfg.git.pack import Content
    from livecfg.git.writer import Person

log = logging.getLogger(__name__)

FILE = b"statement"
ASK_EVERY_S = 15.0
_LIMITS = Limits(wire_bytes=256 * 1024, objects=16, inflated_bytes=64 * 1024, object_bytes=32 * 1024, delta_depth=4, time_s=20.0)


class _Source(GitSource):
    """A source whose ref is not a branch."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Its parts were checked when the source it is made from was made."""


class StatementRef:
    """Reads and replaces the statement at one ref of a remote; keeps one connection."""

    def __init__(self, source: GitSource, ref: str) -> None:
        kept = {name: getattr(source, name) for name in ("url", "auth", "auth_file", "ca_file", "ssh_command")}
        self._source = _Source(ref=ref, limits=_LIMITS, **kept)
        self._upstream = Upstream(self._source)
        self._tip = ""
        self._data: bytes | None = None

    def read(self) -> bytes | None:
        """Give the newest statement; None where the remote has no such ref.

        Raises:
            FetchError: the remote did not answer well, or the ref holds something else.

        """
        try:
            found = self._upstream.ask(self._tip, Intake(_LIMITS, _nothing, _missing))
        except FetchError as error:
            if "has no branch" in str(error):
                self._tip, self._data = "", None
                return None
            raise
        if found is not None:
            self._data = _file_of(found.tip, found.objects)
            self._tip = found.tip
        return self._data

    def publish(self, data: bytes, person: Person, now: float, id_length: int) -> None:
        """Put a statement in the place of the one that was read last.

        Raises:
            PushConflictError: somebody else has published meanwhile: read again.
            FetchError: the remote refuses, or does not answer well.

        """
        objects = statement_objects(data, person, now, id_length)
        tip = objects[-1].name
        push(self._source, self._source.full_ref, self._tip, tip, write_pack(objects, id_length)[0])
        self._tip, self._data = tip, data

    def close(self) -> None:
        """Drop the connection."""
        self._upstream.close()


def statement_objects(data: bytes, person: Person, now: float, id_length: int) -> tuple[Entry, ...]:
    """Give blob, tree and commit of a statement, in this order."""
    who = f"{person.name} <{person.email}> {int(now)} +0000"
    blob = Entry(object_id("blob", data, id_length), "blob", data)
    listing = b"100644 " + FILE + b"\0" + bytes.fromhex(blob.name)
    tree = Entry(object_id("tree", listing, id_length), "tree", listing)
    text = f"tree {tree.name}\nauthor {who}\ncommitter {who}\n\nA livecfg statement\n".encode()
    return blob, tree, Entry(object_id("commit", text, id_length), "commit", text)


class HostStatement:
    """The statement as one host sees it: its fetcher asks the remote, the hub pushes, and both are left beside the mirror.

    What the two say is kept apart, so that neither can hide what the other says.
    """

    def __init__(self, folder: Path, source: GitSource, ref: str, is_fetcher: Callable[[], bool]) -> None:
        self.folder = folder / "statements"
        """What to watch, to see a new one at once."""
        name = ref.rpartition("/")[2]
        self._files = {"remote": self.folder / name, "hub": self.folder / f"{name}-hub"}
        self._found: dict[str, bytes] = {}
        self._source, self._ref, self._is_fetcher = source, ref, is_fetcher
        self._remote: StatementRef | None = None
        self._pid = 0
        self._again = 0.0

    def read(self) -> tuple[bytes, ...]:
        """Give the newest of each way; asks the remote at most every 15 s, and only in the fetcher. Never raises."""
        if self._is_fetcher() and time.monotonic() >= self._again:
            self._again = time.monotonic() + ASK_EVERY_S
            self._ask()
        return tuple(data for data in map(self._newest, self._files) if data)

    def _newest(self, way: str) -> bytes:
        if self._is_fetcher() and way in self._found:
            return self._found[way]
        try:
            with self._files[way].open("rb") as file:
                return file.read(_LIMITS.object_bytes)
        except OSError:
            return self._found.get(way, b"")

    def put(self, data: bytes) -> None:
        """Take what the hub pushed. Never raises."""
        if len(data) <= _LIMITS.object_bytes:
            self._keep("hub", data)

    def close(self) -> None:
        """Drop the connection."""
        if self._remote is not None and self._pid == os.getpid():
            self._remote.close()
        self._remote = None

    def _ask(self) -> None:
        if self._remote is None or self._pid != os.getpid():  # a connection is never shared with a forked child
            self._remote, self._pid = StatementRef(self._source, self._ref), os.getpid()
        try:
            found = self._remote.read()
        except FetchError as error:
            log.debug("no news of %s: %s", self._ref, error)
            return
        if found is not None and found != self._found.get("remote"):
            self._keep("remote", found)

    def _keep(self, way: str, data: bytes) -> None:
        self._found[way] = data
        file = self._files[way]
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            beside = file.with_suffix(f".{os.getpid()}")
            beside.write_bytes(data)
            beside.replace(file)
        except OSError as error:  # the host's other processes ask nobody, and say STALE in time
            log.debug("cannot keep %s: %s", file, error)


def _file_of(tip: str, objects: dict[str, Content]) -> bytes:
    kind, commit = objects[tip]
    if kind == "commit":
        tree = links_of_commit(commit)[0]
        for mode, name, below in entries_of_tree(objects[tree][1], len(tip)):
            if name == FILE and mode != FOLDER:
                return objects[below][1]
    raise FetchError("the ref of a statement holds something else")


def _nothing(_: str) -> bool:
    return False


def _missing(name: str) -> Content:
    raise MissingObjectError(name)
