"""What must hold for every flag that loads and every context, whatever is in it."""

from __future__ import annotations

import enum
import inspect
import json
import sys
import traceback
import tracemalloc
from collections import UserDict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.errors import RefusedError
from livecfg.flags.bucketing import bucket_v2, encode, first_hash
from livecfg.flags.operators import OPERATORS
from livecfg.flags.values import equal, identical, to_number
from livecfg.refusal import MOST_FAULTS
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable


class Hostile:
    """Raises whatever is asked of it."""

    def __eq__(self, _: object) -> bool:
        raise ValueError("no")

    __hash__ = None  # type: ignore[assignment]  # as hostile as it gets

    def __bool__(self) -> bool:
        raise ValueError("no")

    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


class Colour(enum.StrEnum):
    RED = "red"


NAMES = st.sampled_from(["a", "b", "a.b", "l.0", "targetingKey", "$flagd.timestamp", "$flagd.flagKey", "$flagd", ""])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["", "0", "1", "a", "true", "1.2.3", "é", "x" * 40]),
)


def _operation(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    operands = st.one_of(st.lists(inner, max_size=4), inner)
    known = st.dictionaries(st.sampled_from(sorted(OPERATORS)), operands, min_size=1, max_size=1)
    arms = st.lists(st.lists(inner, max_size=3), min_size=1, max_size=3)
    return st.one_of(
        known,
        known,
        st.builds(lambda name: {"var": name}, NAMES),
        st.builds(lambda by, more: {"fractional": [*by, *more]}, st.lists(inner, max_size=1), arms),
        st.builds(lambda v, r, w: {"sem_ver": [v, r, w]}, inner, st.sampled_from(["=", "<", "^", "~", "?"]), inner),
        st.lists(inner, max_size=3),
        st.just({"$ref": "shared"}),
        st.just({"$ref": "loop"}),
        st.just({"unknown": [1]}),
        st.just({}),
    )


RULES = st.recursive(SCALARS, _operation, max_leaves=12)
ODD = st.one_of(
    SCALARS,
    st.just(float("nan")),
    st.just(float("inf")),
    st.just(10**400),
    st.binary(max_size=3),
    st.builds(Hostile),
    st.just(Colour.RED),
    st.builds(object),
    st.just({1, 2}),
    st.just("\ud800"),
)
VALUES = st.recursive(
    ODD, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "0"]), v, max_size=3))
)
CONTEXTS = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "l", "targetingKey", "$flagd"]), VALUES, max_size=5),
    st.builds(UserDict, st.dictionaries(st.sampled_from(["a", "b", "targetingKey"]), VALUES, max_size=3)),
    st.none(),
    st.just([]),
    st.just("text"),
)
VARIANTS = st.sampled_from(
    [
        {"a": True, "true": False},
        {"a": "A", "true": "T", "1": "one"},
        {"a": 1, "b": 2},
        {"a": 1, "b": 2.5},
        {"a": {"x": [1]}, "true": {}},
        {"a": 1, "b": "mixed"},
    ]
)
DEFAULTS = st.one_of(st.booleans(), st.text(max_size=2), st.integers(), st.floats(), st.just({}), st.just([]), st.none())


@settings(max_examples=400, deadline=None)
@given(RULES, VARIANTS, CONTEXTS, DEFAULTS, st.sampled_from(["v2", "v3"]), st.sampled_from([None, "a", "gone"]))
def test_evaluation_never_raises_and_gives_the_type_of_the_default(
    rule: Any, variants: dict[str, Any], context: Any, default: Any, fractional: Any, first: str | None
) -> None:
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": first, "targeting": {"if": [rule, rule, {"!": [rule]}]}}
    shared = {"shared": {"==": [{"var": "a"}, "a"]}, "loop": {"!": [{"$ref": "loop"}]}}
    document = json.dumps({"flags": {"f": flag}, "$evaluators": shared})
    loaded = snapshot(flags=document.encode(), gate="flagd", fractional=fractional)
    made = loaded.evaluate("f", default, context)
    served = loaded.flag("f", default, context)
    traced = loaded.flags["f"].explain(context, default).evaluation
    if default is not None:
        assert type(made.value) is type(default)
    assert (served is default and made.value is default) or served == made.value
    assert (traced.variant, traced.reason, traced.error_code) == (made.variant, made.reason, made.error_code)
    assert (made.variant is None) == (made.value is default) or made.variant is not None
    assert (made.error_code is not None) == (made.reason == "ERROR")


