"""The Recorder behind `view.measure` and `observe`: cumulative counters and histograms per revision; exposures beside them.

A value goes into one log-bucket histogram (1 % relative error, integer counts, exactly mergeable: Masson, Rim, Lee, "DDSketch",
VLDB 2019). Counters only grow and are keyed by revision, so that reports may be lost, repeated or reordered. Recording takes
well under a microsecond beyond its lock and never raises into the application.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import threading
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Self, TypeVar

from livecfg.exposures import Exposures

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from livecfg.flags.assignment import Assignment
    from livecfg.revision import Revision

log = logging.getLogger(__name__)

F = TypeVar("F", bound="Callable[..., Any]")
_LOG_GAMMA = math.log(1.01 / 0.99)  # 1 % relative error
_REVISIONS_KEPT = 4
_METRICS_KEPT = 200
_NAME_CHARS = 200


class Series:
    """One metric of one revision: how many values, their sum, and their log buckets (`None` holds values ≤ 0)."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.buckets: Counter[int | None] = Counter()

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self.total += value
        self.buckets[math.ceil(math.log(value) / _LOG_GAMMA) if value > 0 else None] += 1

    def quantile(self, q: float) -> float:
        """Give the value below which a share `q` of all values lies, within 1 %; NaN when there are none."""
        rank = q * (self.count - 1)
        seen = 0
        for bucket, count in sorted(self.buckets.items(), key=lambda item: -math.inf if item[0] is None else item[0]):
            seen += count
            if seen > rank:
                return 0.0 if bucket is None else 2 * math.exp(bucket * _LOG_GAMMA) / (1 + math.exp(_LOG_GAMMA))
        return math.nan


class Signals:
    """A Recorder that keeps the last four revisions; `summary()` gives what a report carries, `exposures` its own."""

    def __init__(self) -> None:
        self.exposures = Exposures()
        self.reset()

    def reset(self) -> None:
        """Begin at zero: in a forked child, whose parent goes on counting what was counted so far."""
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        self._series: OrderedDict[str, dict[str, Series]] = OrderedDict()
        self.exposures.reset()

    def measure(self, name: str, observe: Callable[[str, float], None]) -> Measurement:
        """Observe `<name>.latency` in seconds and `<name>.error` when an exception escapes."""
        return Measurement(observe, name)

    def observe(self, metric: str, value: float, revision: Revision) -> None:
        """Record one value; what is not a finite number under a printable name is dropped. Never raises."""
        try:
            value = float(value) if isinstance(value, int | float) else math.nan
            if math.isfinite(value):
                self._observe(metric, value, revision)
            else:
                log.debug("dropped a value that is not a finite number")
        except Exception as error:  # noqa: BLE001 - an integer that no float holds, a name that cannot be hashed
            log.debug("dropped a value: %s", type(error).__name__)

    def _observe(self, metric: str, value: float, revision: Revision) -> None:
        with self._lock:
            by_metric = self._series.get(revision.commit)
            if by_metric is None:
                by_metric = self._series[revision.commit] = {}
                if len(self._series) > _REVISIONS_KEPT:
                    self._series.popitem(last=False)
            series = by_metric.get(metric)
            if series is None:
                if len(by_metric) >= _METRICS_KEPT or len(metric) > _NAME_CHARS or not metric.isprintable():
                    return  # clients may name events; what UTF-8 cannot encode would fail every scrape
                series = by_metric[metric] = Series()
            series.add(value)

    def expose(self, assignment: Assignment, arm: str, unit: object, revision: Revision, flag: str) -> None:
        """Record that a unit was shown an arm."""
        self.exposures.expose(assignment, arm, unit, revision, flag)

    def outcome(self, assignment: Assignment, metric: str, value: float, unit: object) -> None:
        """Record one value for the arm that this unit was shown."""
        self.exposures.outcome(assignment, metric, value, unit)

    def summary(self) -> list[dict[str, Any]]:
        """Give count, sum and buckets of each metric, per revision: JSON-ready, no values of configuration."""
        with self._lock:
            return [
                {
                    "revision": revision,
                    "metric": metric,
                    "count": series.count,
                    "sum": series.total,
                    "buckets": [[b, n] for b, n in series.buckets.items()],
                }
                for revision, by_metric in self._series.items()
                for metric, series in by_metric.items()
            ]


class Measurement:
    """Times a block, sync or async, or each call of a function it decorates."""

    __slots__ = ("_name", "_observe", "_started")

    def __init__(self, observe: Callable[[str, float], None], name: str) -> None:
        self._observe = observe
        self._name = name
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._observe(f"{self._name}.latency", time.perf_counter() - self._started)
        if kind is not None and issubclass(kind, Exception):
            self._observe(f"{self._name}.error", 1)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)

    def _fresh(self) -> Self:
        """One measurement per call: calls of a decorated function may overlap."""
        return type(self)(self._observe, self._name)

    def __call__(self, function: F) -> F:
        """Measure each call of a function, sync or async."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_async(*args: Any, **kwargs: Any) -> Any:
                with self._fresh():
                    return await function(*args, **kwargs)

            return measured_async  # type: ignore[return-value]  # wraps() keeps the signature

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return measured  # type: ignore[return-value]  # wraps() keeps the signature
