"""Mirror: a local copy of one ref of a remote, shared by the processes of a host.

One process, elected by a file lock, asks the remote; the others follow `refs/livecfg/tip` and read the same objects. What comes
from a remote or the hub waits in memory, checked against caps, hashed and complete, until `promote` writes it: objects, then
ref, then state. The mirror never judges commits: it takes the remote's tip as it is, also after a force push.

`<home>/<source>/`: `mirror.git` the repository · `lock` the election · `state/` · `processes/` · `damaged`, `suspect` complaints.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from livecfg.errors import CorruptObjectError, FetchError, MissingObjectError, ShortageError
from livecfg.git import maintain, packing
from livecfg.git.complaints import DAMAGED, SUSPECT, Complaints
from livecfg.git.edge import Edge
from livecfg.git.faults import translating
from livecfg.git.intake import Intake, Upstream
from livecfg.git.lock import Election, sweep
from livecfg.git.quarantine import MirrorObjects, Quarantine
from livecfg.git.reports import Reports
from livecfg.git.state import States
from livecfg.git.store import Store
from livecfg.revision import Candidate

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from livecfg.git.pack import Content
    from livecfg.git.source import GitSource

log = logging.getLogger(__name__)

_MISSED_MOST = 1000
SILENT_S = 30.0
"""After so long without a sign of life from the fetcher the others ask for themselves; it shows one every 10 s."""

ASK_AT_LEAST_S = 300.0
"""So often the remote is asked, whatever is offered meanwhile: a hub that goes on offering must not hide what Git has."""

_inherited: list[object] = []


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
        self._lock = threading.RLock()  # over what is in memory; never held while the disk writes
        self._writing = threading.RLock()  # over the disk; taken first
        self._quarantine = Quarantine()
        self._store = Store(self.folder / "mirror.git", self._limits.object_bytes)
        self.election = Election(self.folder / "lock")
        self._states = States(self.folder / "state")
        self.reports = Reports(self.folder / "processes")
        self._upstream = Upstream(source)
        self._edge = Edge(self.folder / "edge")
        self._intake = Intake(source.limits, self.holds, self.objects.content, self.objects.at_hand, self._edge)
        self._unwritable = ""
        self._complaints = Complaints(self.folder)
        self._missed: set[str] = set()
        self._maintenance = maintain.Maintenance(self._store.path, self._limits.object_bytes)
        self._offered = False
        self._moves = 0
        self.asked_s = time.monotonic()
        """When this process last asked the remote, by the monotonic clock; at the start, when it began."""

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
            if self._writing.acquire(timeout=0.5):
                with suppress(FetchError):
                    self.promote()
                self._writing.release()
            self._maintenance.stop()
            self._upstream.close()
            self._store.close()
            self.reports.close()
        self.abandon()
        self.election.resign()

    def abandon(self) -> None:
        """In a forked child: let go of what was inherited, without disturbing the parent."""
        if self._pid in {0, os.getpid()}:
            return
        # A thread of the parent may have held any lock in there when it forked, so nothing of it is called, only forgotten;
        # kept referenced, so that no finaliser runs either.
        _inherited.append((self._store, self._upstream, self._lock, self._writing, self._maintenance))
        self._pid = 0
        self._lock = threading.RLock()
        self._writing = threading.RLock()
        self._store = Store(self.folder / "mirror.git", self._limits.object_bytes)
        self._upstream = Upstream(self.source)
        self._maintenance = maintain.Maintenance(self._store.path, self._limits.object_bytes)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _here(self) -> None:
        """Notice the first use and a fork."""
        if self._pid != os.getpid():
            self.abandon()
            self.open()

    # -- who fetches ------------------------------------------------------------------------------------------------------

    @property
    def is_fetcher(self) -> bool:
        """Whether this process is the one of its host that asks the remote."""
        return self.election.held or bool(self._unwritable and self._pid == os.getpid())

    def elect(self) -> bool:
        """Try to become the fetcher; cheap, and True when this process is it.

        Raises:
            ShortageError: no file can be opened just now; a later try may succeed.

        """
        if self.is_fetcher:
            return True
        try:
            won = self.election.elect()
        except ShortageError:
            raise  # it passes: no reason to work from memory until the end
        except FetchError as error:
            self._unwritable = str(error)
            log.warning("no election possible, fetching for this process alone: %s", error)
            return True
        if won:
            self._read_edge()
            removed = sweep(self.folder)
            if removed:
                log.info("removed %d leftovers of an interrupted fetch", removed)
        return won

    def _read_edge(self) -> None:
        try:
            self._edge.read()
        except ShortageError:
            self.election.resign()  # the holder reads it once, when it wins
            raise

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

        What the hub has pushed meanwhile comes first, without asking anybody. New objects stay in memory until `promote` or
        `save_state`, or the next fetch, writes them.

        Raises:
            FetchError: the remote did not answer well, a cap was exceeded, or nothing was fetched yet.

        """
        self._here()
        offered, self._offered = self._has_offer, False
        if offered:
            return self.candidate(since)  # None when that was taken over before whoever offered it had called
        if self.elect():
            self._write_leftovers()
            self._repair()
            try:
                self._download()
            except FetchError:
                if not self._has_offer or self.tip() == since:
                    raise
                # Cut short by an offer: whoever offered calls once more, and the next `fetch` need not ask for that.
            finally:
                self._evict_strangers()
        elif self.is_alone():
            self._download()  # stays in memory: the lock, and the disk, are still the other's
        elif not self.tip():
            raise FetchError("the process that fetches for this host has brought nothing yet")
        return self.candidate(since)

    def _evict_strangers(self) -> None:
        """Take away what does not belong into the mirror; where something is new that goes first, and `promote` does this."""
        if not self._quarantine.tip:
            self._complaints.evict_strangers(len(self._store.tip()))  # not of one that is just being made

    def is_alone(self) -> bool:
        """Tell whether this process must ask although another fetches: that one is stopped, or not yet as far as this one."""
        ahead = self._quarantine
        if ahead.tip and not self.is_fetcher and ahead.tip in self._store:
            with self._lock:
                if self._quarantine is ahead:
                    self._quarantine = ahead = Quarantine()
        return not self.is_fetcher and (bool(ahead.tip) or self.election.silent_s() > SILENT_S)

    def begin_at(self, commit: str) -> None:
        """Where nothing is here, let the first `fetch` leave out what lies below a commit; once it is missed, it is fetched."""
        if not self.tip() and self.election.held:
            self._edge.commit = commit

    def look_again(self) -> None:
        """Let the next `fetch` give what is here, without asking anybody."""
        self._offered = True

    @property
    def _has_offer(self) -> bool:
        return self._offered and time.monotonic() - self.asked_s < ASK_AT_LEAST_S

    def _write_leftovers(self) -> None:
        if not self._writing.acquire(blocking=False):
            return  # somebody is at it
        try:
            self.promote()
        except FetchError as error:
            log.debug("still serving from memory: %s", error)
        finally:
            self._writing.release()

    def _download(self) -> None:
        """One conversation with the remote. It holds no lock, so that a pushed pack need not wait for a slow remote."""
        if not self.election.held:
            self._edge.read()  # the fetcher's, in whose place this process asks
        elif self._edge.commit and not self.tip():
            first = self._upstream.begin(self._intake)
            with self._lock:
                self._edge.forget() if first is None else self._keep(first)
        moves = self._moves
        self.asked_s = time.monotonic()
        found = self._upstream.ask(self.tip(), self._intake)
        if found is not None:
            with self._lock:
                if moves == self._moves:  # else a newer tip was pushed while the remote was being asked
                    self._keep(found)

    def holds(self, object_id: str) -> bool:
        """Tell whether an object is here, in memory or on disk."""
        return object_id in self._quarantine.objects or object_id in self._store

    def quarantined(self, object_id: str) -> Content | None:
        """An object that waits for promotion, or None."""
        return self._quarantine.objects.get(object_id)

    def accept_pack(self, data: bytes, tip: str) -> Candidate:
        """Take a pack that somebody pushed (the hub), under the same caps; it may be thin on what is here.

        The next `fetch` gives it at once. A conversation with a slow remote is cut short.

        Raises:
            FetchError: it is malformed, over a cap or incomplete; nothing has changed.

        """
        self._here()
        found = self._intake.pack(data, tip)
        with self._lock:
            self._keep(found)
            self._offered = True
        self._upstream.cut()
        return Candidate(self.source.ref, tip, self.objects)

    def _keep(self, found: Quarantine) -> None:
        kept = self._quarantine
        if kept.objects:
            found = Quarantine(found.tip, kept.objects | found.objects)
        self._quarantine = found
        self._moves += 1

    # -- the disk ---------------------------------------------------------------------------------------------------------

    def promote(self) -> None:
        """Write what was fetched: objects, then the ref. Call it once `verify` has returned, whatever `load` says then.

        Raises:
            FetchError: the disk is full or read-only; everything stays in memory and goes on working.

        """
        with self._writing:
            kept = self._quarantine
            if not kept.tip:
                return
            if self._unwritable:
                raise FetchError(self._unwritable)
            if not self.election.held:
                return  # another process writes; ours stays in memory
            with translating("writing the mirror"):
                self._store.create(len(kept.tip))
                if kept.objects:
                    self._store.add(kept.objects, kept.pack, kept.offsets)
                self._edge.write()
                self._store.set_tip(kept.tip)
            self._complaints.evict_strangers(len(kept.tip))
            with self._lock:
                self._quarantine = self._quarantine.without(kept)
            self._maintenance.start_when_due()

    def read_stored(self, object_id: str) -> Content:
        """Give one object from disk, re-hashed; complains to the fetcher when it is corrupt."""
        self._here()
        try:
            return self._store.read(object_id)
        except CorruptObjectError:
            self._complaints.leave(DAMAGED)
            raise
        except MissingObjectError:
            if object_id not in self._missed and len(self._missed) < _MISSED_MOST:
                self._missed.add(object_id)
                self._complaints.leave(SUSPECT)
            raise

    @property
    def is_damaged(self) -> bool:
        """Whether a process of this host complained: the fetcher's next `fetch` looks into it."""
        return not self._unwritable and self._complaints.has(DAMAGED, SUSPECT)

    @property
    def has_folder(self) -> bool:
        """Whether there is a place on disk; without one it serves from memory."""
        return not self._unwritable

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know of the mirror: that there is none, that it is damaged, or was a short while ago."""
        return self._complaints.notes(self._unwritable)

    def _repair(self) -> None:
        """Re-clone when a process of this host has met a corrupt object, or missed one that the tip reaches."""
        if self._unwritable:
            return  # nothing on disk is used, and the folder may not even be looked into
        if self._complaints.take(SUSPECT) and self._is_incomplete():
            self._complaints.leave(DAMAGED)
        if self._complaints.has(DAMAGED):
            what = "began at a checkpoint, older history was needed" if self._edge.commit else "was damaged"
            self.rebuild()
            self._complaints.tell(f"the mirror {what}, and was fetched anew")

    def _is_incomplete(self) -> bool:
        try:
            return packing.is_incomplete(self.objects, self.tip())
        except ShortageError:
            self._complaints.leave(SUSPECT)  # to be looked into once files can be opened again
            raise

    def rebuild(self) -> None:
        """Fetch everything anew beside the mirror, keep what is readable of the old one, and swap the directories.

        Raises:
            FetchError: the remote or the disk did not play along; the old mirror stays.

        """
        self._here()
        with self._writing, self._lock, translating("rebuilding the mirror"):
            if not self.elect():
                raise FetchError("another process fetches for this host")
            beside = self.folder / f"incoming-{secrets.token_hex(6)}"
            fresh = Store(beside, self._limits.object_bytes)
            try:
                found = self._upstream.ask("", Intake(self._limits, fresh.__contains__, fresh.read)) or Quarantine()
                fresh.create(len(found.tip))
                fresh.add(found.objects, found.pack, found.offsets)
                fresh.set_tip(found.tip)
                packing.salvage(self._store, fresh)
                self._swap(beside)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            finally:
                fresh.close()
                self._store.close()
            self._quarantine = Quarantine()
            self._moves += 1
            self.objects.forget()
            self._edge.forget()
            self._complaints.take(DAMAGED)

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
