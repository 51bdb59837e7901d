"""Metrics of one process for Prometheus (extra `prometheus`): what it serves, how it goes, and what the application measured.

`register(live)` once, after `live` was made; each scrape asks `live.status`, so nothing runs in between and nothing goes stale.
The labels hold ids and names only, never a value of the configuration. Under prometheus_client's multiprocess mode a worker
cannot answer for the others: there, scrape the hub, which knows every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from livecfg.status import Condition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from livecfg.client import LiveConfig
    from livecfg.status import Status


def register(live: LiveConfig[Any], registry: CollectorRegistry = REGISTRY) -> LivecfgCollector:
    """Add the metrics of `live` to a registry; give the collector, which `registry.unregister` takes out again."""
    collector = LivecfgCollector(live)
    registry.register(collector)
    return collector


class LivecfgCollector(Collector):
    """Gives the metrics of one LiveConfig at the moment it is asked; starts nothing."""

    def __init__(self, live: LiveConfig[Any]) -> None:
        self._live = live

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without asking for their values, as a registry wants at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give every metric."""
        status = self._live.status
        yield _condition(status)
        yield _revision(status)
        yield from _numbers(status)
        yield from self._measured()

    def _measured(self) -> Iterator[Metric]:
        """What `measure` and `observe` counted, over the revisions that are kept."""
        count = CounterMetricFamily(
            "livecfg_signal_values", "values recorded by measure and observe", labels=["metric", "revision"]
        )
        total = CounterMetricFamily("livecfg_signal_sum", "their sum", labels=["metric", "revision"])
        for series in self._live._signals.summary():  # noqa: SLF001 - the same counters that the hub is sent
            labels = [series["metric"], series["revision"][:10]]
            count.add_metric(labels, series["count"])
            total.add_metric(labels, series["sum"])
        yield count
        yield total


def _condition(status: Status) -> Metric:
    family = GaugeMetricFamily("livecfg_condition", "1 for the condition the process is in", labels=["condition"])
    for condition in Condition:
        family.add_metric([condition.value], float(condition is status.condition))
    return family


def _revision(status: Status) -> Metric:
    family = GaugeMetricFamily("livecfg_revision", "1 for the revision in use", labels=["ref", "commit"])
    if status.applied is not None:
        family.add_metric([status.applied.ref, status.applied.commit], 1.0)
    return family


def _numbers(status: Status) -> Iterator[Metric]:
    applied, desired = status.applied, status.desired
    behind = applied is not None and desired is not None and applied.commit != desired.commit
    numbers: dict[str, tuple[str, float | None]] = {
        "livecfg_behind": ("1 while the newest revision seen is not the one in use", float(behind)),
        "livecfg_refusals": ("refusals that stand between the two", float(len(status.refusals))),
        "livecfg_overrides": ("local overrides in force, and commits that broke the glass", float(len(status.overrides))),
        "livecfg_fetcher": ("1 in the process that asks the remote for its host", float(status.fetcher)),
        "livecfg_position": ("commits from the first to the one in use", None if applied is None else float(applied.position)),
        "livecfg_applied_timestamp_seconds": ("when the revision in use was applied", status.applied_at),
        "livecfg_checked_timestamp_seconds": ("when the source last answered", status.checked_at),
    }
    for name, (text, value) in numbers.items():
        family = GaugeMetricFamily(name, text)
        if value is not None:
            family.add_metric([], value)
        yield family