TEXTS = ["de", "fr", "pl", "it", "es", ""]
RELATIONS = {"==": equal, "===": identical}
LONG_IFS = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(["==", "==="]), st.booleans()), min_size=4, max_size=14)


@settings(max_examples=300, deadline=None)
@given(LONG_IFS, st.sampled_from([*TEXTS, "gone", None, 0, 1.5, True, ["de"], Colour.RED, "absent"]), st.integers(0, 3))
def test_a_long_if_over_the_texts_of_one_variable_gives_its_first_condition_that_holds(
    conditions: list[tuple[str, str, bool]], value: Any, age: int
) -> None:
    rule: list[Any] = []
    for i, (text, operator, older) in enumerate(conditions):
        same = {operator: [{"var": "x"}, text]}
        rule += [{"and": [same, {">": [{"var": "age"}, i % 3]}]} if older else same, f"v{i}"]
    variants = {f"v{i}": f"v{i}" for i in range(len(conditions))} | {"none": "none"}
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "none", "targeting": {"if": [*rule, "none"]}}
    context = {"age": age} | ({} if value == "absent" else {"x": value})
    loaded = snapshot(flags={"flags": {"f": flag}}, gate="flagd")
    got = context.get("x")
    expected = "none"
    for i, (text, operator, older) in enumerate(conditions):
        if RELATIONS[operator](got, text) and (not older or age > i % 3):
            expected = f"v{i}"
            break
    assert loaded.flag("f", "", context) == loaded.evaluate("f", "", context).value == expected
    assert loaded.flags["f"].explain(context, "").evaluation.value == expected


@settings(max_examples=200, deadline=None)
@given(RULES)
def test_what_the_strict_gate_takes_the_flagd_gate_takes_too_and_gives_the_same(rule: Any) -> None:
    flag = {"state": "ENABLED", "variants": {"a": 1, "true": 2, "false": 3}, "defaultVariant": "a", "targeting": {"!": [rule]}}
    document = json.dumps({"flags": {"f": flag}}).encode()
    try:
        strict = snapshot(flags=document)
    except RefusedError as refused:
        assert all(r.line and r.code.value.startswith("LC4") for r in refused.refusals)  # noqa: PT017 - each fault has a place
        return
    context = {"a": "1", "l": [1], "targetingKey": "u1"}
    lenient = snapshot(flags=document, gate="flagd")
    assert strict.evaluate("f", 0, context) == lenient.evaluate("f", 0, context)


@given(st.text(max_size=20), st.integers(1, 2**31 - 1))
def test_a_bucket_is_inside_its_total_and_agrees_with_the_limit_on_the_hash(text: str, total: int) -> None:
    bucket = bucket_v2(text, total)
    assert 0 <= bucket < total
    start, stop = first_hash(bucket, total), first_hash(bucket + 1, total)
    from mmh3 import hash as murmur3

    assert start <= murmur3(text, 0, signed=False) < stop


def test_deterministic_cbor_is_that_of_the_standard() -> None:
    """Examples of RFC 8949, appendix A."""
    known = {
        0: "00", 23: "17", 24: "1818", 1000: "1903e8", 1000000: "1a000f4240", 18446744073709551615: "1bffffffffffffffff",
        18446744073709551616: "c249010000000000000000", -1: "20", -1000: "3903e7", 1.1: "fb3ff199999999999a", 1.5: "f93e00",
        100000.5: "fa47c35040", -4.1: "fbc010666666666666", "": "60", "a": "6161", "\u6c34": "63e6b0b4", None: "f6",
    }  # fmt: skip
    assert {value: encode(value).hex() for value in known} == known
    assert encode([1, [2, 3], True, False]).hex() == "8401820203f5f4"
    assert encode({"b": [2, 3], "a": 1}).hex() == "a26161016162820203"
    assert encode(2.0) == encode(2)
    assert encode(float("nan")).hex() == "f97e00"
    assert encode(float("-inf")).hex() == "f9fc00"


