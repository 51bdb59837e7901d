"""Tally: what every process counted of splits and experiments, kept in the store, added up for whoever asks.

A row is one arm's exposures, or one metric of it, of one process. Rows only grow; of two reports of a row the larger is the
newer. Nothing in them names a unit.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

from livecfg.flags.statistics import GROUPS
from livecfg.hub.report import clean
from livecfg.hub.totals import events_of, row_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livecfg.hub._pb import hub_pb2
    from livecfg.hub.stores import Store
    from livecfg.hub.totals import Key

log = logging.getLogger(__name__)

_ROWS_MOST = 20_000
_WRITTEN_MOST = 50_000
_WRITTEN_AT_ONCE = 2_000
_RESTS = 4
"""Times what writing took: so long nothing is written, and rows that change again meanwhile are written once."""
_PENDING_MOST = 100_000
"""Rows that wait for a store that does not answer."""
_ROW_BYTES = 8192
"""Of the largest that livecfg makes: 64 groups, three numbers each, and five texts."""
_COUNT_MOST = 1 << 53
KEPT_S = 400 * 86_400.0
"""Counts that nobody reported for so long are forgotten."""
KEPT_ROWS = 5_000_000
"""As are the oldest of more: some 3 GB of what livecfg makes. 10,000 processes that start anew each day stay for weeks."""
_FORGET_EVERY_S, _FORGET_EVERY_ROWS = 3_600.0, 500_000


class Tally:
    """The rows that the store does not have yet; the rest is in the store. Lives on the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[Key, hub_pb2.ArmCounts] = {}
        self._written: dict[Key, int] = {}
        self._forgot_at = 0.0
        self._rests_until = 0.0
        self._since = 0
        """Rows written since old ones were forgotten."""
        self._lock = asyncio.Lock()
        self._asking = asyncio.Lock()
        """They would wait for each other in the store, each with a thread of those that offers are made by."""
        self.rejected = 0

    def take(self, report: hub_pb2.Report, processes: Iterable[hub_pb2.Process], now: float) -> None:
        """Take the counts of a report, of those processes that the host may speak for; cheap: it runs on the event loop."""
        speakers = {process.boot: process for process in processes}
        for row in report.counts[:_ROWS_MOST]:
            process = speakers.get(row.boot)
            if process is None or row.ByteSize() > _ROW_BYTES or len(self._pending) >= _PENDING_MOST:
                self.rejected += 1  # those of an honest host come again
                continue
            key = row_key(row)
            known = self._pending.get(key)
            if events_of(row) > (events_of(known) if known is not None else self._written.get(key, 0)):
                row.service, row.env, row.at, row.processes = process.service, process.env, now, 1
                self._pending[key] = row

    async def flush(self, now: float) -> None:
        """Write what is new, off the loop and by parts: the store answers others between them.

        What the store raises comes through; nothing is lost, the next flush tries again.
        """
        async with self._lock:
            began = time.monotonic()
            if now - self._forgot_at > _FORGET_EVERY_S or self._since >= _FORGET_EVERY_ROWS:
                await self._forget(now)
            rows, self._pending = self._pending, {}
            keys = [*rows]
            try:
                while keys:
                    part = {key: rows[key] for key in keys[-_WRITTEN_AT_ONCE:]}
                    await asyncio.to_thread(self._write, [*part.values()])
                    del keys[-_WRITTEN_AT_ONCE:]
                    self._wrote(part)
            except BaseException:
                self._pending = {key: rows[key] for key in keys} | self._pending
                raise
            finally:
                self._rests_until = time.monotonic() + _RESTS * (time.monotonic() - began)

    @property
    def is_rested(self) -> bool:
        """Whether it is time to write again: what a large fleet counts costs less the more of it is written at once."""
        return time.monotonic() >= self._rests_until

    def _wrote(self, rows: dict[Key, hub_pb2.ArmCounts]) -> None:
        if len(self._written) > _WRITTEN_MOST:
            self._written.clear()  # rows that are reported again are written again, no more
        self._written |= {key: events_of(row) for key, row in rows.items()}

    async def _forget(self, now: float) -> None:
        over = await asyncio.to_thread(self._store.forget_counts, now - KEPT_S, KEPT_ROWS)
        self._forgot_at, self._since = now, 0
        if over:
            log.warning("%d rows of counts are kept; the %d oldest are in the totals alone from now on", KEPT_ROWS, over)

    def _write(self, rows: list[hub_pb2.ArmCounts]) -> None:
        """Write what can have been counted: whoever sent it is not trusted."""
        for row in rows:
            clean(row)
        sound = [row for row in rows if _is_sound(row)]
        self.rejected += len(rows) - len(sound)
        self._store.put_counts(sound)
        self._since += len(sound)

    async def ask(self, request: hub_pb2.CountsRequest) -> list[hub_pb2.ArmCounts]:
        """Give the rows of a split or an experiment that the store has, those of all processes of a service and env added.

        What was reported since the last flush is not waited for: of a large fleet that takes seconds.
        """
        async with self._asking:
            rows = await asyncio.to_thread(self._store.totals, request.kind, request.name)
        return [r for r in rows if request.service in {"", r.service} and request.env in {"", r.env}]


def _is_sound(row: hub_pb2.ArmCounts) -> bool:
    """Whether a row can be what livecfg counts."""
    counts = [*row.units, *row.observations, 0]
    lengths = {len(row.units), len(row.observations), len(row.sums)}
    return (
        row.kind in {"split", "experiment"}
        and bool(row.name)
        and max(lengths) <= GROUPS
        and min(counts) == 0
        and max(counts) < _COUNT_MOST
        and all(map(math.isfinite, row.sums))
    )
