"""Statistics of experiments: sums by group of units, intervals that hold at every look, a check of the sample ratio. Pure.

**Groups.** A unit belongs to one of 64 groups by a hash of its own, whoever meets it, and all sums are kept per group. The
variance of an estimate is taken from the spread between groups (batch means of independent clusters), so it is right when a
unit is met by several processes, comes back after it was forgotten, or is observed a hundred times: what goes together is in
one group. Sums of squares over units would call such copies independent, and intervals would be too narrow.

**Intervals.** Asymptotic confidence sequences (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: "Time-uniform central limit theory
and asymptotic confidence sequences", Annals of Statistics 2024, arXiv:2103.06476, theorem 2.2): with probability 1 - alpha the
truth is inside at every look, so an experiment may be looked at daily and stopped when it pleases. They are used for
means, ratios of sums and proportions alike; a proportion's variance is never taken below that of (events + 1)/(units + 2), so
that no event does not look like certainty. Asymptotic: they begin at `UNITS_LEAST` units per arm and `EVENTS_LEAST` events.
A relative difference is Fieller's: those r for which mean(treatment) - r * mean(control) could be 0.

**Sample ratio.** The Dirichlet-multinomial mixture of Lindon & Malek ("Anytime-valid inference for multinomial count data",
NeurIPS 2022): an e-value, so by Ville's inequality the chance that it ever exceeds 1/alpha by itself is at most alpha. Counts
are divided by the design effect that the groups show: a unit met by four processes is not four units.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUPS = 64
UNITS_LEAST = 100
EVENTS_LEAST = 20
_BEST_AT = 10_000
"""Units at which the intervals are narrowest; elsewhere they are as valid, and little wider over orders of magnitude."""
_PRIOR = 1_000.0
"""The weight of the configured shares in the mixture of the sample ratio: it looks for deviations of about a percent."""

Kind = Literal["proportion", "mean", "ratio"]


class Sums:
    """What is known of one metric in one arm, per group: units with an event, observations, and the sum of values."""

    __slots__ = ("observations", "units", "values")

    def __init__(self, units: Sequence[int] = (), observations: Sequence[int] = (), values: Sequence[float] = ()) -> None:
        self.units = _padded(list(units))
        self.observations = _padded(list(observations))
        self.values = _padded([float(v) for v in values])

    def add_unit(self, group: int) -> None:
        """Count a unit: one that was exposed, or has its first event."""
        self.units[group] += 1

    def add(self, group: int, value: float) -> None:
        """Add one observation."""
        self.observations[group] += 1
        self.values[group] += value

    def __iadd__(self, other: Sums) -> Self:
        for mine, its in ((self.units, other.units), (self.observations, other.observations), (self.values, other.values)):
            for group, number in enumerate(its):
                mine[group] += number
        return self


def _padded(numbers: list[int] | list[float]) -> list:  # type: ignore[type-arg]  # of either
    return [*numbers[:GROUPS], *[0] * (GROUPS - len(numbers))]


class Estimate(NamedTuple):
    """A mean with the variance of that mean, over so many units."""

    mean: float
    variance: float
    units: int
    events: int


class Interval(NamedTuple):
    """From `low` to `high`, at every look together with the chance that was asked for."""

    low: float
    high: float


def estimate(kind: Kind, exposed: Sums, seen: Sums) -> Estimate:
    """Estimate what `kind` says: events per unit (each counted once), sum per unit, or sum per observation."""
    tops: Sequence[float] = seen.units if kind == "proportion" else seen.values
    bottoms = seen.observations if kind == "ratio" else exposed.units
    units, events, bottom = sum(exposed.units), sum(seen.units), sum(bottoms)
    if not bottom:
        return Estimate(math.nan, math.nan, units, events)
    mean = math.fsum(tops) / bottom
    spread = math.fsum((top - mean * under) ** 2 for top, under in zip(tops, bottoms, strict=True))
    variance = spread * GROUPS / (GROUPS - 1) / bottom**2
    if kind == "proportion":
        share = (events + 1) / (units + 2)
        variance = max(variance, share * max(0.0, 1 - share) / units)
    return Estimate(mean, variance, units, events)


def ready(kind: Kind, treatment: Estimate, control: Estimate) -> bool:
    """Tell whether there is enough of both arms for intervals that lean on a central limit."""
    enough = min(treatment.units, control.units) >= UNITS_LEAST and not math.isnan(treatment.mean + control.mean)
    if kind == "proportion":
        return enough and treatment.events + control.events >= EVENTS_LEAST
    return enough and treatment.variance + control.variance > 0


def critical(units: int, alpha: float) -> float:
    """Give the square of how many standard errors an interval reaches to each side, at so many units."""
    log = -2 * math.log(alpha)
    time = units * (log + math.log(log + 1)) / _BEST_AT  # t * rho^2 of the theorem
    return 2 * (time + 1) / time * math.log(math.sqrt(time + 1) / alpha)


def difference(treatment: Estimate, control: Estimate, alpha: float, scale: float = 1.0) -> Interval:
    """Give the interval of mean(treatment) - scale * mean(control)."""
    square = critical(treatment.units + control.units, alpha)
    reach = math.sqrt(square * (treatment.variance + scale**2 * control.variance))
    middle = treatment.mean - scale * control.mean
    return Interval(middle - reach, middle + reach)


def lift(treatment: Estimate, control: Estimate, alpha: float) -> Interval | None:
    """Give the interval of mean(treatment) / mean(control) - 1; None while the control's mean could be 0."""
    square = critical(treatment.units + control.units, alpha)
    a = control.mean**2 - square * control.variance
    if not a > 0:
        return None
    b = treatment.mean * control.mean
    c = treatment.mean**2 - square * treatment.variance
    root = math.sqrt(max(0.0, b * b - a * c))
    return Interval((b - root) / a - 1, (b + root) / a - 1)