@pytest.mark.parametrize("needle", [[], ["DE"], {}, {"a": 1}, {1}, b"DE", float("nan"), 10**400, True, None, ("DE",), Hostile()])
def test_what_is_asked_for_in_a_list_of_texts_may_be_anything(needle: Any) -> None:
    rule = {"if": [{"!": [{"in": [{"var": "a"}, ["DE", "FR"]]}]}, "none", "some"]}
    flag = {"state": "ENABLED", "variants": {"none": 1, "some": 2}, "defaultVariant": "some", "targeting": rule}
    made = snapshot(flags={"flags": {"f": flag}})
    assert made.flag("f", 0, {"a": needle}) == made.evaluate("f", 0, {"a": needle}).value == 1
    assert made.flag("f", 0, {"a": Colour.RED}) == 1
    assert made.flag("f", 0, {"a": "FR"}) == 2


class Liar(dict[str, Any]):
    """A context whose every method raises."""

    def get(self, *_: object) -> Any:
        raise KeyError("no")

    def __getitem__(self, _: object) -> Any:
        raise KeyError("no")

    keys = __iter__ = __len__ = __contains__ = items = values = get  # type: ignore[assignment]


def cyclic() -> dict[str, Any]:
    made: dict[str, Any] = {"a": {"b": []}, "l": [], "targetingKey": "u1"}
    made["a"]["b"].append(made)
    made["l"].append(made["l"])
    made["self"] = made
    return made


@settings(max_examples=200, deadline=None)
@given(
    RULES, VARIANTS, DEFAULTS, st.sampled_from([cyclic, Liar, lambda: {"a": Liar(a=1), "l": [Liar()], "targetingKey": Hostile()}])
)
def test_cyclic_contexts_and_those_whose_methods_raise_give_a_value_of_the_type_of_the_default(
    rule: Any, variants: dict[str, Any], default: Any, make: Any
) -> None:
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "a", "targeting": {"if": [rule, "a", rule]}}
    loaded = snapshot(flags=json.dumps({"flags": {"f": flag}}).encode(), gate="flagd")
    made = loaded.evaluate("f", default, make())
    assert loaded.flag("f", default, make()) == made.value or made.value != made.value
    assert default is None or type(made.value) is type(default)
    loaded.flags["f"].explain(make(), default)


@pytest.mark.parametrize("asked", ["view", "peek"])
@pytest.mark.parametrize("key", ["a", "c"])  # compiled by the load, and by who asks first
def test_a_full_stack_gives_the_default_and_no_exception(key: str, asked: str) -> None:
    rule: Any = {"in": [{"cat": ["u", {"var": "a"}]}, ["u1"]]}
    flag = {"state": "ENABLED", "variants": {"true": True, "false": False}, "targeting": rule}

    def deeper(n: int) -> bool:
        return deeper(n - 1) if n else (view.flag(key, default=False) if asked == "view" else view.peek(key, default=False))

    free = sys.getrecursionlimit() - len(inspect.stack(0))
    seen = set()
    for left in range(60):
        view = snapshot(flags={"flags": dict.fromkeys("abc", flag)}).view({"a": {"b": [1]}})
        try:
            seen.add(deeper(free - left))
        except RecursionError as error:
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            assert frames[-1] in {"deeper", "flag", "peek"}, frames
            seen.add(frames[-1])
        assert view.flag(key, default=False) == view.peek(key, default=False)
        assert view.snapshot.flags[key].ready() is view.snapshot.flags[key].serve
    assert {"deeper", False} <= seen


UNENCODABLE = "u\udfff"  # what `json.loads` makes of half a surrogate pair: anybody may send one
FRACTIONAL = [
    [["a", 1], ["b", 1]],
    [{"var": "x"}, ["a", 1], ["b", 1]],
    [{"cat": [{"var": "$flagd.flagKey"}, {"var": "x"}]}, ["a", 1], ["b", 1]],
    [{"var": "x"}, ["a", {"+": [1, 0]}], ["b", 1]],
]


