"""The public suite for flagd's evaluators, whole: FLAGD_TESTBED names a checkout of open-feature/flagd-testbed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from livecfg.document import read
from livecfg.testing import snapshot
from tests.gherkin import Scenario, cast, perform, scenarios, suite, unplayable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.flags.evaluate import Evaluation


def flags_of(root: Path, *, evaluators: bool) -> dict[str, Any]:
    """Give the flags of all files as one document; the evaluators' own win for their suite, the others for the providers'."""
    provider = [path for path in sorted((root / "flags").glob("*.json")) if not path.name.startswith("selector-")]
    own = [root / "evaluator" / "flags" / "testkit-flags.json"]
    parts: list[Any] = [read(path.read_bytes(), path.name).value for path in (provider + own if evaluators else own + provider)]
    return {name: {k: v for part in parts for k, v in part.get(name, {}).items()} for name in ("flags", "$evaluators")}


def versions(scenario: Scenario) -> list[str]:
    """Give the versions of `fractional` that a scenario is true for; none where it is for the first one only."""
    said = [version for version in ("v1", "v2", "v3") if f"@fractional-{version}" in scenario.tags]
    return [version for version in said or ("v2", "v3") if version != "v1"]


V1 = "flagd's first `fractional`, over floats, which livecfg does not have"
NO_UNIT = "wants a bucket by the short form without a targeting key, where flagd has none; later versions of the suite give a key"


def left_out(scenario: Scenario, flags: dict[str, Any]) -> str | None:
    """Say why a scenario is not played."""
    if not versions(scenario):
        return V1
    if scenario.says("fractional-single-entry-flag") and not scenario.says("targeting key with value"):
        return NO_UNIT
    return unplayable(scenario, flags)


def params(found: list[Scenario], document: dict[str, Any]) -> Iterator[Any]:
    for scenario in found:
        why = left_out(scenario, document["flags"])
        for fractional in versions(scenario) or ["v1"]:
            marks = [pytest.mark.skip(reason=f"{scenario.name}: {why}")] if why else []
            yield pytest.param(document, scenario, fractional, id=f"{scenario.name}-{fractional}", marks=marks)


def public() -> list[Any]:
    if "FLAGD_TESTBED" not in os.environ:
        return []
    root = Path(os.environ["FLAGD_TESTBED"])
    return list(params(suite(root / "evaluator" / "gherkin"), flags_of(root, evaluators=True)))


class Evaluator:
    """Plays one scenario: the steps are methods."""

    def __init__(self, document: dict[str, Any], fractional: Any) -> None:
        self.loaded = snapshot(flags=document, gate="flagd", fractional=fractional)
        self.context: dict[str, Any] = {}
        self.made: Evaluation[Any]

    def nothing(self) -> None:
        """A step that asks for nothing."""

    def flag(self, kind: str, key: str, default: str) -> None:
        self.kind, self.key, self.default = kind, key, cast(kind, default)

    def unit(self, text: str) -> None:
        self.context["targetingKey"] = text

    def attribute(self, key: str, kind: str, text: str) -> None:
        self.context[key] = cast(kind, text)

    def nested(self, outer: str, inner: str, text: str) -> None:
        self.context[outer] = {inner: text}

    def evaluate(self) -> None:
        view = self.loaded.view(self.context)
        self.made = view.evaluate(self.key, self.default)
        assert view.flag(self.key, self.default) == self.made.value

    def value(self, text: str) -> None:
        expected = cast(self.kind, text)
        assert (self.made.value, type(self.made.value)) == (expected, type(expected))

    def variant(self, text: str) -> None:
        assert self.made.variant == text

    def reason(self, text: str) -> None:
        assert self.made.reason == text

    def error(self, text: str) -> None:
        assert (self.made.error_code or "") == text


WORDS = [
    (r"an evaluator", "nothing"),
    (r'an? (\w+)-flag with key "(.*)" and a (?:fallback|default) value "(.*)"', "flag"),
    (r'a context containing a targeting key with value "(.*)"', "unit"),
    (r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"', "attribute"),
    (
        r'a context containing a nested property with outer key "(.*)" and inner key "(.*)", with value "(.*)"',
        "nested",
    ),
    (r"the flag was evaluated with details", "evaluate"),
    (r'the resolved details value should be "(.*)"', "value"),
    (r'the variant should be "(.*)"', "variant"),
    (r'the reason should be "(.*)"', "reason"),
    (r'the error-code should be "(.*)"', "error"),
]
NO_FILES = pytest.mark.skipif("FLAGD_TESTBED" not in os.environ, reason="FLAGD_TESTBED names no checkout of flagd-testbed")


@NO_FILES
@pytest.mark.parametrize(("document", "scenario", "fractional"), public())
def test_a_scenario_of_the_public_suite_holds(document: dict[str, Any], scenario: Scenario, fractional: str) -> None:
    perform(Evaluator(document, fractional), scenario.steps, WORDS)


TEXT = """
@all
Feature: a feature
  # a comment | with a bar
  Background:
    Given an evaluator

  Scenario Outline: rows
    Given a String-flag with key "plan" and a fallback value "none"
    And a context containing a key "pro", with type "Boolean" and with value "<pro>"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"
    @fractional-v2
    Examples: first
      | pro   | value |
      | true  | P     |
    @fractional-v1 @fractional-v3
    Examples:
      | pro   | value |
      | false | P     | # wrong on purpose

  @gone
  Scenario: elsewhere
    Given a String-flag with key "nowhere" and a fallback value "<none>"

  @fractional-v1
  Scenario: old
    Given a miracle
"""
VARIANTS = {"p": "P", "f": "F"}
PLAN = {"flags": {"plan": {"state": "ENABLED", "variants": VARIANTS, "targeting": {"if": [{"var": "pro"}, "p", "f"]}}}}


def test_the_reader_gives_every_row_with_its_tags_and_the_background() -> None:
    found = list(scenarios(TEXT, "f"))
    assert [s.name for s in found] == ["f: rows 1 (true, P)", "f: rows 1 (false, P)", "f: elsewhere", "f: old"]
    assert [sorted(s.tags) for s in found] == [
        ["@all", "@fractional-v2"],
        ["@all", "@fractional-v1", "@fractional-v3"],
        ["@all", "@gone"],
        ["@all", "@fractional-v1"],
    ]
    assert all(s.steps[0] == ("an evaluator", []) for s in found)
    assert [versions(s) for s in found] == [["v2"], ["v3"], ["v2", "v3"], []]


def test_a_scenario_that_cannot_be_played_is_left_out_by_name_and_reason() -> None:
    marks = [str(p.marks[0].kwargs["reason"]) for p in params(list(scenarios(TEXT, "f")), PLAN) if p.marks]
    assert marks == ["f: elsewhere: names a column that its table lacks"] * 2 + [f"f: old: {V1}"]
    (lost,) = scenarios(TEXT.replace("<none>", "none").partition("@gone")[2].partition("@")[0], "f")
    assert unplayable(lost, PLAN["flags"]) == "nowhere is in none of the public flag files"


def test_playing_finds_what_is_wrong_and_an_unknown_step_is_an_error() -> None:
    right, wrong, _, unknown = scenarios(TEXT, "f")
    perform(Evaluator(PLAN, "v2"), right.steps, WORDS)
    with pytest.raises(AssertionError, match=r"'F'.*'P'"):
        perform(Evaluator(PLAN, "v3"), wrong.steps, WORDS)
    with pytest.raises(AssertionError, match="a step that nobody knows: a miracle"):
        perform(Evaluator(PLAN, "v2"), unknown.steps, WORDS)