class SampleRatio(NamedTuple):
    """Whether units came in the configured shares: `e_value` against it, `design_effect` that counts were divided by."""

    e_value: float
    design_effect: float

    def mismatch(self, alpha: float = 0.001) -> bool:
        """Tell whether the shares are wrong; at most `alpha` is the chance that right ones are ever called so."""
        return self.e_value >= 1 / alpha


def sample_ratio(exposed: Mapping[str, Sums], weights: Mapping[str, int]) -> SampleRatio:
    """Compare the exposed units of each arm with the weights of the arms."""
    counts = {arm: sum(exposed[arm].units) if arm in exposed else 0 for arm in weights}
    total, whole = sum(counts.values()), sum(weights.values())
    if any(counts[arm] for arm, weight in weights.items() if not weight):
        return SampleRatio(math.inf, 1.0)
    shares = {arm: weight / whole for arm, weight in weights.items() if weight}
    effect = _design_effect({arm: exposed[arm].units for arm in shares if counts[arm]}, total)
    log = math.lgamma(_PRIOR) - math.lgamma(_PRIOR + total / effect)
    for arm, share in shares.items():
        count = counts[arm] / effect
        log += math.lgamma(_PRIOR * share + count) - math.lgamma(_PRIOR * share) - count * math.log(share)
    return SampleRatio(math.exp(min(log, 700.0)), effect)


def _design_effect(groups: Mapping[str, Sequence[int]], total: int) -> float:
    """Say how many times the counts vary more between groups than those of independent units would; at least once."""
    if len(groups) < 2 or not total:
        return 1.0
    met = [sum(column) for column in zip(*groups.values(), strict=True)]
    spread = 0.0
    for row in groups.values():
        share = sum(row) / total
        spread += sum((count - share * n) ** 2 for count, n in zip(row, met, strict=True)) / share
    return max(1.0, spread * GROUPS / (GROUPS - 1) / (total * (len(groups) - 1)))
