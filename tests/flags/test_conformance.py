"""tests/conformance/evaluation: every vector, served, evaluated and traced; and the public flagd testbed where there is one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from livecfg.document import read
from livecfg.flags.operators import OPERATORS
from livecfg.flags.values import truthy
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "conformance" / "evaluation"
NOW = 1_767_225_600


def vectors() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.yaml")):
        suite = read(path.read_bytes(), path.name).value
        for i, case in enumerate(suite["cases"] if "document" not in suite else ()):
            for fractional in (suite["fractional"],) if "fractional" in suite else ("v2", "v3"):
                yield pytest.param(suite, case, fractional, id=f"{path.stem}-{i}-{fractional}")


def operators_in(rule: Any) -> set[str]:
    """Name the operators of a rule."""
    if isinstance(rule, list):
        return set().union(*map(operators_in, rule))
    return {*rule, *operators_in(list(rule.values()))} if isinstance(rule, dict) else set()


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_every_operator_has_vectors_in_both_versions(operator: str) -> None:
    for version in ("v2", "v3"):
        cases = [p.values[1] for p in vectors() if p.values[2] == version]
        assert sum(operator in operators_in(case["rule"]) for case in cases) >= 3, version


@pytest.mark.parametrize(("suite", "case", "fractional"), list(vectors()))
def test_a_rule_gives_what_its_vector_says(suite: dict[str, Any], case: dict[str, Any], fractional: Any) -> None:
    variants = {"yes": "yes", "no": "no"}
    flag = {"state": "ENABLED", "variants": variants, "targeting": {"if": [{"merge": [[case["rule"]]]}, "yes", "no"]}}
    tested = {"state": "ENABLED", "variants": variants, "targeting": {"if": [case["rule"], "yes", "no"]}}
    loaded = snapshot(
        flags={"flags": {"f": flag, "tested": tested}},
        gate=suite.get("gate", "flagd"),
        fractional=fractional,
        clock=lambda: NOW,
    )
    view = loaded.view(case["context"])
    trace = loaded.flags["f"].explain(case["context"], "none")
    if case.get("fails"):
        assert view.evaluate("f", "none").error_code == "PARSE_ERROR"
        assert view.flag("f", "none") == "none"
        return
    (given,) = next(step.value for step in reversed(trace.steps) if step.operator == "merge")
    assert given == case["gives"]
    assert type(given) is type(case["gives"]) or isinstance(given, int | float)
    if "$flagd.flagKey" not in str(case["rule"]):
        expected = "yes" if truthy(case["gives"]) else "no"
        assert (view.flag("tested", "none"), view.evaluate("tested", "none").value) == (expected, expected)


WHOLE = read((FOLDER / "flags.yaml").read_bytes(), "flags.yaml").value


@pytest.mark.parametrize("case", WHOLE["cases"], ids=lambda c: f"{c['flag']}-{c['default']}")
def test_a_flag_gives_what_its_vector_says(case: dict[str, Any]) -> None:
    view = snapshot(flags=WHOLE["document"], gate="flagd").view(case.get("context", {}))
    made = view.evaluate(case["flag"], case["default"])
    assert (made.value, type(made.value)) == (case["value"], type(case["value"]))
    assert (made.variant, made.reason, made.error_code) == (case.get("variant"), case["reason"], case.get("error"))
    assert view.flag(case["flag"], case["default"]) == case["value"]
    if "metadata" in case:
        assert dict(made.flag_metadata) == case["metadata"]


# --- the public testbed: gherkin, read as far as evaluators need it ----------------------------------------------------------

CASTS: dict[str, Any] = {
    "Boolean": lambda t: t == "true",
    "String": str,
    "Integer": int,
    "Float": float,
    "Object": lambda t: read(t.replace('\\"', '"').encode(), "value.json").value,
}
STEPS: list[tuple[str, Any]] = [
    (
        r'a (\w+)-flag with key "(.*)" and a fallback value "(.*)"',
        lambda s, kind, key, text: s.update(kind=kind, key=key, default=text),
    ),
    (r'a context containing a targeting key with value "(.*)"', lambda s, text: s["context"].update(targetingKey=text)),
    (
        r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"',
        lambda s, key, kind, text: s["context"].update({key: CASTS[kind](text)}),
    ),
    (
        r'a context containing a nested property with outer key "(.*)" and inner key "(.*)", with value "(.*)"',
        lambda s, outer, inner, text: s["context"].update({outer: {inner: text}}),
    ),
    (r"(?:an evaluator|the flag was evaluated with details)", lambda _: None),
    (r'the resolved details value should be "(.*)"', lambda s, text: s.update(value=text)),
    (r'the reason should be "(.*)"', lambda s, text: s.update(reason=text)),
    (r'the variant should be "(.*)"', lambda s, text: s.update(variant=text)),
    (r'the error-code should be "(.*)"', lambda s, text: s.update(error=text)),
]


def scenarios(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give (tags, steps) for each scenario and each row of its examples."""
    found: list[tuple[str, list[str], list[tuple[str, list[list[str]]]]]] = []
    tags = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if line.startswith("@"):
            tags = line
        elif word in {"Scenario:", "Scenario"}:
            found.append((tags, [], []))
            tags = ""
        elif word == "Examples:" and found:
            found[-1][2].append((tags or found[-1][0], []))
            tags = ""
        elif line.startswith("|") and found and found[-1][2]:
            found[-1][2][-1][1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif word in {"Given", "When", "Then", "And"} and found:
            found[-1][1].append(rest)
    for own, steps, tables in found:
        if not tables:
            yield own, steps
        for marks, (head, *rows) in tables:
            for row in rows:
                yield marks, [re.sub(r"<(.*?)>", lambda m, r=row, h=head: r[h.index(m[1])], step) for step in steps]


def played(steps: list[str], flags: bytes, fractional: Any) -> str | None:
    """Play a scenario; gives what went wrong, None when it holds or asks for something else than evaluation."""
    state: dict[str, Any] = {"context": {}}
    for step in steps:
        for pattern, act in STEPS:
            match = re.fullmatch(pattern, step)
            if match:
                act(state, *match.groups())
                break
        else:
            return None
    cast = CASTS[state["kind"]]
    view = snapshot(flags=flags, gate="flagd", fractional=fractional).view(state["context"])
    made = view.evaluate(state["key"], cast(state["default"]))
    got = {"value": made.value, "variant": made.variant, "reason": made.reason, "error": made.error_code}
    wanted = {k: cast(v) if k == "value" else v for k, v in state.items() if k in got}
    return None if wanted == {k: got[k] for k in wanted} else f"{steps}: expected {wanted}, got {got}"


@pytest.mark.skipif(
    "FLAGD_TESTBED" not in os.environ, reason="FLAGD_TESTBED does not name a checkout of open-feature/flagd-testbed"
)
@pytest.mark.parametrize("fractional", ["v2", "v3"])
def test_the_public_flagd_testbed_holds(fractional: str) -> None:
    root = Path(os.environ["FLAGD_TESTBED"]) / "evaluator"
    flags = (root / "flags" / "testkit-flags.json").read_bytes()
    found = [s for path in sorted((root / "gherkin").glob("*.feature")) for s in scenarios(path.read_text())]
    meant = [s for tags, s in found if "@fractional-v" not in tags or f"@fractional-{fractional}" in tags]
    assert meant
    assert [fault for fault in (played(steps, flags, fractional) for steps in meant) if fault] == []


def test_the_reader_of_the_testbed_finds_what_is_wrong() -> None:
    text = """
  Scenario Outline: two rows
    Given a String-flag with key "plan" and a fallback value "none"
    And a context containing a key "pro", with type "Boolean" and with value "<pro>"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"
    Examples:
      | pro   | value |
      | true  | P     |
      | false | P     |
"""
    rule = b'{"if": [{"var": "pro"}, "p", "f"]}'
    variants = b'"state": "ENABLED", "variants": {"p": "P", "f": "F"}, "targeting": '
    flags = b'{"flags": {"plan": {' + variants + rule + b"}}}"
    results = [played(steps, flags, "v2") for _, steps in scenarios(text)]
    assert results[0] is None
    assert "expected {'value': 'P'}" in str(results[1])
