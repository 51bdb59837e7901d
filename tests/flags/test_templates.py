"""A rule by its template is the rule that the reader gives; a document gives what each of its flags gives alone."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.document import read
from livecfg.errors import RefusedError
from livecfg.flags.flag import compile_flags
from livecfg.flags.segment import PREFIX, Segment
from livecfg.flags.targeting import Dialect, Rule, TooLargeError, read_rule
from livecfg.flags.templates import Templates
from livecfg.refusal import Code
from tests.flags import rules
from tests.flags.test_properties import NAMES, RULES, SCALARS

STATIC = {"country": "DE", "user": {"team": "ops"}, "a": "1"}
SEGMENTS = {PREFIX + "beta": Segment("beta", "1", ["u1", "u2"])}
SHARED = {"shared": {"==": [{"var": "plan"}, "pro"]}, "loop": {"!": [{"$ref": "loop"}]}}
DIALECTS = st.builds(
    Dialect,
    st.sampled_from(["v2", "v3"]),
    st.sampled_from(["strict", "flagd"]),
    st.sampled_from([{}, STATIC]),
    st.just({**SHARED, **SEGMENTS}),
    st.just(lambda: 7),
)
ODD = [
    *rules.TEXTS,
    *rules.NUMBERS,
    "Infinity",
    " 12 ",
    "0x1f",
    "Idaho",
    "1e5",
    "-",
    "$flagd.x",
    "v2.0.0",
    "01.2.3",
    -0.0,
    0.0,
    1.0,
]
ODD += [True, False, None, 2**53, 2**31, 10**30, [], ["a"], ["a", 1], [1, 2.0], [True], [[]], {"var": "plan"}, {"$ref": "shared"}]
ODD += [
    {"$ref": "segment:beta"},
    {"$ref": "loop"},
    {"a": 1, "b": 2},
    {"unknown": []},
    {"!": [1]},
    float("inf"),
    "plan",
    "f",
    "x" * 300,
]


def compared(r: random.Random) -> Any:
    """Give a condition whose constants a template has holes for."""
    variable = {"var": r.choice([*rules.NAMES, "$flagd.timestamp", "$flagd.flagKey", "a.b"])}
    return r.choice(
        [
            {r.choice(["==", "!=", "===", "!==", "<", ">="]): [variable, r.choice([*rules.TEXTS, *rules.NUMBERS])]},
            {"in": [variable, r.choice([r.sample(rules.TEXTS, 3), [1, 2, 2.5], {"$ref": "segment:beta"}])]},
            {"sem_ver": [variable, r.choice(["=", "^", "~", ">=", "?"]), r.choice(rules.VERSIONS)]},
            {"starts_with": [variable, r.choice(rules.TEXTS)]},
            {"!": [{"ends_with": [variable, r.choice(rules.TEXTS)]}]},
            {"===": [{"fractional": [{"var": "user.id"}, [1, r.randint(0, 9)], ["b", r.randint(0, 9)]]}, 1]},
        ]
    )


def targeting(r: random.Random) -> Any:
    """Give a rule of the kind that people write again and again."""
    if r.random() < 0.3:
        return rules.targeting(r)
    clauses: list[Any] = []
    for _ in range(r.randint(1, 3)):
        conditions = [compared(r) for _ in range(r.randint(1, 3))]
        if r.random() < 0.5:
            conditions += [conditions[0], varied(conditions[0], r, 0.3)]  # a group of constants
        clauses += [
            {r.choice(["and", "or"]): conditions},
            r.choice([*rules.VARIANTS, rules.fractional(r), {"fractional": [["a"], ["b", 3]]}]),
        ]
    return {"if": [*clauses, *r.choice([[], ["a"], [None], [True]])]}


def varied(raw: Any, r: random.Random, odds: float) -> Any:
    """Give the rule with other constants: mostly of the same sort, sometimes anything."""
    if isinstance(raw, dict):
        return {name: varied(value, r, odds) for name, value in raw.items()}
    if isinstance(raw, list):
        return [varied(item, r, odds) for item in raw]
    if r.random() > odds:
        return raw
    if r.random() < 0.1:
        return r.choice([value for value in ODD if in_documents(value)])
    same = [value for value in [*ODD, *rules.VERSIONS] if type(value) is type(raw) and in_documents(value)]
    return r.choice([raw, *same])


def in_documents(value: Any) -> bool:
    """Tell whether a document may hold a number."""
    return not isinstance(value, int | float) or abs(value) < 1 << 63


def exact(value: Any) -> str:
    """Write out a value with its types, whatever the order of a set."""
    if isinstance(value, frozenset):
        return repr(sorted(value, key=repr))
    return f"({','.join(map(exact, value))})" if isinstance(value, list | tuple) else repr(value)


def as_read(raw: Any, key: str, dialect: Dialect) -> tuple[Rule | None, list[Any]]:
    faults: list[Any] = []
    try:
        rule = read_rule(raw, key, dialect, lambda *fault: faults.append(fault), ())
    except (TooLargeError, RecursionError):
        return None, faults
    return rule, faults


def check(first: Any, others: list[Any], dialect: Dialect) -> int:
    """Learn of one rule, and compare what templates and the reader give for others; gives how many fitted."""
    templates = Templates()
    fitted = 0
    for i, raw in enumerate([first, first, *others]):
        key = r"f\"é" if i % 2 else "plan"
        fit = templates.fitted(raw, key, dialect) if raw and isinstance(raw, dict) else None
        known = fit.known() if fit is not None else None
        rule, faults = as_read(raw, key, dialect)
        if known is not None:
            fitted += 1
            assert rule is not None, raw
            assert not faults, raw
            assert known.shape == rule.shape, raw
            assert exact(known.constants) == exact(rule.constants), raw
            assert exact(known.results) == exact([leaf.result for leaf in rule.leaves]), raw
            assert not rule.used
            assert len(rule.notes) <= 100
    return fitted


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), DIALECTS, st.sampled_from([0.05, 0.3, 1.0]))
def test_a_rule_by_its_template_is_the_rule_that_the_reader_gives(seed: int, dialect: Dialect, odds: float) -> None:
    r = random.Random(seed)
    first = targeting(r)
    check(first, [varied(first, r, odds) for _ in range(6)], dialect)


@settings(max_examples=150, deadline=None)
@given(RULES, st.lists(RULES, max_size=3), st.integers(0, 2**32), DIALECTS)
def test_whatever_the_rule_a_template_gives_what_the_reader_gives(
    rule: Any, more: list[Any], seed: int, dialect: Dialect
) -> None:
    r = random.Random(seed)
    whole = {"if": [rule, "a", *more, {"!": [rule]}]}
    check(whole, [varied(whole, r, 0.3) for _ in range(4)] + [{"if": [*more, rule]}], dialect)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["==", "!=", "===", "<", "in", "starts_with", "ends_with"]),
    NAMES,
    SCALARS,
    st.lists(st.one_of(SCALARS, st.sampled_from(ODD)), max_size=8),
    DIALECTS,
)
def test_whatever_a_variable_is_compared_with(operator: str, name: str, first: Any, others: list[Any], dialect: Dialect) -> None:
    def rule(constant: Any) -> Any:
        return {"if": [{operator: [{"var": name}, [constant] if operator == "in" else constant]}, "a", "b"]}

    check(rule(first), [rule(other) for other in others], dialect)


def test_rules_of_one_form_do_fit() -> None:
    """Else the tests above would say nothing."""
    dialect = Dialect("v2", "strict", STATIC, SEGMENTS, lambda: 7)
    r = random.Random(1)
    fitted = 0
    for _ in range(100):
        first = targeting(r)
        fitted += check(first, [varied(first, r, 0.05) for _ in range(6)], dialect)
    assert fitted > 150


@pytest.mark.parametrize(("ages", "parameters"), [([18] * 5, 1), ([18, 21, 18, 30, 40], 5), ([18, 18.0, 18, 18, 18], 5)])
def test_rules_that_differ_in_their_constants_share_their_code(ages: list[float], parameters: int) -> None:
    def flag(ages: list[float]) -> dict[str, Any]:
        clauses = [part for age in ages for part in ({">=": [{"var": "age"}, age]}, "on")]
        return {"state": "ENABLED", "variants": {"on": True, "off": False}, "targeting": {"if": [*clauses, "off"]}}

    others = [[age + 1 for age in ages], [age * 3 for age in ages], ages[:1] + [age + 2 for age in ages[1:]]]
    made, _ = loaded(
        {f"f{i}": flag(those) for i, those in enumerate([ages, ages, *others])}, Dialect("v2", "strict", {}, {}, int)
    )
    same = [made[f"f{i}"].ready() for i in range(4)]
    assert all(serve.__code__ is same[0].__code__ for serve in same)
    assert len(same[0].__defaults__) == len(("flag", "age", "on", "off")) + parameters
    assert [made["f2"].serve({"age": age}, None) for age in (ages[-1], ages[-1] + 1)] == [min(ages) + 1 <= ages[-1], True]


def flags_of(r: random.Random) -> dict[str, Any]:
    """Give a document of flags, few forms among them, some of them faulty."""
    forms = [targeting(r) for _ in range(3)]
    variants = [{"a": 1, "b": 2, "c": 3, "true": 4}, {"a": "x", "b": "y"}, {"a": 1, "b": 2.5, "c": 0}, {"a": {"x": []}, "b": {}}]
    flags: dict[str, Any] = {}
    for i in range(12):
        rule = varied(r.choice(forms), r, r.choice([0, 0.05, 0.2]))
        flag = {"state": r.choice(["ENABLED"] * 5 + ["DISABLED"]), "variants": r.choice(variants), "targeting": rule}
        flags[f"f{i}"] = flag | r.choice([{}, {"defaultVariant": r.choice(["a", "c", "gone"])}])
    return flags


def loaded(
    flags: dict[str, Any], dialect: Dialect, templates: Templates | None = None
) -> tuple[dict[str, Any], set[tuple[Any, ...]]]:
    document = read(json.dumps({"flags": flags, "$evaluators": {"shared": SHARED["shared"]}}).encode(), "flags.json")
    try:
        return dict(compile_flags(document, dialect, templates=templates)), set()
    except RefusedError as error:
        return {}, {(r.code, r.message, r.advice) for r in error.refusals}


@pytest.mark.parametrize("gate", ["strict", "flagd"])
@pytest.mark.parametrize("static", [{}, STATIC])
def test_a_document_gives_what_each_of_its_flags_gives_alone(gate: Any, static: dict[str, Any]) -> None:
    dialect = Dialect("v2", gate, static, {}, lambda: 7)
    kept = Templates()
    for seed in range(8):
        r = random.Random(seed)
        flags = flags_of(r)
        alone = {key: loaded({key: flag}, dialect) for key, flag in flags.items()}
        _, faults = loaded(flags, dialect, kept)
        assert faults == set().union(*(refused for _, refused in alone.values())), seed
        sound = {key: flags[key] for key, (_, refused) in alone.items() if not refused}
        together, none = loaded(sound, dialect, kept)
        assert not none
        for key, flag in together.items():
            other = alone[key][0][key]
            for _ in range(6):
                context, default = rules.context(r), r.choice([0, "", 0.5, {}])
                assert flag == other
                assert flag.serve(context, default) == other.serve(context, default), (key, flags[key], context)
                assert flag.evaluate(context, default, "r") == other.evaluate(context, default, "r")
                assert flag.serve(context, default) == flag.evaluate(context, default, "r").value


def test_a_flag_that_differs_from_the_one_before_in_its_variants_alone_is_looked_at() -> None:
    def flag(variants: dict[str, Any]) -> dict[str, Any]:
        rule = {"if": [{"==": [{"var": "plan"}, "pro"]}, "on", "off"]}
        return {"state": "ENABLED", "variants": variants, "targeting": rule}

    dialect = Dialect("v2", "strict", {}, {}, lambda: 7)
    variants: list[dict[str, Any]] = [{"on": True, "off": False}] * 3 + [{"on": 1, "off": 0}, {"off": "on", "on": "off"}]
    made, _ = loaded({f"f{i}": flag(each) for i, each in enumerate(variants)}, dialect)
    assert [made[key].serve({"plan": "pro"}, None) for key in made] == [True, True, True, 1, "off"]
    _, faults = loaded({f"f{i}": flag(each) for i, each in enumerate([*variants, {"yes": True, "off": False}])}, dialect)
    assert {code for code, _, _ in faults} == {Code.FLAG_REFERENCE}


def test_templates_have_room_until_a_rule_finds_none() -> None:
    dialect = Dialect("v2", "strict", {}, {}, lambda: 7)
    templates = Templates()
    for number in range(18):
        assert templates.have_room()
        templates.fitted({"if": [{"==": [{"var": "plan"}, "pro"]}, "a", {"var": f"v{number}"}]}, "f", dialect)
    assert not templates.have_room()
