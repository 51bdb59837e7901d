"""Fleet: the newest report of every process, whose it is, and when it was last heard of. It holds no configuration."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from livecfg.hub._pb import hub_pb2
from livecfg.hub.report import clean

if TYPE_CHECKING:
    from livecfg.hub.access import Credential
    from livecfg.hub.stores import Store

log = logging.getLogger(__name__)

FORGET_S = 600.0
LOST = "LOST"
_PROCESSES_MOST = 1000
_WRITTEN_AT_ONCE = 500
_OF_ONE_MOST = 100_000
"""Processes of one credential: hosts that come and go under ever new names fill no more of the hub's memory."""


class Host:
    """One stream's end: who speaks, for which processes, what it has and what it was offered."""

    __slots__ = ("boots", "credential", "have", "name", "offered", "offered_at", "waiting")

    def __init__(self, credential: Credential, name: str, have: str) -> None:
        self.credential = credential
        self.name = name
        self.have = have
        self.offered = ""
        self.offered_at = 0.0
        self.waiting = False
        """An offer went out and was not answered: nothing else is offered until it is."""
        self.boots: set[str] = set()

    def wants(self, tip: str) -> bool:
        """Whether this tip should be offered now."""
        return bool(tip) and not self.waiting and tip not in {self.have, self.offered}

    def answer(self, have: str) -> None:
        """Take what the host says it has, after an offer."""
        self.have, self.waiting = have, False


class Fleet:
    """Every process by boot id. Lives on the event loop; only `write` may run elsewhere."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, hub_pb2.Process] = {}
        self._of: dict[str, OrderedDict[str, None]] = {}
        """Boot ids by credential, those of lost processes first."""
        self._speaker: dict[str, Host] = {}
        for process in store.all():
            process.condition = LOST  # until its host is back
            self._keep(process)
        self._dirty: set[str] = set(self._known)
        self._changed = asyncio.Event()
        self._began = 0.0
        """When it was first written: while there was no hub nobody could be heard of."""
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._known)

    def take(self, report: hub_pb2.Report, host: Host, now: float) -> list[hub_pb2.Process]:
        """Take a host's report: of its own processes only, and only of the service its credential may speak for; gives those."""
        boots, taken, rejected = set(), [], self.rejected
        self.rejected += max(0, len(report.processes) - _PROCESSES_MOST)
        for process in report.processes[:_PROCESSES_MOST]:
            clean(process)
            serves = process.alive and process.condition != "STOPPED"
            if not self._may_report(process, host) or (serves and not self._has_room(process.boot, host.credential)):
                self.rejected += 1
                continue
            process.host, process.credential, process.seen_at = host.name, host.credential.name, now
            boots.add(process.boot)
            taken.append(process)
            self._speaker[process.boot] = host
            if serves:
                self._keep(process)
            else:
                self._forget(process.boot)
        if self.rejected > rejected:  # said once, however many there are
            words = "%s (%s) reported %d processes of others, or beyond the most of a report or a credential: dropped"
            log.warning(words, host.name, host.credential.name or "anybody", self.rejected - rejected)
        for boot in self._spoken_for(host.boots - boots, host):
            self._forget(boot)
        self._dirty |= boots | host.boots
        host.boots = boots
        self.touch()
        return taken

    def _may_report(self, process: hub_pb2.Process, host: Host) -> bool:
        if host.credential.service not in {"", process.service}:
            return False
        known = self._known.get(process.boot)
        return known is None or (known.credential, known.host) == (host.credential.name, host.name)

    def seen(self, host: Host, now: float) -> None:
        """The stream is up: its processes are known to be there, although nothing changed."""
        for boot in host.boots:
            if process := self._known.get(boot):
                process.seen_at = now

    def lost(self, host: Host) -> None:
        """Keep what a host said last, marked: it may serve on without a hub."""
        for boot in self._spoken_for(host.boots, host):
            del self._speaker[boot]
            if process := self._known.get(boot):
                process.condition, process.reason = LOST, "the host's stream ended; last known state"
                self._of[process.credential].move_to_end(boot, last=False)
                self._dirty.add(boot)
        self.touch()

    def _spoken_for(self, boots: set[str], host: Host) -> list[str]:
        """Those of the boots that this very stream spoke for last: a host may have come back on another one."""
        return [boot for boot in boots if self._speaker.get(boot) is host]

    def _keep(self, process: hub_pb2.Process) -> None:
        self._known[process.boot] = process
        of = self._of.setdefault(process.credential, OrderedDict())
        of[process.boot] = None
        of.move_to_end(process.boot)

    def _has_room(self, boot: str, credential: Credential) -> bool:
        """Whether one more process of a credential is kept; a lost one makes room for it."""
        of = self._of.get(credential.name, ())
        if boot in of or len(of) < _OF_ONE_MOST:
            return True
        first = next(iter(of))
        if self._known[first].condition != LOST:
            return False
        self._forget(first)
        self._dirty.add(first)
        return True

    def _forget(self, boot: str) -> None:
        self._speaker.pop(boot, None)
        process = self._known.pop(boot, None)
        if process is not None:
            of = self._of[process.credential]
            del of[boot]
            if not of:
                del self._of[process.credential]

    # --- asking -------------------------------------------------------------------------------------------------------

    def find(self, service: str, env: str, credential: Credential) -> list[hub_pb2.Process]:
        """Give the processes of a service and environment (empty: of all), as far as the credential may see them."""
        mine = {"", credential.service}
        return [
            p
            for p in self._known.values()
            if service in {"", p.service} and env in {"", p.env} and (credential.service == "" or p.service in mine)
        ]

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change; take it before asking."""
        return self._changed

    def touch(self) -> None:
        """Wake whoever watches."""
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    def conditions(self) -> dict[str, int]:
        """How many processes are in which condition."""
        counts: dict[str, int] = {}
        for process in self._known.values():
            counts[process.condition] = counts.get(process.condition, 0) + 1
        return counts

    # --- keeping ------------------------------------------------------------------------------------------------------

    async def flush(self, now: float) -> None:
        """Write what changed to the store, off the loop, and forget processes not heard of for ten minutes.

        Not those whose stream is up: when the clock steps ahead, everybody was heard of long ago. What the store raises comes
        through; nothing is lost by it, and the next flush tries again.
        """
        self._began = self._began or now
        gone = [b for b, p in self._known.items() if b not in self._speaker and max(p.seen_at, self._began) < now - FORGET_S]
        for boot in gone:
            self._forget(boot)
        if gone:
            self.touch()
        dirty, self._dirty = [*(self._dirty | set(gone))], set()
        try:
            while dirty:  # by parts: of thousands that changed at once, streams would wait for the last
                part = dirty[-_WRITTEN_AT_ONCE:]
                reports = [self._known[boot].SerializeToString() for boot in part if boot in self._known]
                await asyncio.to_thread(self._write, reports, [boot for boot in part if boot not in self._known])
                del dirty[-_WRITTEN_AT_ONCE:]
        except BaseException:
            self._dirty |= set(dirty)
            raise

    def _write(self, reports: list[bytes], removed: list[str]) -> None:
        if reports:
            self._store.put(map(hub_pb2.Process.FromString, reports))
        if removed:
            self._store.remove(removed)
