"""Verdicts of experiments: each word for what the counts say, and no word before they say it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livecfg.document import read
from livecfg.flags.experiment import Experiment
from livecfg.flags.results import Results, Verdict, results
from livecfg.flags.statistics import GROUPS, Sums


def experiment(**metrics: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "experiment": "copy",
            "hypothesis": "h",
            "owner": "o",
            "flag": "copy",
            "arms": {"control": {"weight": 1}, "short": {"weight": 1}},
            "until": "2999-01-31",
            "metrics": metrics or None,
        }
    )


def spread(total: int) -> list[int]:
    """As even over the groups as it goes, with a little unrest: without any, a variance would be zero."""
    counts = [total // GROUPS] * GROUPS
    counts[0] += total - sum(counts)
    for group in range(0, GROUPS - 1, 2):
        step = min(counts[group], counts[group + 1], 1 + total // 2000)
        counts[group] += step
        counts[group + 1] -= step
    return counts


def judged(metric: dict[str, Any], control: int, short: int, *, guardrail: bool = False, units: int = 10_000) -> Results:
    """Judge so many events of 10,000 units each."""
    other = {"name": "other"}
    model = experiment(primary=other, guardrails=[metric]) if guardrail else experiment(primary=metric)
    exposed = [units // GROUPS] * GROUPS
    counts = {("control", ""): Sums(exposed), ("short", ""): Sums(exposed)}
    for arm, events in (("control", control), ("short", short)):
        counts[arm, metric["name"]] = Sums(spread(events), spread(events), [float(n) for n in spread(events)])
    return results(model, counts)


PAID = {"name": "paid", "goal": "increase"}
ERROR = {"name": "error", "goal": "decrease"}


@pytest.mark.parametrize(
    ("metric", "control", "short", "verdict"),
    [
        (PAID, 1000, 1400, Verdict.BETTER),
        (PAID, 1400, 1000, Verdict.WORSE),
        (PAID, 1000, 1010, Verdict.OPEN),
        (ERROR, 1000, 1400, Verdict.WORSE),
        (ERROR, 1400, 1000, Verdict.BETTER),
        ({"name": "paid"}, 1000, 1400, Verdict.DIFFERENT),
        (PAID, 5, 6, Verdict.TOO_EARLY),
        (PAID, 0, 0, Verdict.TOO_EARLY),
        (PAID, 0, 400, Verdict.BETTER),
        (PAID | {"kind": "mean"}, 1000, 1400, Verdict.BETTER),
    ],
)
def test_the_primary_metric_is_judged_by_its_goal(metric: dict[str, Any], control: int, short: int, verdict: Verdict) -> None:
    (found,) = judged(metric, control, short).comparisons
    assert found.verdict is verdict
    assert (found.difference is None) == (verdict is Verdict.TOO_EARLY)


@pytest.mark.parametrize(
    ("more", "control", "short", "verdict"),
    [
        ({"max_relative": 0.05}, 1000, 1400, Verdict.HARM),
        ({"max_relative": 0.5}, 1000, 1100, Verdict.SAFE),
        ({"max_relative": 0.1}, 1000, 1100, Verdict.OPEN),
        ({}, 1000, 1400, Verdict.HARM),
        ({}, 1400, 1000, Verdict.SAFE),
        ({"max_relative": 0.05, "goal": "increase"}, 1400, 1000, Verdict.HARM),
        ({"max_relative": 0.05, "goal": "increase"}, 1000, 1400, Verdict.SAFE),
        ({"max_relative": 0.5, "goal": "increase"}, 1100, 1000, Verdict.SAFE),
        ({"max_relative": 0.05}, 4, 4, Verdict.TOO_EARLY),
    ],
)
def test_a_guardrail_is_judged_by_what_it_allows(more: dict[str, Any], control: int, short: int, verdict: Verdict) -> None:
    found = judged({"name": "error", **more}, control, short, guardrail=True)
    assert found.comparisons[1].guardrail
    assert found.comparisons[1].verdict is verdict
    assert found.well == (verdict is not Verdict.HARM)


def test_a_ratio_is_judged_per_observation() -> None:
    exposed = Sums([200] * GROUPS)
    rows = [[float(300 + g % 5) for g in range(GROUPS)], [float(330 + g % 5) for g in range(GROUPS)]]
    counts = {("control", ""): exposed, ("short", ""): exposed}
    for arm, values in zip(("control", "short"), rows, strict=True):
        counts[arm, "ms"] = Sums([100] * GROUPS, [1000] * GROUPS, values)
    metric = {"name": "ms", "kind": "ratio", "goal": "decrease"}
    (found,) = results(experiment(primary=metric), counts).comparisons
    assert found.control.mean == pytest.approx(0.302, abs=0.001)
    assert found.verdict is Verdict.WORSE


def test_several_arms_share_alpha() -> None:
    two = judged(PAID, 1000, 1100)
    model = two.comparisons[0].metric
    assert model.name == "paid"
    three = experiment(primary=PAID).model_dump()
    three["arms"]["long"] = {"weight": 1}
    exposed = Sums([10_000 // GROUPS] * GROUPS)
    counts = {(arm, ""): exposed for arm in three["arms"]} | {
        (arm, "paid"): Sums(spread(events)) for arm, events in (("control", 1000), ("short", 1100), ("long", 1100))
    }
    found = results(Experiment.model_validate(three), counts)
    assert [c.arm for c in found.comparisons] == ["short", "long"]
    narrow, wide = two.comparisons[0].difference, found.comparisons[0].difference
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > narrow.high - narrow.low


def test_without_metrics_and_without_counts_only_the_ratio_is_told() -> None:
    found = results(experiment(), {})
    assert found.units == {"control": 0, "short": 0}
    assert (found.comparisons, found.well, found.sample_ratio.e_value) == ([], True, 1.0)


def test_wrong_shares_are_not_well_and_missed_outcomes_are_told() -> None:
    counts = {("control", ""): Sums([90] * GROUPS), ("short", ""): Sums([60] * GROUPS), ("", "paid"): Sums([7])}
    found = results(experiment(primary=PAID), counts)
    assert found.sample_ratio.mismatch()
    assert not found.well
    assert found.missed == {"paid": 7}


def test_the_file_of_a_stopped_experiment_is_read_as_json_too() -> None:
    text = experiment(primary=PAID).model_dump() | {"shipped": "short"}
    assert Experiment.model_validate(read(json.dumps(text).encode(), "e.json").value).shipped == "short"
