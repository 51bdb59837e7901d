"""Splits and experiments: who gets which arm."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livecfg.document import Document, read
from livecfg.errors import RefusedError
from livecfg.flags.experiment import apply_experiments, exported
from livecfg.flags.flag import compile_flags
from livecfg.flags.split import CompiledSplit, compile_split
from livecfg.flags.targeting import Dialect
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from livecfg.flags.compiled import CompiledFlag

RANKER = """
split: ranker
by: user.id
salt: ranker-2026-11
where: {in: [{var: geo}, [DE, FR]]}
arms:
  v8: {weight: 90, value: {top_k: 20}}
  v9: {weight: 10, value: {top_k: 30}}
overrides: [{when: {"==": [{var: user.team}, ranking]}, arm: v9}]
"""


def split(text: str = RANKER, **static: object) -> CompiledSplit:
    return compile_split(read(text.encode(), "splits/ranker.yaml"), static=static, clock=lambda: 0)


def user(i: int | str, **more: Any) -> dict[str, Any]:
    return {"targetingKey": f"u{i}", "user": {"id": f"u{i}"}, "geo": "DE", **more}


def weighted(**weights: int) -> CompiledSplit:
    arms = ", ".join(f"{name}: {{weight: {weight}}}" for name, weight in weights.items())
    return split(f"split: s\nsalt: fixed\narms: {{{arms}}}\n")


def chi_square(counts: dict[str, int], weights: dict[str, int]) -> float:
    units, total = sum(counts.values()), sum(weights.values())
    return sum((counts.get(a, 0) - units * w / total) ** 2 / (units * w / total) for a, w in weights.items())


def test_units_are_shared_out_by_weight() -> None:
    made = split()
    counts = Counter(made.choose(user(i)) for i in range(10_000))
    assert 850 < counts["v9"] < 1150
    assert made.arms["v9"] == {"top_k": 30}


def test_outside_where_and_without_a_unit_everybody_gets_the_first_arm() -> None:
    made = split()
    assert {made.choose(user(i, geo="IT")) for i in range(500)} == {"v8"}
    nobody: list[Any] = [{"geo": "DE"}, {"geo": "DE", "user": {"id": ""}}, {"geo": "DE", "user": None}, {}, None]
    assert {made.choose(context) for context in nobody} == {"v8"}


def test_an_override_comes_before_everything_else() -> None:
    assert split().choose({"user": {"team": "ranking"}}) == "v9"


def test_static_attributes_lie_under_the_request() -> None:
    made = split(geo="IT")
    assert {made.choose({"user": {"id": str(i)}}) for i in range(300)} == {"v8"}
    assert {made.choose({"user": {"id": str(i)}, "geo": "FR"}) for i in range(300)} == {"v8", "v9"}


def test_the_salt_alone_says_who_is_where() -> None:
    units = [user(i) for i in range(2000)]
    renamed = split(RANKER.replace("split: ranker", "split: other"))
    resalted = split(RANKER.replace("ranker-2026-11", "ranker-2026-12"))
    assert [split().choose(u) for u in units] == [renamed.choose(u) for u in units]
    assert [split().choose(u) for u in units] != [resalted.choose(u) for u in units]


def test_an_evaluation_of_a_split_says_split_and_the_bucket() -> None:
    made = split().evaluate(user(1), "r1")
    assert (made.reason, made.revision, made.variant) == ("SPLIT", "r1", made.value)
    assert made.bucket is not None
    assert 0 <= made.bucket < 100


def test_every_fault_of_a_split_is_refused_at_its_place() -> None:
    text = RANKER.replace("arm: v9}", "arm: v7}").replace("{in: [{var: geo}, [DE, FR]]}", "{inn: [1]}")
    with pytest.raises(RefusedError) as refused:
        split(text)
    assert [(r.code, r.line) for r in refused.value.refusals] == [("LC403", 5), ("LC410", 9)]


@pytest.mark.parametrize(
    "text", ["split: s\nsalt: x\narms: {}", "split: s\narms: {a: {weight: 1}}", "split: s\nsalt: x\narms: {a: {weight: 0}}"]
)
def test_a_split_without_arms_salt_or_weight_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"splits/ranker\.yaml"):
        split(text)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 10_000))
def test_growing_an_arm_moves_nobody_out_of_it(a: int, b: int, first: int) -> None:
    small, big = min(a, b), max(a, b)
    before, after = weighted(new=small, old=100 - small), weighted(new=big, old=100 - big)
    for i in range(first, first + 50):
        if before.choose(user(i)) == "new" and small:
            assert after.choose(user(i)) == "new"


@pytest.mark.parametrize("weights", [{"a": 50, "b": 50}, {"a": 1, "b": 99}, {"a": 10, "b": 20, "c": 30, "d": 40}])
@pytest.mark.parametrize("units", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_split_passes_a_chi_square_test(weights: dict[str, int], units: int) -> None:
    made = weighted(**weights)
    counts = Counter(made.choose({"targetingKey": f"user-{i}"}) for i in range(units))
    assert chi_square(counts, weights) < 20  # p < 0.0002 with 3 degrees of freedom; the salt is fixed, so it never flickers


# --- experiments ------------------------------------------------------------------------------------------------------------

COPY = """
experiment: checkout-copy
hypothesis: A shorter text lifts paid orders.
owner: checkout
layer: {name: checkout, slots: [0, 50]}
holdout: global
unit: user.id
audience: {"!=": [{var: device.type}, bot]}
arms: {control: {weight: 50}, short: {weight: 50}}
flag: checkout-copy
metrics: {primary: {name: paid_orders, kind: proportion, goal: increase}, guardrails: [{name: error, max_relative: 0.05}]}
until: 2027-01-31
"""
OTHER = COPY.replace("checkout-copy", "button").replace("[0, 50]", "[50, 100]")
VARIANTS = {"control": "long", "short": "short", "none": "none"}
FLAGS = {k: {"state": "ENABLED", "variants": VARIANTS, "defaultVariant": "none"} for k in ("checkout-copy", "button")}
LAST_SECOND = 1_801_439_999  # 2027-01-31T23:59:59Z


def document(text: str, path: str) -> Document:
    return read(text.encode(), path)


def under(*texts: str, now: int = 0, flags: Any = None, holdouts: str = "{global: 5}") -> dict[str, CompiledFlag]:
    dialect = Dialect("v2", "strict", {}, {}, lambda: now)
    made = compile_flags(document(json.dumps({"flags": flags or FLAGS}), "flags.json"), dialect)
    documents = [document(text, f"experiments/e{i}.yaml") for i, text in enumerate(texts)]
    documents.append(document(holdouts, "experiments/_shared/holdouts.yaml"))
    return apply_experiments(documents, made, static={}, clock=lambda: now)


def arms(flags: dict[str, CompiledFlag], key: str, units: int) -> list[str]:
    serve = flags[key].serve
    return [serve({"user": {"id": f"u{i}"}}, "") for i in range(units)]


def test_two_experiments_of_a_layer_share_no_unit_and_a_holdout_is_in_none() -> None:
    flags = under(COPY, OTHER)
    both = list(zip(arms(flags, "checkout-copy", 20_000), arms(flags, "button", 20_000), strict=True))
    assert all("none" in pair for pair in both)
    held_out = sum(pair == ("none", "none") for pair in both)
    assert 800 < held_out < 1200  # 5 %


@pytest.mark.slow
def test_two_experiments_of_a_layer_share_no_unit_of_a_million() -> None:
    flags = under(COPY, OTHER)
    both = zip(arms(flags, "checkout-copy", 1_000_000), arms(flags, "button", 1_000_000), strict=True)
    assert all("none" in pair for pair in both)


@pytest.mark.parametrize("units", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_the_arms_the_slots_and_the_holdout_of_an_experiment_pass_a_chi_square_test(units: int) -> None:
    """47.5 % take part (half of the slots, 5 % held out); below 24 is p > 10^-6 for one degree of freedom."""
    counts = Counter(arms(under(COPY), "checkout-copy", units))
    assert chi_square({k: counts[k] for k in ("long", "short")}, {"long": 1, "short": 1}) < 24
    taking_part = {"in": counts["long"] + counts["short"], "out": counts["none"]}
    assert chi_square(taking_part, {"in": 475, "out": 525}) < 24


@given(st.integers(1, 99), st.integers(1, 99), st.integers(0, 10_000))
def test_growing_the_slots_or_an_arm_of_an_experiment_moves_nobody_out_of_it(a: int, b: int, first: int) -> None:
    """The arm that grows stands first: then it takes from the next one, and so on down the line."""
    small, big = min(a, b), max(a, b)

    def growing(slots: int, weight: int) -> CompiledFlag:
        text = COPY.replace("[0, 50]", f"[0, {slots}]").replace("control: {weight: 50}", f"control: {{weight: {weight}}}")
        return under(text.replace("short: {weight: 50}", f"short: {{weight: {100 - weight}}}"))["checkout-copy"]

    start, more_slots, more_weight = growing(small, small), growing(big, small), growing(small, big)
    for i in range(first, first + 30):
        context = {"user": {"id": f"u{i}"}}
        arm = start.serve(context, "")
        assert arm == "none" or more_slots.serve(context, "") == arm
        assert arm != "long" or more_weight.serve(context, "") == "long"
        assert (arm == "none") == (more_weight.serve(context, "") == "none")


def test_arms_are_shared_out_by_weight_and_the_evaluation_says_split() -> None:
    flags = under(COPY)
    counts = Counter(arms(flags, "checkout-copy", 20_000))
    assert chi_square({k: v for k, v in counts.items() if k != "none"}, {"long": 1, "short": 1}) < 15
    evaluations = [flags["checkout-copy"].evaluate({"user": {"id": f"u{i}"}}, "", "r") for i in range(200)]
    assert {(e.reason.value, e.value == "none") for e in evaluations} == {("SPLIT", False), ("DEFAULT", True)}
    assert evaluations[0].flag_metadata == {"experiment": "checkout-copy", "layer": "checkout"}


def test_the_audience_and_the_end_are_heeded() -> None:
    bot = {"user": {"id": "u1"}, "device": {"type": "bot"}}
    assert under(COPY)["checkout-copy"].serve(bot, "") == "none"
    assert set(arms(under(COPY, now=LAST_SECOND), "checkout-copy", 200)) == {"none", "short", "long"}
    assert set(arms(under(COPY, now=LAST_SECOND + 1), "checkout-copy", 200)) == {"none"}
    assert under(COPY)["checkout-copy"].serve({}, "") == "none"


def test_who_does_not_take_part_gets_what_the_flag_says_anyway() -> None:
    flag = {**FLAGS["button"], "targeting": {"if": [{"var": "vip"}, "control", None]}}
    flags = under(COPY, flags={"checkout-copy": flag})
    bot = {"user": {"id": "u1"}, "device": {"type": "bot"}, "vip": True}
    made = flags["checkout-copy"].evaluate(bot, "", "r")
    assert (made.value, made.reason) == ("long", "TARGETING_MATCH")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((COPY, OTHER.replace("[50, 100]", "[49, 100]")), "the slots overlap"),
        ((COPY, OTHER.replace("unit: user.id", "unit: device.id")), "expected the unit 'user.id'"),
        ((COPY, COPY), "under the experiment"),
        ((COPY.replace("flag: checkout-copy", "flag: gone"),), "no flag 'gone'"),
        ((COPY.replace("short: {weight: 50}", "shorter: {weight: 50}"),), "expected arms that are variants"),
        ((COPY.replace("holdout: global", "holdout: local"),), "no holdout 'local'"),
        ((COPY.replace("2027-01-31", "2027-02-31"),), "expected a day"),
        ((COPY.replace("[0, 50]", "[50, 50]"),), "from < to"),
    ],
)
def test_what_cannot_be_meant_is_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        under(*texts)
    assert all(r.code == "LC420" and r.line for r in refused.value.refusals)


def test_an_export_is_a_flagd_document_that_gives_everybody_the_same() -> None:
    flags = under(COPY, OTHER)
    again = snapshot(flags=json.loads(json.dumps(exported(flags))))
    for i in range(2000):
        context = {"user": {"id": f"u{i}"}, "device": {"type": "bot" if i % 7 == 0 else "phone"}}
        for key in flags:
            ours, theirs = flags[key].evaluate(context, "", ""), again.evaluate(key, "", context)
            assert (theirs.value, theirs.variant) == (ours.value, ours.variant)


def test_thousands_of_copies_of_an_experiment_have_few_faults_each() -> None:
    """Each compared with all others, 5,000 files have 37 million faults."""
    text = COPY.replace("holdout: global\n", "").encode()
    copies = [read(text, f"experiments/{i}.yaml") for i in range(5000)]
    with pytest.raises(RefusedError, match="slots overlap") as refused:
        apply_experiments(copies, {}, static={}, clock=lambda: 0)
    assert len(refused.value.refusals) < 5 * 5000
