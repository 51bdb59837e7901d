"""results(): what an experiment says by the counts so far: sample ratio, intervals, verdicts. Pure.

The first arm of the file is the control. Each metric has its own alpha, shared out evenly over the arms that are compared with
the control (Bonferroni). A verdict holds at every look, see `flags.statistics`; nothing here decides: people stop experiments.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from livecfg.flags.statistics import Sums, difference, estimate, lift, ready, sample_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.flags.experiment import Experiment, Metric
    from livecfg.flags.statistics import Estimate, Interval, SampleRatio

ALPHA = 0.05


class Verdict(StrEnum):
    """What an interval says."""

    TOO_EARLY = "too early"
    """Too few units or events for an interval."""
    OPEN = "open"
    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"
    """The metric has no goal."""
    SAFE = "safe"
    """A guardrail: not worse by more than it allows."""
    HARM = "harm"
    """A guardrail: worse by more than it allows."""


class Comparison(NamedTuple):
    """One arm beside the control by one metric."""

    metric: Metric
    guardrail: bool
    arm: str
    control: Estimate
    treatment: Estimate
    difference: Interval | None
    lift: Interval | None
    verdict: Verdict


class Results(NamedTuple):
    """All that the counts say."""

    units: dict[str, int]
    sample_ratio: SampleRatio
    comparisons: list[Comparison]
    missed: dict[str, int]
    """By metric: outcomes of units that the process which observed them had shown no arm. They are not counted."""

    @property
    def well(self) -> bool:
        """Whether units came as they should and no guardrail is broken."""
        return not self.sample_ratio.mismatch() and all(c.verdict is not Verdict.HARM for c in self.comparisons)


def results(experiment: Experiment, counts: Mapping[tuple[str, str], Sums]) -> Results:
    """Judge counts by (arm, metric), an empty metric being the exposures, an empty arm what was missed."""
    exposed = {arm: counts.get((arm, ""), Sums()) for arm in experiment.arms}
    comparisons = []
    if experiment.metrics is not None:
        control, *others = experiment.arms
        for metric in (experiment.metrics.primary, *experiment.metrics.guardrails):
            of = {a: estimate(metric.kind, exposed[a], counts.get((a, metric.name), Sums())) for a in experiment.arms}
            guardrail = metric is not experiment.metrics.primary
            comparisons += [_compare(metric, guardrail, arm, (of[arm], of[control]), ALPHA / len(others)) for arm in others]
    return Results(
        {arm: sum(sums.units) for arm, sums in exposed.items()},
        sample_ratio(exposed, experiment.weights),
        comparisons,
        {metric: sum(sums.units) for (arm, metric), sums in counts.items() if not arm},
    )


def _compare(metric: Metric, guardrail: bool, arm: str, pair: tuple[Estimate, Estimate], alpha: float) -> Comparison:  # noqa: FBT001 - one caller
    treatment, control = pair
    if not ready(metric.kind, treatment, control):
        return Comparison(metric, guardrail, arm, control, treatment, None, None, Verdict.TOO_EARLY)
    inside = difference(treatment, control, alpha)
    verdict = _guarded(metric, pair, alpha) if guardrail else _judged(metric, inside)
    return Comparison(metric, guardrail, arm, control, treatment, inside, lift(treatment, control, alpha), verdict)


def _judged(metric: Metric, inside: Interval) -> Verdict:
    if inside.low <= 0 <= inside.high:
        return Verdict.OPEN
    if metric.goal is None:
        return Verdict.DIFFERENT
    return Verdict.BETTER if (inside.low > 0) == (metric.goal == "increase") else Verdict.WORSE


def _guarded(metric: Metric, pair: tuple[Estimate, Estimate], alpha: float) -> Verdict:
    """Compare with the control made worse by what is allowed; more is worse, unless the goal is to increase."""
    allowed = metric.max_relative or 0.0
    worse = -1 if metric.goal == "increase" else 1
    beyond = difference(*pair, alpha, 1 + worse * allowed)
    low, high = (beyond.low, beyond.high) if worse > 0 else (-beyond.high, -beyond.low)
    return Verdict.HARM if low > 0 else Verdict.SAFE if high < 0 else Verdict.OPEN