@pytest.mark.parametrize("fractional", ["v2", "v3"])
@pytest.mark.parametrize("rule", FRACTIONAL)
def test_a_unit_that_utf8_cannot_encode_is_an_error_and_gives_the_default(rule: Any, fractional: Any) -> None:
    flag = {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a", "targeting": {"fractional": rule}}
    view = snapshot(flags={"flags": {"f": flag}}, gate="flagd", fractional=fractional).view(
        {"targetingKey": UNENCODABLE, "x": UNENCODABLE}
    )
    assert view.flag("f", 7) == 7
    assert (made := view.evaluate("f", 7)).value == 7
    assert (made.reason, made.error_code) == ("ERROR", "PARSE_ERROR")


LONG = 200_000
LONG_VALUES = [
    "1" * LONG + "x",  # by trying each place between two digits: an hour
    "." + "1" * LONG + "x",
    "1e" + "1" * LONG + "x",
    "0x" + "f" * LONG,
    " " * LONG + "x",
    "1." * LONG,
    ["1"] * LONG,
    [["1" * 100] * 100] * 20,
    UNENCODABLE * LONG,
]
X = {"var": "x"}
OPERATIONS = [
    {">": [X, 18]},
    {"<": [1, X, 18]},
    {"==": [X, 18]},
    {"===": [X, "18"]},
    {"==": [{"+": [X, 1]}, 2]},
    {"==": [{"%": [X, 10]}, 2]},
    {"==": [{"cat": [X, "a"]}, "b"]},
    {"==": [{"substr": [X, 1]}, "b"]},
    {"in": [X, ["a", "b"]]},
    {"in": ["a", X]},
    {"sem_ver": [X, ">", "1.2.0"]},
    {"starts_with": [X, "a"]},
    {"ends_with": [X, "a"]},
    {"max": [X, 1]},
    {"some": [X, {"==": [{"var": ""}, 1]}]},
    {"fractional": [X, ["a", 1], ["b", 1]]},
]


@pytest.mark.parametrize("rule", OPERATIONS, ids=lambda rule: next(iter(rule)))
def test_long_values_cost_no_more_than_their_length(rule: Any) -> None:
    flag = {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a", "targeting": {"if": [rule, "b", "a"]}}
    loaded = snapshot(flags={"flags": {"f": flag}}, gate="flagd")
    for value in LONG_VALUES:
        context = {"targetingKey": "u1", "x": value}
        assert loaded.flag("f", 0, context) == loaded.evaluate("f", 0, context).value


def test_versions_of_any_size_are_not_kept() -> None:
    rule = {"if": [{"sem_ver": [{"var": "v"}, ">", "1.2.3"]}, "new", "old"]}
    made = snapshot(flags={"flags": {"f": {"state": "ENABLED", "variants": {"new": 1, "old": 2}, "targeting": rule}}})
    assert made.flag("f", 0, {"v": "9.9.9"}) == 1
    tracemalloc.start()
    try:
        for number in range(300):
            assert made.flag("f", 0, {"v": f"{number}.0.0-{'a' * 100_000}"}) == 2
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("text", "number"), [("0x10", 16), ("0b1" + "0" * 64, 2.0**64), ("0x" + "f" * 256, float("inf"))])
def test_a_number_written_in_another_base_is_no_wider_than_a_float(text: str, number: float) -> None:
    made = to_number(text)
    assert (made, type(made)) == (number, type(number))


def _shared(count: int, rule: Callable[[str], Any], last: Any) -> bytes:
    """A flag that uses the first of some shared rules, each of which uses the next."""
    shared = {f"r{i}": rule(f"r{i + 1}") for i in range(count)} | {f"r{count}": last}
    flag = {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"if": [{"merge": [{"$ref": "r0"}]}, "a"]}}
    return json.dumps({"flags": {"f": flag}, "$evaluators": shared}).encode()


