"""Statistics of experiments against simulation: nothing is claimed too often however often one looks, and effects are found."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import pytest

from livecfg.flags.statistics import (
    GROUPS,
    Estimate,
    Sums,
    critical,
    difference,
    estimate,
    lift,
    ready,
    sample_ratio,
)

ALPHA = 0.05
EVEN = {"control": 1, "treatment": 1}


class Stream(NamedTuple):
    """One experiment as it comes in: units one by one, each met by one or several processes."""

    rates: tuple[float, float] = (0.1, 0.1)
    share: float = 0.5
    most_processes: int = 1
    units: int = 1000
    look_every: int = 40


class Looks(NamedTuple):
    """What was ever seen at any look."""

    missed: bool
    found: bool
    e_value: float


def run(stream: Stream, rng: random.Random, truth: float = 0.0) -> Looks:
    """Look after every few units; `missed`: the truth was outside once, `found`: 0 was outside at the end."""
    exposed, seen = (Sums(), Sums()), (Sums(), Sums())
    missed = found = False
    most = 0.0
    for i in range(1, stream.units + 1):
        arm = rng.random() < stream.share
        group = rng.randrange(GROUPS)
        event = rng.random() < stream.rates[arm]
        for _ in range(rng.randint(1, stream.most_processes)):
            exposed[arm].add_unit(group)
            if event:
                seen[arm].add_unit(group)
        if i % stream.look_every == 0:
            control, treatment = (estimate("proportion", exposed[a], seen[a]) for a in (0, 1))
            if ready("proportion", treatment, control):
                inside = difference(treatment, control, ALPHA)
                missed |= not inside.low <= truth <= inside.high
                found = not inside.low <= 0 <= inside.high
            most = max(most, sample_ratio(dict(zip(EVEN, exposed, strict=True)), EVEN).e_value)
    return Looks(missed, found, most)


SAME = [
    pytest.param(Stream(), id="10 %"),
    pytest.param(Stream((0.02, 0.02)), id="2 %"),
    pytest.param(Stream((0.1, 0.1), most_processes=4, units=500), id="each unit is met by up to four processes"),
]


@pytest.mark.parametrize("stream", SAME)
def test_the_truth_is_inside_at_every_look_and_a_right_ratio_is_not_called_wrong(stream: Stream) -> None:
    rng = random.Random(1)
    looks = [run(stream, rng) for _ in range(2000)]
    assert sum(look.missed for look in looks) <= ALPHA * 2000
    assert sum(look.e_value >= 20 for look in looks) <= ALPHA * 2000
    assert sum(look.e_value >= 1000 for look in looks) <= 0.001 * 2000 + 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "stream",
    [
        *SAME,
        pytest.param(Stream((0.05, 0.05), units=10_000, look_every=50), id="long"),
        pytest.param(Stream((0.5, 0.5), most_processes=8), id="eight processes"),
    ],
)
def test_the_truth_is_inside_at_every_look_of_many_more_streams(stream: Stream) -> None:
    rng = random.Random(2)
    runs = 10_000 if stream.units <= 1000 else 2_000
    looks = [run(stream, rng) for _ in range(runs)]
    assert sum(look.missed for look in looks) <= ALPHA * runs
    assert sum(look.e_value >= 20 for look in looks) <= ALPHA * runs
    assert sum(look.e_value >= 1000 for look in looks) <= 0.001 * runs + 3 * math.sqrt(0.001 * runs)


def test_the_true_difference_is_inside_and_is_found() -> None:
    rng = random.Random(3)
    stream = Stream((0.1, 0.2), units=4000, look_every=200)
    looks = [run(stream, rng, truth=0.1) for _ in range(100)]
    assert sum(look.missed for look in looks) <= 5
    assert sum(look.found for look in looks) >= 95


def test_copies_of_a_unit_do_not_narrow_an_interval() -> None:
    """The fault that groups are for: four processes meet every unit, and the interval must be as wide as for one."""
    rng = random.Random(4)
    widths = []
    for copies in (1, 4):
        exposed, seen = Sums(), Sums()
        for _ in range(20_000):
            group, event = rng.randrange(GROUPS), rng.random() < 0.1
            for _ in range(copies):
                exposed.add_unit(group)
                if event:
                    seen.add_unit(group)
        widths.append(math.sqrt(estimate("proportion", exposed, seen).variance))
    assert 0.7 < widths[1] / widths[0] < 1.4  # counted as independent it would be 0.5


def test_a_wrong_ratio_is_found_and_so_is_a_unit_in_an_arm_of_weight_zero() -> None:
    rng = random.Random(5)
    found = [run(Stream(share=0.45, units=6000, look_every=200), rng).e_value >= 1000 for _ in range(40)]
    assert sum(found) >= 36
    assert sample_ratio({"a": Sums([5]), "b": Sums([1])}, {"a": 1, "b": 0}).e_value == math.inf


def test_an_e_value_is_on_average_at_most_one() -> None:
    """By enumeration of every count of 12 units, where every unit is in a group of its own."""
    total = 0.0
    for successes in range(13):
        exposed = {"a": Sums([1] * successes), "b": Sums([0] * successes + [1] * (12 - successes))}
        ratio = sample_ratio(exposed, {"a": 1, "b": 3})
        chance = math.comb(12, successes) * 0.25**successes * 0.75 ** (12 - successes)
        total += chance * ratio.e_value
    assert total <= 1 + 1e-9


def test_values_that_are_known() -> None:
    """The multiplier by the formula of the theorem, written out for t = 10,000."""
    rho_t = 5.991464547107982 + math.log(6.991464547107982)
    wanted = 2 * (rho_t + 1) / rho_t * math.log(math.sqrt(rho_t + 1) * 20)
    assert math.isclose(critical(10_000, 0.05), wanted)
    assert math.isclose(math.sqrt(wanted), 3.035, abs_tol=0.005)  # standard errors; one look at a fixed time has 1.96
    exposed = Sums([100] * GROUPS)
    seen = Sums([10] * 32 + [20] * 32, [10] * 32 + [20] * 32, [30.0] * 32 + [60.0] * 32)
    proportion = estimate("proportion", exposed, seen)
    assert proportion.mean == 0.15
    assert math.isclose(proportion.variance, 64 * 25 * 64 / 63 / 6400**2)  # every group is 5 events off
    assert estimate("mean", exposed, seen).mean == 0.45
    ratio = estimate("ratio", exposed, seen)
    assert (ratio.mean, ratio.variance) == (3.0, 0.0)  # every observation is a 3


def test_a_relative_interval_holds_the_relative_difference_and_is_none_while_the_control_may_be_zero() -> None:
    control, treatment = Estimate(0.10, 1e-6, 90_000, 9_000), Estimate(0.12, 1e-6, 90_000, 10_800)
    inside = lift(treatment, control, ALPHA)
    assert inside is not None
    assert inside.low < 0.2 < inside.high
    for bound in inside:  # at the bounds the scaled difference just touches 0
        edge = difference(treatment, control, ALPHA, 1 + bound)
        assert min(abs(edge.low), abs(edge.high)) < 1e-12
    assert lift(treatment, control._replace(variance=0.01), ALPHA) is None


def test_too_little_is_called_too_little() -> None:
    few = Estimate(0.1, 0.001, 99, 10)
    many = Estimate(0.1, 0.001, 1000, 100)
    assert not ready("proportion", few, many)
    assert ready("proportion", many, many)
    assert not ready("proportion", many._replace(events=9), many._replace(events=9))
    assert not ready("mean", Estimate(0.0, 0.0, 1000, 0), Estimate(0.0, 0.0, 1000, 0))
    nothing = estimate("ratio", Sums([1000]), Sums())
    assert math.isnan(nothing.mean)
    assert not ready("ratio", nothing, many)
    certain = estimate("proportion", Sums([10] * GROUPS), Sums())
    assert certain.variance > 0  # no event is not certainty
