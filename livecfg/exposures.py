"""Exposures: which unit was shown which arm, and what came of it: counts for reports, events for the application's sinks.

A unit counts once per assignment and arm while it is remembered, and is told to sinks once per revision as well. Counts are
kept per group of units: `flags.statistics` says why. They only grow, from zero in every process and every life of a row, so that
reports may be lost, repeated or reordered; no report holds a unit. An outcome counts for the arm that its unit was shown in this
process.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.flags.statistics import GROUPS, Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from livecfg.flags.assignment import Assignment, Key, Kind
    from livecfg.revision import Revision

log = logging.getLogger(__name__)

UNITS_KEPT = 50_000
"""About 15 MB. A unit that was forgotten and comes back counts again; the intervals of `exp show` allow for it."""
_UNIT_CHARS = 64
_EVENTS_KEPT = 10_000
_ROWS_KEPT = 1000
"""Some 2 MB; 8 when all their numbers are large."""


class Exposure(NamedTuple):
    """One unit was shown one arm: what sinks are given."""

    kind: Kind
    name: str
    """Of the split or experiment."""
    arm: str
    flag: str
    """The key of the flag that was read; of a split its name."""
    unit: object
    revision: Revision
    at: float
    """Unix seconds."""
    flag_set: str = ""
    """`flagSetId` in the metadata of the flag."""


class _Seen:
    """What is remembered of one unit under one assignment."""

    __slots__ = ("arm", "commit", "group", "met")

    def __init__(self, arm: str, group: int) -> None:
        self.arm = arm
        self.group = group
        self.commit = ""
        self.met: set[str] = set()
        """The metrics that it has an event of."""


class _Row(Sums):
    """The counts of one arm, or of one metric in it; of outcomes that met no arm only the first number of `units`."""

    __slots__ = ("life", "used")

    def __init__(self, life: int) -> None:
        super().__init__()
        self.life = life
        """How many rows were forgotten before it began; so another number when it begins again, at zero."""
        self.used = 0
        """The number of the event that changed it last."""


class Exposures:
    """Counts by (assignment, arm, metric), bounded in units, rows and events. Never raises into the application."""

    def __init__(self, units_kept: int = UNITS_KEPT) -> None:
        self.sinks: list[Callable[[Sequence[Exposure]], None]] = []
        self._units_kept = units_kept
        self.reset()

    def reset(self) -> None:
        """Begin at zero: in a forked child, whose parent goes on counting what was counted so far."""
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        self._units: OrderedDict[tuple[Key, str | bytes], _Seen] = OrderedDict()
        self._rows: dict[tuple[Key, str, str], _Row] = {}
        self._uses = self._reported = self._forgotten = self._unreported = 0
        self._events: deque[Exposure] = deque()
        self._lost = 0

    # --- called by readers --------------------------------------------------------------------------------------------

    def expose(self, assignment: Assignment, arm: str, unit: object, revision: Revision, flag: str) -> None:
        """Record that a unit was shown an arm."""
        try:
            key, known_as = assignment.key, _known_as(unit)
            seen = self._units.get((key, known_as))  # without the lock: an entry is never taken apart, only forgotten
            if seen is not None and seen.arm == arm and seen.commit == revision.commit:
                return
            with self._lock:
                self._expose(assignment, arm, unit, known_as, revision, flag)
        except Exception as error:  # noqa: BLE001 - a unit of any kind, such as one that cannot be hashed
            log.debug("dropped an exposure: %s", type(error).__name__)

    def _expose(
        self, assignment: Assignment, arm: str, unit: object, known_as: str | bytes, revision: Revision, flag: str
    ) -> None:
        key = assignment.key
        seen = self._units.get((key, known_as))
        if seen is None or seen.arm != arm:
            seen = self._units[key, known_as] = _Seen(arm, _group(unit))
            self._row(key, arm, "").add_unit(seen.group)
            if len(self._units) > self._units_kept:
                self._units.popitem(last=False)
        elif seen.commit == revision.commit:
            return
        seen.commit = revision.commit
        self._units.move_to_end((key, known_as))
        if self.sinks:
            if len(self._events) >= _EVENTS_KEPT:
                self._events.popleft()
                self._lost += 1
            event = Exposure(key.kind, key.name, arm, flag, unit, revision, time.time(), assignment.flag_set)
            self._events.append(event)

    def outcome(self, assignment: Assignment, metric: str, value: float, unit: object) -> None:
        """Record one value of a metric for the arm that its unit was shown."""
        try:
            if not isinstance(value, int | float) or not math.isfinite(value):
                return
            key, known_as = assignment.key, _known_as(unit)
            with self._lock:
                seen = self._units.get((key, known_as))
                if seen is None:
                    self._row(key, "", metric).units[0] += 1
                    return
                sums = self._row(key, seen.arm, metric)
                sums.add(seen.group, value)
                if value > 0 and metric not in seen.met:
                    seen.met.add(metric)
                    sums.add_unit(seen.group)
        except Exception as error:  # noqa: BLE001 - as above
            log.debug("dropped an outcome: %s", type(error).__name__)

    def _row(self, key: Key, arm: str, metric: str) -> _Row:
        row = self._rows.get((key, arm, metric))
        if row is None:
            if len(self._rows) >= _ROWS_KEPT:
                self._forget_one()
            row = self._rows[key, arm, metric] = _Row(self._forgotten)
        self._uses += 1
        row.used = self._uses
        return row

    def _forget_one(self) -> None:
        """Forget the row that was unchanged for longest, such as of an experiment or a phase that ended: reports had it."""
        oldest = min(self._rows, key=lambda name: self._rows[name].used)
        self._unreported += self._rows.pop(oldest).used > self._reported
        self._forgotten += 1

    # --- called by livecfg's thread -----------------------------------------------------------------------------------

    @property
    def rows_made(self) -> int:
        """How many rows ever began."""
        return self._forgotten + len(self._rows)

    def counts(self) -> list[dict[str, Any]]:
        """Give what a report carries, JSON-ready: no units, no values of configuration.

        An empty metric: the exposures themselves. An empty arm: outcomes of units that were shown none here. `changed` is a
        greater number after each change.
        """
        with self._lock:
            rows = [
                {**key._asdict(), "arm": arm, "metric": metric, "life": row.life, "changed": row.used}
                | {"units": row.units.copy() if arm else row.units[:1]}
                | ({"observations": row.observations.copy(), "sums": row.values.copy()} if arm and metric else {})
                for (key, arm, metric), row in self._rows.items()
            ]
            self._reported = self._uses
            unreported, self._unreported = self._unreported, 0
        if unreported:
            log.warning("over %d counts at once: %d were forgotten before any report had them", _ROWS_KEPT, unreported)
        return rows

    def deliver(self) -> None:
        """Give every sink what is new; what a sink raises is logged, no more."""
        if not self._events:
            return
        with self._lock:
            events, self._events = tuple(self._events), deque()
            lost, self._lost = self._lost, 0
        if lost:
            log.warning("%d exposures came faster than the sinks took them and are lost to them; the counts have them", lost)
        for sink in tuple(self.sinks):
            try:
                sink(events)
            except Exception:
                name = getattr(sink, "__qualname__", type(sink).__name__)
                log.exception("the sink %s failed with %d exposures", name, len(events))


def _known_as(unit: object) -> str | bytes:
    """Give what a unit is remembered as: a short text as it stands, of all else a digest.

    Callers choose their units: texts may be of any size, and numbers can be chosen whose hashes are all the same.
    """
    if type(unit) is str and len(unit) <= _UNIT_CHARS:
        return unit
    from hashlib import blake2b  # noqa: PLC0415 - as below

    hash(unit)  # what may change is no unit
    return blake2b(f"{type(unit).__name__}:{unit}".encode(errors="surrogatepass"), digest_size=16).digest()


def _group(unit: object) -> int:
    """Give the group of a unit, the same in every process, and independent of the arm that it drew."""
    from mmh3 import hash as murmur3  # noqa: PLC0415 - keeps `import livecfg` light; there since an arm was drawn

    return int(murmur3(f"livecfg group:{unit}".encode(errors="replace"), 0, signed=False)) * GROUPS >> 32