@pytest.mark.parametrize("gate", ["strict", "flagd"])
def test_shared_rules_that_double_at_each_step_are_refused_before_they_are_read(gate: Any) -> None:
    bomb = _shared(60, lambda name: [{"$ref": name}, {"$ref": name}], [{"var": "a"}])
    with pytest.raises(RefusedError, match="500,000 values when each reference"):
        snapshot(flags=bomb, gate=gate)
    chain = _shared(60, lambda name: {"$ref": name}, [{"var": "a"}])
    assert snapshot(flags=chain, gate=gate).flag("f", 0, {"a": 1}) == 1


def test_shared_rules_that_lead_to_each_other_in_lists_are_read_only_so_far() -> None:
    names = [f"r{i}" for i in range(4)]
    shared = {name: [{"$ref": other} for other in (*names, "wide")] for name in names} | {"wide": [{"var": "a"}] * 5000}
    flag = {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"if": [{"merge": [{"$ref": "r0"}]}, "a"]}}
    with pytest.raises(RefusedError, match="more than 50,000 operands"):
        snapshot(flags=json.dumps({"flags": {"f": flag}, "$evaluators": shared}).encode(), gate="flagd")


def test_a_large_shared_rule_is_not_read_for_ever_so_many_flags() -> None:
    large = {"and": [{"==": [{"var": f"v{i}"}, i]} for i in range(4000)]}
    rules = [{"if": [{"and": [{"$ref": "large"}, {"var": f"z{i}"}]}, "a"]} for i in range(300)]
    flags = {f"f{i}": {"state": "ENABLED", "variants": {"a": 1}, "targeting": rule} for i, rule in enumerate(rules)}
    with pytest.raises(RefusedError, match="500,000 values when each reference"):
        snapshot(flags=json.dumps({"flags": flags, "$evaluators": {"large": large}}).encode())


def test_faults_that_list_all_variants_do_not_fill_the_memory() -> None:
    """The names of 20,000 variants are 180 kB, and each of 2,400 faults lists them."""
    rule = {"if": [part for i in range(2400) for part in ({"var": "a"}, f"nope{i}")]}
    flag = {"state": "ENABLED", "variants": {f"v{i:06}": 1 for i in range(20_000)}, "targeting": rule}
    with pytest.raises(RefusedError) as refused:
        snapshot(flags=json.dumps({"flags": {"f": flag}}).encode())
    assert len(refused.value.refusals) == MOST_FAULTS
    assert max(len(str(r)) for r in refused.value.refusals) < 3000


HERE = {"var": "accumulator"}


@pytest.mark.parametrize(
    "rule",
    [
        {"cat": [HERE, HERE]},
        {"merge": [HERE, HERE]},
        {"+": [HERE, HERE]},
        [HERE, HERE],
    ],
)
@pytest.mark.parametrize("used", [lambda made: {"==": [made, "x"]}, lambda made: {"fractional": [made, ["a", 1]]}])
@pytest.mark.parametrize("fractional", ["v2", "v3"])
def test_what_doubles_at_each_item_of_a_list_fills_neither_memory_nor_time(rule: Any, used: Any, fractional: Any) -> None:
    doubled = used({"reduce": [list(range(60)), rule, "xx"]})
    flag = {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "b", "targeting": {"if": [doubled, "a", "b"]}}
    made = snapshot(flags=json.dumps({"flags": {"f": flag}}).encode(), fractional=fractional, gate="flagd")
    assert made.flag("f", 0, {}) in {0, 1, 2}


@pytest.mark.parametrize("gate", ["strict", "flagd"])
def test_lists_inside_lists_are_not_run_for_ever(gate: Any) -> None:
    def nested(depth: int) -> Any:
        return {"map": [{"$ref": "hundred"}, nested(depth - 1)]} if depth else {"var": ""}

    def loaded(depth: int) -> Any:
        rule = {"if": [nested(depth), "a"]}
        flag = {"state": "ENABLED", "variants": {"a": 1}, "targeting": rule}
        return snapshot(flags={"flags": {"f": flag}, "$evaluators": {"hundred": list(range(100))}}, gate=gate)

    assert loaded(2).flag("f", 0, {}) == 1
    with pytest.raises(RefusedError, match="more than 100,000 rounds"):
        loaded(6)
