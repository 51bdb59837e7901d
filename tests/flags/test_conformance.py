"""tests/conformance/evaluation: every vector, served, evaluated and traced."""

from __future__ import annotations

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
