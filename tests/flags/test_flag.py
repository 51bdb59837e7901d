"""Flags: what is refused, and where; what is shared; what costs nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from livecfg.document import read
from livecfg.errors import RefusedError
from livecfg.flags.context import EvaluationContext
from livecfg.flags.evaluate import evaluate, explain
from livecfg.flags.flag import compile_flags, disabled
from livecfg.flags.targeting import Dialect
from livecfg.testing import snapshot

HEAD = "flags:\n  f:\n    state: ENABLED\n    variants: {a: 1, b: 2}\n    defaultVariant: a\n    targeting: "


def refused(text: str, gate: Any = "strict") -> list[tuple[int, int, str, str]]:
    with pytest.raises(RefusedError) as caught:
        snapshot(flags=text, gate=gate)
    return [(r.line, r.column, r.code.value, r.message) for r in caught.value.refusals]


@pytest.mark.parametrize(
    ("rule", "there", "message"),
    [
        ("{iff: [1, a]}", "[1, a]", "the operator 'iff' is not known"),
        ("{if: [true, c, a]}", "c, a", "the rule gives c; the variants are a, b"),
        ('{"==": [{var: x}, 1]}', "{", "the rule gives true or false"),
        ('{if: [{"==": [{var: x}]}, a]}', "[{var: x}]}", "== expected 2 operands, got 1"),
        ("{if: [{sem_ver: [{var: v}, '>', '1.2']}, a]}", "'1.2'", "expected a version"),
        ("{if: [{sem_ver: [{var: v}, '>', 1.2]}, a]}", "1.2]", "expected a version"),
        ("{if: [{sem_ver: [{var: v}, gt, 1.2.3]}, a]}", "gt,", "does not know the relation"),
        ("{if: [{starts_with: [{var: v}, 5]}, a]}", "5]", "starts_with expected a string"),
        ("{fractional: [[a, -1], [b, 2]]}", "-1]", "expected a weight"),
        ("{fractional: [[a, 0], [b, 0]]}", "[[a, 0]", "the weights sum to 0"),
        ("{fractional: [[a, 2147483647], [b, 1]]}", "[[a, 2147", "the weights sum to 2,147,483,648"),
        ("{if: [{$ref: gone}, a]}", "{$ref", "the reference 'gone' is not under"),
        ("{if: [{var: $flagd.time}, a]}", "$flagd.time", "$flagd.time is nothing"),
        ("{if: [{var: x, z: 1}, a]}", "{var: x, z", "expected one operator"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_at_its_place(rule: str, there: str, message: str) -> None:
    ((line, column, code, text), *_) = refused(HEAD + rule)
    assert (line, code[:3]) == (6, "LC4")
    assert message in text
    assert (HEAD + rule).splitlines()[line - 1][column - 1 :].startswith(there)
    snapshot(flags=HEAD + rule, gate="flagd")  # a flagd daemon takes it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a mapping with the key flags"),
        ("flags: []", "expected a mapping with the key flags"),
        ("flags: {f: 1}", "expected a flag"),
        ("flags: {f: {state: UP, variants: {a: 1}}}", "ENABLED or DISABLED"),
        ("flags: {f: {state: ENABLED}}", "expected variants"),
        ("flags: {f: {state: ENABLED, variants: {a: null}}}", "expected a boolean, a string"),
        ("flags: {f: {state: ENABLED, variants: {a: .inf}}}", "expected a boolean, a string"),
        ("flags: {f: {state: ENABLED, variants: {a: 1}, targeting: [1]}}", "expected a rule"),
        ("flags: {f: {state: ENABLED, variants: {a: 1}, metadata: {a: [1]}}}", "expected metadata"),
        ("flags: {}\n$evaluators: []", "expected a mapping of names to rules"),
        ("flags: {}\nx-livecfg: {fractional: v1}", "fractional: v2"),
        ("flags: {}\nx-livecfg: {other: v2}", "fractional: v2"),
    ],
)
def test_a_document_that_is_malformed_is_refused_by_both_gates(text: str, message: str) -> None:
    for gate in ("strict", "flagd"):
        assert message in refused(text, gate)[0][3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flags: {f: {state: ENABLED, variants: {a: 1}, defaultVariant: b}}", "there is no variant 'b'"),
        ("flags: {f: {state: ENABLED, variants: {'true': true}, defaultVariant: true}}", "expected the name of a variant"),
        ("flags: {f: {state: ENABLED, variants: {a: 1, b: x}}}", "variants of one type"),
        ("flags: {f: {state: ENABLED, variants: {a: 9007199254740992}}}", "2^53"),
        ("flags: {f: {state: ENABLED, variants: {a: 1}, owner: ana}}", "owner is not a key of a flag"),
        ("flags: {}\nother: 1", "other is not a key of a flag document"),
        ("flags: {}\n$evaluators: {e: {iff: [1]}}", "the operator 'iff' is not known"),
    ],
)
def test_the_strict_gate_refuses_what_flagd_takes(text: str, message: str) -> None:
    assert message in refused(text)[0][3]
    snapshot(flags=text, gate="flagd")


def test_the_rule_of_a_disabled_flag_is_checked_too() -> None:
    text = "flags: {f: {state: DISABLED, variants: {a: 1}, targeting: {iff: [1]}}}"
    assert "'iff' is not known" in refused(text)[0][3]


def test_all_faults_are_reported_together_and_a_shared_one_once() -> None:
    text = "$evaluators: {e: {iff: [1]}}\nflags:\n"
    for key in "abc":
        text += f"  {key}: {{state: ENABLED, variants: {{x: 1}}, targeting: {{if: [{{$ref: e}}, x]}}}}\n"
    text += "  d: {state: UP, variants: {x: 1}}\n"
    assert [(line, code) for line, _, code, _ in refused(text)] == [(1, "LC403"), (6, "LC401")]


def test_a_rule_beyond_the_limits_is_refused_and_not_a_crash() -> None:
    deep = '{"!": ' * 24 + "1" + "}" * 24
    shared = {f"e{i}": {"!": [{"$ref": f"e{i + 1}"}]} for i in range(120)}
    flag = {"state": "ENABLED", "variants": {"true": True, "false": False}, "targeting": {"!": [{"$ref": "e0"}]}}
    bomb = {f"e{i}": {"and": [{"$ref": f"e{i + 1}"}] * 10} for i in range(6)} | {"e6": True}
    for evaluators in (shared, bomb):
        with pytest.raises(RefusedError, match="too large"):
            snapshot(flags={"flags": {"f": flag}, "$evaluators": evaluators}, gate="flagd")
    assert snapshot(flags=HEAD + f"{{if: [{deep}, a, b]}}").flag("f", 0, {}) == 1


def test_flags_of_one_shape_share_their_code() -> None:
    text = "flags:\n"
    for country, key in (("DE", "x"), ("FR", "z")):
        rule = f'{{if: [{{"==": [{{var: country}}, {country}]}}, a, b]}}'
        text += f"  {key}: {{state: ENABLED, variants: {{a: {country}, b: none}}, targeting: {rule}}}\n"
    flags = snapshot(flags=text).flags
    assert flags["x"].ready().__code__ is flags["z"].ready().__code__
    assert "DE" not in str(flags["x"].ready().__code__.co_consts)


def test_a_caller_who_edits_a_value_edits_nobody_elses() -> None:
    loaded = snapshot(flags="flags: {f: {state: ENABLED, variants: {a: {list: [1]}}, defaultVariant: a}}")
    loaded.flag("f", {}, {})["list"].append(2)  # type: ignore[attr-defined]  # JSON
    assert loaded.flag("f", {}, {}) == {"list": [1]}


def test_flags_are_equal_when_they_say_the_same() -> None:
    one, two = (snapshot(flags=HEAD + "{if: [{var: x}, a, b]}").flags["f"] for _ in range(2))
    other = snapshot(flags=HEAD + "{if: [{var: z}, a, b]}").flags["f"]
    assert one == two
    assert hash(one) == hash(two)
    assert one != other
    assert one != "f"


def test_a_flag_that_was_killed_gives_the_default_and_says_disabled() -> None:
    flag = disabled(snapshot(flags=HEAD + "{if: [true, b]}").flags["f"])
    made = evaluate(flag, 7, {}, "r")
    assert (made.value, made.reason, made.variant, flag.state) == (7, "DISABLED", None, "DISABLED")


def test_a_document_can_say_which_fractional_it_means() -> None:
    rule = "{fractional: [[a, 50], [b, 50]]}"
    served = {}
    for version in ("v2", "v3"):
        loaded = snapshot(flags=f"x-livecfg: {{fractional: {version}}}\n{HEAD}{rule}", fractional="v2")
        served[version] = [loaded.flag("f", 0, {"targetingKey": f"u{i}"}) for i in range(100)]
    assert served["v2"] != served["v3"]


def test_static_attributes_are_bound_at_load_and_covered_by_the_request() -> None:
    text = HEAD + '{if: [{and: [{"==": [{var: env}, prod]}, {"==": [{var: labels.zone}, x]}]}, b, a]}'
    static = {"env": "prod", "labels": {"zone": "x"}}
    flag = compile_flags(read(text.encode(), "f.yaml"), Dialect("v2", "strict", static, {}, _no_time))["f"]
    assert flag.serve({}, 0) == 2
    assert flag.serve({"env": "dev"}, 0) == 1
    assert flag.serve({"env": None}, 0) == 1
    assert flag.serve({"labels": {}}, 0) == 1


def test_an_explanation_names_the_branch_and_the_bucket() -> None:
    flag = snapshot(flags=HEAD + '{if: [{"==": [{var: plan}, pro]}, b, {fractional: [[a, 50], [b, 50]]}]}').flags["f"]
    trace = explain(flag, 0, {"plan": "free", "targetingKey": "u1"})
    assert [(s.where, s.operator, s.value) for s in trace.steps][:2] == [
        ("targeting.if[0].==", "==", False),
        ("targeting.if", "if", False),
    ]
    assert f"bucket {trace.evaluation.bucket}" in str(trace)
    assert trace.evaluation.rule.startswith("targeting.if[2].fractional[")
    pro = explain(flag, 0, {"plan": "pro"}).evaluation
    assert (pro.rule, pro.value) == ("targeting.if[1]", 2)


def test_an_evaluation_context_is_a_dict_with_a_targeting_key() -> None:
    assert EvaluationContext("u1", plan="pro") == {"targetingKey": "u1", "plan": "pro"}
    assert EvaluationContext(plan="pro") == {"plan": "pro"}


def test_importing_the_vocabulary_loads_no_hash() -> None:
    script = "import sys, livecfg.flags.evaluate, livecfg.flags.context; sys.exit('mmh3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def _compiled(text: str, before: Any = None) -> Any:
    document = read(text.encode(), "f.yaml")
    return compile_flags(document, Dialect("v2", "strict", {}, {}, _no_time), before)


def _no_time() -> int:
    return 0


@pytest.mark.parametrize(("old", "new"), [("1", "true"), ("1", "1.0"), ("0.0", "-0.0"), ("0", "false")])
def test_a_value_that_changes_only_its_type_is_a_change(old: str, new: str) -> None:
    text = "flags: {f: {state: ENABLED, variants: {a: %s}, defaultVariant: a}}"
    before = _compiled(text % old)
    after = _compiled(text % new, before)
    assert after["f"] != before["f"]
    assert repr(after["f"].variants["a"]) == repr(read(new.encode(), "v.yaml").value)


def test_flags_are_compiled_again_when_a_shared_rule_or_the_fractional_changes() -> None:
    flag = "f: {state: ENABLED, variants: {a: 1, b: 2}, defaultVariant: a, targeting: {if: [{$ref: r}, a, b]}}"
    text = '{$evaluators: {r: {"==": [{var: x}, %s]}}, x-livecfg: {fractional: %s}, flags: {' + flag + "}}"
    before = _compiled(text % ("1", "v2"))
    assert _compiled(text % ("1", "v2"), before)["f"] is before["f"]
    assert _compiled(text % ("2", "v2"), before)["f"].serve({"x": 2}, 0) == 1
    assert _compiled(text % ("1", "v3"), before)["f"] is not before["f"]


def test_a_fault_in_a_flag_that_is_not_compiled_again_is_still_refused() -> None:
    text = "flags: {f: {state: ENABLED, variants: {a: 1}, defaultVariant: a%s}}"
    before = _compiled(text % "")
    with pytest.raises(RefusedError, match="is not a key of a flag"):
        _compiled(text % ", owner: me", before)


def test_a_changed_shared_rule_compiles_again_the_flags_that_use_it_and_no_others() -> None:
    flag = "{state: ENABLED, variants: {a: 1, b: 2}, defaultVariant: a%s}"
    flags = "flags: {f: " + flag % ", targeting: {if: [{$ref: deep}, a, b]}" + ", other: " + flag % "" + "}"
    shared = '{$evaluators: {deep: {"!": [{$ref: last}]}, last: {"==": [{var: x}, %s]}%s}, ' + flags + "}"
    before = _compiled(shared % ("1", ""))
    same = _compiled(shared % ("1", ", third: {var: x}"), before)
    assert same["f"] is before["f"]
    after = _compiled(shared % ("true", ""), before)
    assert after["f"] is not before["f"]
    assert after["f"] != before["f"]
    assert after["other"] is before["other"]


def test_a_reference_to_nowhere_is_followed_once_it_leads_somewhere() -> None:
    flags = "flags: {f: {state: ENABLED, variants: {a: 1, b: 2}, targeting: {if: [{$ref: r}, a, b]}}}"
    dialect = Dialect("v2", "flagd", {}, {}, _no_time)
    before = compile_flags(read(flags.encode(), "f.yaml"), dialect)
    assert compile_flags(read(flags.encode(), "f.yaml"), dialect, before)["f"] is before["f"]
    assert before["f"].evaluate({}, 0, "").error_code == "PARSE_ERROR"
    after = compile_flags(read(f"{flags}\n$evaluators: {{r: true}}\n".encode(), "f.yaml"), dialect, before)
    assert after["f"].serve({}, 0) == 1
