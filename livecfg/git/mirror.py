"""Mirror: a local copy of one ref of a remote, shared by the processes of a host.

One process, elected by a file lock, asks the remote; the others follow `refs/livecfg/tip` and read the same objects. What comes
from a remote or the hub waits in memory, checked against caps, hashed and complete, until `promote` writes it: objects, then
ref, then state. The mirror never judges commits: it takes the remote's tip as it is, also after a force push.

`<home>/<source>/`: `mirror.git` the repository · `lock` the election · `state/` · `processes/` · `damaged` a complaint.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from livecfg.errors import CorruptObjectError, FetchError
from livecfg.git import graph, packing
from livecfg.git.faults import translating
from livecfg.git.local import LocalRemote, LocalSession
from livecfg.git.lock import Election, sweep
from livecfg.git.pack import PackReader
from livecfg.git.state import Reports, States
from livecfg.git.store import Store
from livecfg.git.transport import Deadline, connect
from livecfg.git.wire import OldProtocolError
from livecfg.revision import Candidate

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from livecfg.git.pack import Content
    from livecfg.git.source import GitSource
    from livecfg.git.transport import Remote
    from livecfg.revision import Kind

log = logging.getLogger(__name__)

_CACHE_ENTRIES, _CACHE_BYTES = 50_000, 32 * 1024 * 1024


@dataclass(slots=True)
class Quarantine:
    """New objects in memory. `pack` and `offsets` are kept when one self-contained pack brought them all."""

    tip: str = ""
    objects: dict[str, Content] = field(default_factory=dict)
    pack: bytes = b""
    offsets: dict[str, int] = field(default_factory=dict)


class MirrorObjects:
    """`Objects` over a mirror: quarantine, cache of commits and trees, disk; every byte from disk is re-hashed."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._cache: dict[str, Content] = {}
        self._cached_bytes = 0

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give the content of one object.

        Raises:
            MissingObjectError, CorruptObjectError: it is not in the mirror, or is not what its id says.

        """
        found, content = self.content(object_id)
        if found != kind:
            raise CorruptObjectError(object_id, f"expected a {kind}, got a {found}")
        return content

    def content(self, object_id: str) -> Content:
        """Give kind and content of one object."""
        found = self._cache.get(object_id)
        if found is None:
            found = self._mirror.quarantined(object_id)
            if found is None:
                found = self._mirror.read_stored(object_id)
            if found[0] != "blob":
                self._keep(object_id, found)
        return found

    def _keep(self, object_id: str, found: Content) -> None:
        self._cached_bytes += len(found[1])
        if len(self._cache) >= _CACHE_ENTRIES or self._cached_bytes > _CACHE_BYTES:
            self._cache.clear()
            self._cached_bytes = len(found[1])
        self._cache[object_id] = found

    def forget(self) -> None:
        """Drop the cache."""
        self._cache.clear()
        self._cached_bytes = 0


class Mirror:
    """The mirror of `source` under `home`. Constructing does no I/O; `open` does, and so does the first use.

    Safe for use by several threads, and in a forked child, where it starts afresh without disturbing the parent.
    """

    def __init__(self, home: Path, source: GitSource) -> None:
        self.source = source
        self.folder = home / source.folder
        self.objects = MirrorObjects(self)
        self._limits = source.limits
        self._pid = 0
        self._lock = threading.RLock()
        self._quarantine = Quarantine()
        self._store = Store(self.folder / "mirror.git", self._limits.object_bytes)
        self._election = Election(self.folder / "lock")
        self._states = States(self.folder / "state")
        self.reports = Reports(self.folder / "processes")
        self._remote: Remote | LocalRemote | None = None
        self._unwritable = ""
        self._ask_for_all = False

    # -- life -------------------------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Make the folders and take part in the election; where nothing can be written, work from memory alone."""
        self._pid = os.getpid()
        try:
            with translating("making the mirror's folder"):
                for folder in (self.folder, self.folder / "state", self.folder / "processes"):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._unwritable = ""
        except FetchError as error:
            self._unwritable = str(error)
            log.warning("no mirror on disk, serving from memory: %s", error)
        self.elect()
        return self

    def close(self) -> None:
        """Let go of the lock, connections and files. What waits for promotion is written first, if it can be."""
        if self._pid == os.getpid():
            with suppress(FetchError):
                self.promote()
        self.abandon()
        self._election.resign()

    def abandon(self) -> None:
        """In a forked child: let go of what was inherited, without disturbing the parent."""
        if self._remote is not None:
            self._remote.close()
            self._remote = None
        self._store.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _here(self) -> None:
        """Notice the first use and a fork."""
        if self._pid != os.getpid():
            self._lock = threading.RLock()
            self.abandon()
            self.open()

    # -- who fetches ------------------------------------------------------------------------------------------------------

    @property
    def is_fetcher(self) -> bool:
        """Whether this process is the one of its host that asks the remote."""
        return self._election.held or bool(self._unwritable and self._pid == os.getpid())

    def elect(self) -> bool:
        """Try to become the fetcher; cheap, and True when this process is it."""
        if self.is_fetcher:
            return True
        try:
            won = self._election.elect()
        except FetchError as error:
            self._unwritable = str(error)
            log.warning("no election possible, fetching for this process alone: %s", error)
            return True
        if won:
            removed = sweep(self.folder)
            if removed:
                log.info("removed %d leftovers of an interrupted fetch", removed)
        return won

    # -- fetching ---------------------------------------------------------------------------------------------------------

    def tip(self) -> str:
        """The newest commit here, judged or not; an empty string when there is none."""
        return self._quarantine.tip or self._store.tip()

    def candidate(self, since: str | None) -> Candidate | None:
        """Give the newest commit that is already here, unless it is `since`; asks nobody."""
        self._here()
        tip = self.tip()
        return Candidate(self.source.ref, tip, self.objects) if tip and tip != since else None

    def fetch(self, since: str | None) -> Candidate | None:
        """Ask the remote (as the fetcher) or look what the fetcher brought; None when there is nothing but `since`.

        New objects stay in memory until `promote` or `save_state`, or the next fetch, writes them.

        Raises:
            FetchError: the remote did not answer well, a cap was exceeded, or nothing was fetched yet.

        """
        self._here()
        with self._lock:
            if self.elect():
                self._write_leftovers()
                self._repair()
                self._download()
            elif not self.tip():
                raise FetchError("the process that fetches for this host has brought nothing yet")
        return self.candidate(since)

    def _write_leftovers(self) -> None:
        try:
            self.promote()
        except FetchError as error:
            log.debug("still serving from memory: %s", error)

    def _download(self) -> None:
        try:
            with Deadline(self._limits) as deadline, self._connected().session(deadline) as session:
                tip = session.tip()
                if tip == self.tip():
                    return
                if self._holds(tip):
                    self._quarantine.tip = tip
                elif isinstance(session, LocalSession):
                    has = (lambda _: False) if self._ask_for_all else self._holds
                    self._receive(tip, session.objects(tip, has), b"", {})
                else:
                    have = "" if self._ask_for_all else self.tip()
                    self._receive_pack(session.pack(tip, have), tip)
        except OldProtocolError:
            self._use_old_protocol()
            self._download()

    def _connected(self) -> Remote | LocalRemote:
        if self._remote is None:
            self._remote = LocalRemote(self.source) if self.source.scheme == "file" else connect(self.source)
        return self._remote

    def _use_old_protocol(self) -> None:
        from livecfg.git.fallback import OldRemote  # noqa: PLC0415 - for servers of before 2018

        if isinstance(self._remote, OldRemote):
            raise FetchError(f"{self.source.url} speaks no protocol that livecfg knows")
        if self._remote is not None:
            self._remote.close()
        self._remote = OldRemote(self.source)

    def _holds(self, name: str) -> bool:
        return name in self._quarantine.objects or name in self._store

    def quarantined(self, object_id: str) -> Content | None:
        """An object that waits for promotion, or None."""
        return self._quarantine.objects.get(object_id)

    def accept_pack(self, data: bytes, tip: str) -> Candidate:
        """Take a pack that somebody pushed (the hub), under the same caps; it may be thin on what is here.

        Raises:
            FetchError: it is malformed, over a cap or incomplete; nothing has changed.

        """
        self._here()
        with self._lock:
            if not self._holds(tip):
                self._receive_pack(data, tip)
            self._quarantine.tip = tip
        return Candidate(self.source.ref, tip, self.objects)

    def _receive_pack(self, data: bytes, tip: str) -> None:
        reader = PackReader(data, self._limits, self.objects.content, len(tip))
        objects = reader.read()
        alone = reader.self_contained
        self._receive(tip, objects, data if alone else b"", reader.offsets if alone else {})

    def _receive(self, tip: str, objects: dict[str, Content], pack: bytes, offsets: dict[str, int]) -> None:
        """Keep new objects in memory once they are complete."""
        try:
            graph.check_closed(objects, tip, (lambda _: False) if self._ask_for_all else self._holds)
        except FetchError:
            self._ask_for_all = True  # what is here may be incomplete: next time compare with nothing
            raise
        kept = self._quarantine
        if kept.objects:
            self._quarantine = Quarantine(tip, kept.objects | objects)
        else:
            self._quarantine = Quarantine(tip, objects, pack, offsets)
        self._ask_for_all = False

    # -- the disk ---------------------------------------------------------------------------------------------------------

    def promote(self) -> None:
        """Write what was fetched: objects, then the ref. Call it once `verify` has returned, whatever `load` says then.

        Raises:
            FetchError: the disk is full or read-only; everything stays in memory and goes on working.

        """
        with self._lock:
            kept = self._quarantine
            if not kept.tip:
                return
            if self._unwritable:
                raise FetchError(self._unwritable)
            if not self._election.held:
                return  # another process writes; ours stays in memory
            with translating("writing the mirror"):
                self._store.create(len(kept.tip))
                if kept.objects:
                    self._store.add(kept.objects, kept.pack, kept.offsets)
                self._store.set_tip(kept.tip)
            self._quarantine = Quarantine()

    def discard(self) -> None:
        """Forget what was fetched and not promoted."""
        with self._lock:
            self._quarantine = Quarantine()
            self.objects.forget()

    def read_stored(self, object_id: str) -> Content:
        """Give one object from disk, re-hashed; complains to the fetcher when it is corrupt."""
        self._here()
        try:
            return self._store.read(object_id)
        except CorruptObjectError:
            self._complain()
            raise

    def _complain(self) -> None:
        with suppress(OSError):
            (self.folder / "damaged").touch()

    def _repair(self) -> None:
        """Re-clone when a process of this host has met a corrupt object."""
        if (self.folder / "damaged").exists():
            log.warning("the mirror is damaged: fetching it anew")
            self.rebuild()

    def rebuild(self) -> None:
        """Fetch everything anew beside the mirror, keep what is readable of the old one, and swap the directories.

        Raises:
            FetchError: the remote or the disk did not play along; the old mirror stays.

        """
        self._here()
        with self._lock, translating("rebuilding the mirror"):
            if not self.elect():
                raise FetchError("another process fetches for this host")
            old, old_quarantine = self._store, self._quarantine
            beside = self.folder / f"incoming-{secrets.token_hex(6)}"
            self._store, self._quarantine = Store(beside, self._limits.object_bytes), Quarantine()
            self.objects.forget()
            try:
                self._download()
                self.promote()
                packing.salvage(old, self._store)
                self._store.close()
                self._swap(beside)
            except BaseException:
                self._quarantine = old_quarantine
                shutil.rmtree(beside, ignore_errors=True)
                raise
            finally:
                self._store.close()
                old.close()
                self._store = Store(self.folder / "mirror.git", self._limits.object_bytes)
            (self.folder / "damaged").unlink(missing_ok=True)

    def _swap(self, beside: Path) -> None:
        current, outgoing = self.folder / "mirror.git", self.folder / f"outgoing-{secrets.token_hex(6)}"
        if current.exists():
            current.rename(outgoing)
        beside.rename(current)
        shutil.rmtree(outgoing, ignore_errors=True)

    # -- for the hub ------------------------------------------------------------------------------------------------------

    def build_pack(self, have: str, tip: str) -> bytes:
        """Give a thin pack that takes a client from `have` (empty: nothing) to `tip`.

        Raises:
            FetchError: an object is missing, or it would exceed the limits.

        """
        self._here()
        return packing.build_pack(self.objects, have, tip, self._limits)

    # -- state ------------------------------------------------------------------------------------------------------------

    def load_state(self, name: str) -> bytes | None:
        """Give what `save_state` kept, when it can be trusted; else None."""
        self._here()
        return self._states.load(name)

    def save_state(self, name: str, data: bytes, position: int) -> bool:
        """Promote, then keep the state of one service, only forwards; False when a newer one is kept.

        Raises:
            FetchError: the disk is full or read-only.

        """
        self._here()
        self.promote()
        return self._states.save(name, data, position)

    @property
    def watched(self) -> Path:
        """The folder to watch for a moved tip."""
        return self.folder / "mirror.git" / "refs" / "livecfg"
