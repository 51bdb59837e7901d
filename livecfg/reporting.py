"""Reporter: the small report that a process writes of itself beside the mirror, and those of its host, for the hub."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.git.reports import EVERY_S, fitting
from livecfg.status import Condition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livecfg.git.reports import Reports
    from livecfg.layers import Process
    from livecfg.signals import Signals
    from livecfg.status import Status

_COUNTED_EVERY_S = 5.0
_DEAD_SENT_S = 30.0
_DEAD_KEPT = 500
_NAMES = ("kind", "name", "phase", "arm", "metric", "life")


class _Turn(NamedTuple):
    """What is known of one row of counts."""

    changed: int
    at: int
    """The number of the last report that had it."""
    written: bytes


class _Turns:
    """Which rows of counts a report has: all where they fit, else those that changed, then the others, each in its turn.

    A row bears the number of the report that had it first as it is (`news`), so that whoever reads them all sees what is new.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], _Turn] = {}
        self._number = 0
        self._next: list[tuple[tuple[str, ...], _Turn]] = []

    def call(self, rows: Iterable[dict[str, Any]]) -> list[bytes]:
        """Give the rows for the next report, as they are written, those first whose turn it is."""
        self._number += 1
        waiting = sorted((self._place(row), row) for row in rows)
        self._next = [(name, self._turn(name, row)) for (_, _, name), row in waiting]
        return [turn.written for _, turn in self._next]

    def _place(self, row: dict[str, Any]) -> tuple[bool, int, tuple[str, ...]]:
        """Say where a row stands: changed ones before others, who waited longest before the next."""
        name = tuple(str(row[part]) for part in _NAMES)
        known = self._known.get(name)
        return (known is not None and known.changed == row["changed"], known.at if known is not None else 0, name)

    def _turn(self, name: tuple[str, ...], row: dict[str, Any]) -> _Turn:
        known = self._known.get(name)
        if known is not None and (known.changed, known.at) == (row["changed"], self._number - 1):
            return known._replace(at=self._number)
        told = {key: value for key, value in row.items() if key != "changed"} | {"news": self._number}
        return _Turn(row["changed"], self._number, json.dumps(told, separators=(",", ":")).encode())

    def done(self, kept: int) -> None:
        """The report has so many of them; the others wait on."""
        named = {name for name, _ in self._next}
        self._known = {name: turn for name, turn in self._known.items() if name in named} | dict(self._next[:kept])


class _Counted(NamedTuple):
    """What was counted, at a time of the clock, when so many rows had been made."""

    at: float
    made: int
    signals: list[dict[str, Any]]
    rows: list[bytes]


class Reporter:
    """Writes the report of this process into `reports`, when something changed and every ten seconds; reads those of the host."""

    def __init__(self, reports: Reports, process: Process, signals: Signals, clock: Callable[[], float] = time.monotonic) -> None:
        self._reports = reports
        self._process = process
        self._signals = signals
        self._clock = clock
        self._started_at = time.time()
        self._last: tuple[float, bytes] = (0.0, b"")
        self._dead: dict[str, float] = {}
        self._turns = _Turns()
        self._counted: _Counted | None = None
        self._told: dict[str, dict[str, Any]] = {}

    def write(self, status: Status, boot: str) -> None:
        """Write what this process serves.

        Raises:
            LivecfgError: it cannot be written, or is too large.

        """
        process = self._process
        content = status.as_dict() | {
            "boot": boot,
            "pid": os.getpid(),
            "service": process.service,
            "env": process.env,
            "instance": process.instance,
            "region": process.region,
            "labels": dict(process.labels),
            "started_at": self._started_at,
            "python": sys.version.partition(" ")[0],
            "livecfg": livecfg_version(),
        }
        now = self._clock()
        counted = self._counts(now, is_last=content["condition"] == Condition.STOPPED)
        data, kept = fitting(content | {"signals": counted.signals}, counted.rows)
        self._turns.done(kept)
        if data != self._last[1] or now - self._last[0] >= EVERY_S:
            self._reports.write(boot, data)
            self._last = (now, data)

    def _counts(self, now: float, *, is_last: bool) -> _Counted:
        """Give what was counted: anew every few seconds, since in a busy process all of it has changed, and when a row is new."""
        made, known = self._signals.exposures.rows_made, self._counted
        if known is None or is_last or known.made != made or now - known.at >= _COUNTED_EVERY_S:
            rows = self._turns.call(self._signals.exposures.counts())
            known = self._counted = _Counted(now, made, self._signals.summary(), rows)
        return known

    def of_host(self, *, are_sent: bool, whole: bool = True) -> list[dict[str, Any]]:
        """As the fetcher: give every report of the host, each with whether its process is `alive`.

        Unless `whole`, those that stand as they were when they were read last come without their counts.

        Those of dead processes go along for half a minute, so that the hub has their last counts, and are removed then; while
        they cannot be sent (`are_sent` is False) they wait, 500 of them at most.
        """
        found, now = [], self._clock()
        before, self._told = self._told, {}
        for boot, data in (self._reports.read() if whole else self._reports.read_again()).items():
            alive = self._reports.is_alive(boot)
            if not alive and self._is_over(boot, now, are_sent=are_sent):
                self._reports.remove(boot)
                del self._dead[boot]
                continue
            try:
                report = before[boot] if data is None else json.loads(data)
                report = report | {"pid": int(report["pid"]), "alive": alive}
            except (ValueError, KeyError, TypeError):
                continue
            found.append(report)
            self._told[boot] = {name: value for name, value in report.items() if name not in {"signals", "exposures"}}
        return found

    def _is_over(self, boot: str, now: float, *, are_sent: bool) -> bool:
        since = self._dead.setdefault(boot, now)
        return (are_sent and now - since > _DEAD_SENT_S) or len(self._dead) > _DEAD_KEPT


@cache
def livecfg_version() -> str:
    """Give the version that is installed."""
    try:
        return version("livecfg")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "unknown"
