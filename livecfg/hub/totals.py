"""Totals: what all processes counted of an arm, brought forward with every row, so that asking costs what there are arms."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

from livecfg.hub._pb import hub_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Key = tuple[str, ...]
N = TypeVar("N", int, float)
_MOST = 1 << 62
"""A store's integers have 64 bits; who counts beyond that is no honest process."""
_MOST_SUM = 1e308
_AT_ONCE = 1000


def row_key(row: hub_pb2.ArmCounts) -> Key:
    """Give what tells a row from others: one arm's exposures, or one metric of it, of one process, in one of its lives."""
    return row.kind, row.name, counter_of(row), row.phase, row.arm, row.metric


def counter_of(row: hub_pb2.ArmCounts) -> str:
    """Name who counted from zero: a process, and which life of the row; no boot has a line feed, for all are made printable."""
    return f"{row.boot}\n{row.life}" if row.life else row.boot


def total_key(row: hub_pb2.ArmCounts) -> Key:
    """Give what tells a total from others: as `row_key`, of all processes of one service and env."""
    return row.kind, row.name, row.service, row.env, row.phase, row.arm, row.metric


def events_of(row: hub_pb2.ArmCounts) -> int:
    """Say how much was counted: of two reports of one row the one with more is the newer."""
    return sum(row.observations) + sum(row.units)


class Totals:
    """The totals of some rows; `read` gives the total of a key as it is, None where there is none yet."""

    def __init__(self, read: Callable[[Key], hub_pb2.ArmCounts | None]) -> None:
        self._read = read
        self._known: dict[Key, _Total] = {}

    def put(self, row: hub_pb2.ArmCounts, old: hub_pb2.ArmCounts | None) -> None:
        """Count a row in the place of what was known of it."""
        if old is not None:
            self._total(old).take_away(old)
        self._total(row).add(row)

    def _total(self, row: hub_pb2.ArmCounts) -> _Total:
        key = total_key(row)
        known = self._known.get(key)
        if known is None:
            names = dict(zip(("kind", "name", "service", "env", "phase", "arm", "metric"), key, strict=True))
            known = self._known[key] = _Total(self._read(key) or hub_pb2.ArmCounts(**names))  # type: ignore[arg-type]  # all of them texts
        return known

    def all(self) -> list[hub_pb2.ArmCounts]:
        """Give those that were touched, as they are now."""
        return [total.settled() for total in self._known.values()]


class _Total:
    """One total, and rows to add and to take away: many at once, since Python adds columns faster than rows."""

    def __init__(self, total: hub_pb2.ArmCounts) -> None:
        self._total = total
        self._more: list[hub_pb2.ArmCounts] = []
        self._less: list[hub_pb2.ArmCounts] = []

    def add(self, row: hub_pb2.ArmCounts) -> None:
        self._more.append(row)
        if len(self._more) >= _AT_ONCE:
            self.settled()

    def take_away(self, row: hub_pb2.ArmCounts) -> None:
        self._less.append(row)

    def settled(self) -> hub_pb2.ArmCounts:
        total, more, less = self._total, self._more, self._less
        self._more, self._less = [], []
        total.processes += len(more) - len(less)
        total.at = max([total.at, *(row.at for row in more)])
        total.units[:] = _counts(total.units, [r.units for r in more], [r.units for r in less])
        total.observations[:] = _counts(total.observations, [r.observations for r in more], [r.observations for r in less])
        sums = _added(total.sums, [r.sums for r in more], [r.sums for r in less])
        total.sums[:] = [max(-_MOST_SUM, min(value, _MOST_SUM)) for value in sums]
        return total


def _counts(base: Sequence[int], more: Sequence[Sequence[int]], less: Sequence[Sequence[int]]) -> list[int]:
    return [max(0, min(count, _MOST)) for count in _added(base, more, less)]


def _added(base: Sequence[N], more: Sequence[Sequence[N]], less: Sequence[Sequence[N]]) -> list[N]:
    """Add by group; those that a row does not have are 0."""
    added, taken = (map(sum, zip_longest(*rows, fillvalue=0)) for rows in ([base, *more], less))
    return [a - t for a, t in zip_longest(added, taken, fillvalue=0)]
