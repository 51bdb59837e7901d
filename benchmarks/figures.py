"""Figures: one row per measurement, printed as a table or, with --json, as one object per line."""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Figure:
    """One measured number, and the peer or floor of the same run it is held against (`ratio` = value / that)."""

    figure: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the rows."""
    if "--json" in sys.argv[1:]:
        for figure in figures:
            print(json.dumps(asdict(figure)))
        return
    print(f"\n{title}")
    width = max(len(f.figure) for f in figures)
    for f in figures:
        ratio = f"{f.ratio:8.2f}x  of {f.against}" if f.ratio is not None else ""
        print(f"  {f.figure:<{width}}  {f.value:>12,.2f} {f.unit:<6}{ratio}")


def ratio(value: float, floor: float) -> float:
    """Give value / floor; NaN when the floor is zero."""
    return value / floor if floor else math.nan


def interleaved_ns(calls: dict[str, Callable[[int], None]], *, loops: int, rounds: int = 99) -> dict[str, float]:
    """CPU nanoseconds per iteration of each call, the median of the rounds; `loops` are what ten rounds of a call run.

    Rounds are short and many, so that what else the machine does hits all calls alike: with few long ones a call can have
    another machine than its floor.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    each = loops // 10 or 1
    for call in calls.values():
        call(each)
    for _ in range(rounds):
        for name, call in calls.items():
            started = process_time_ns()
            call(each)
            taken[name].append((process_time_ns() - started) / each)
    return {name: statistics.median(values) for name, values in taken.items()}


def wall_ms(call: Callable[[], object]) -> float:
    """Wall milliseconds of one call."""
    started = perf_counter_ns()
    call()
    return (perf_counter_ns() - started) / 1e6


def percentile(values: Sequence[float], percent: float) -> float:
    """The value at `percent` of the sorted values (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(percent / 100 * len(ordered)) - 1)]
