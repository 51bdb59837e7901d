"""The public suites for OpenFeature providers, whole, through the real client.

OPENFEATURE_SPEC names a checkout of open-feature/spec (appendix B and the provider conformance suite of appendix F),
FLAGD_TESTBED one of open-feature/flagd-testbed (what flagd asks of in-process providers).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openfeature import api
from openfeature.transaction_context import ContextVarsTransactionContextPropagator

from tests.flags.test_testbed import flags_of, versions
from tests.flags.test_testbed import left_out as left_out_of_evaluation
from tests.gherkin import Scenario, perform, scenarios, suite
from tests.openfeature_actor import WORDS, Actor
from tests.openfeature_stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.xdist_group("openfeature")  # the SDK keeps its providers in globals
LEFT_OUT: list[tuple[Callable[[Scenario], bool], str]] = [
    (lambda s: "@deprecated" in s.tags, "asks for the same as evaluation_v2 in words that the specification gave up"),
    (lambda s: "@rpc" in s.tags and "@in-process" not in s.tags, "asks a flagd server for each evaluation"),
    (lambda s: s.says('reason should be "CACHED"'), "livecfg evaluates each time and caches no answers"),
    (lambda s: s.says("error message should contain"), "wants the very words of the SDK's in-memory provider"),
    (lambda s: s.says("evaluation details should be immutable"), "the details are the SDK's, which lets them be changed"),
    (lambda s: s.says("tracking operation shall error"), "the SDK hands over any name; a provider must not raise"),
    (lambda s: s.says("flagd-context-aware"), "wants attributes that a flagd server sends beside the flags"),
    (
        lambda s: s.says("the connection is lost") and s.says("error event handler"),
        "a provider that has a verified revision goes on serving it: STALE, never ERROR",
    ),
]
"""Scenarios that do not apply to livecfg, and why."""


def as_flagd(flags: dict[str, Any]) -> dict[str, Any]:
    """Write the flags of appendix B as flagd has them; their conditions are conjunctions of three forms."""
    made = {}
    for key, flag in flags.items():
        conditions, _, variant = flag.get("contextEvaluator", "").partition(" ? ")
        tests: list[Any] = []
        for text in filter(None, conditions.split(" && ")):
            found = re.fullmatch(r"!(\w+)|(\w+) == '(.*)'|(\w+) > (\d+)", text)
            assert found is not None, text
            none, name, same, number, least = found.groups()
            compared = {">": [{"var": number}, int(least)]} if number else {"==": [{"var": name}, same]}
            tests.append({"!": [{"var": none}]} if none else compared)
        rule = {"if": [{"and": tests}, variant.split("'")[1]]} if tests else None
        parts = {
            "state": "DISABLED" if flag.get("disabled") else "ENABLED",
            "variants": flag["variants"],
            "defaultVariant": flag.get("defaultVariant"),
            "targeting": rule,
            "metadata": flag.get("flagMetadata"),
        }
        made[key] = {name: part for name, part in parts.items() if part is not None}
    return {"flags": made}


def left_out(scenario: Scenario, flags: dict[str, Any]) -> str | None:
    """Say why a scenario is not played."""
    found = [why for applies, why in LEFT_OUT if applies(scenario)]
    return found[0] if found else left_out_of_evaluation(scenario, flags)


def params(found: list[Scenario], document_of: Callable[[Scenario], dict[str, Any]], label: str) -> Iterator[Any]:
    for scenario in found:
        document = document_of(scenario)
        why = left_out(scenario, document["flags"])
        asks = versions(scenario) if any("-v" in tag for tag in scenario.tags) else ["v2"]
        for fractional in asks or ["v1"]:
            name = f"{label} {scenario.name}"
            marks = [pytest.mark.skip(reason=f"{name}: {why}")] if why else []
            yield pytest.param(document, scenario, fractional, id=f"{name}-{fractional}", marks=marks)


def public() -> list[Any]:
    made: list[Any] = []
    if "OPENFEATURE_SPEC" in os.environ:
        assets = Path(os.environ["OPENFEATURE_SPEC"]) / "specification" / "assets"
        appendix_b = as_flagd(json.loads((assets / "gherkin" / "test-flags.json").read_text("utf-8")))
        made += params(suite(assets / "gherkin"), lambda _: appendix_b, "spec")
        if (assets / "provider-tck").exists():
            canonical = json.loads((assets / "provider-tck" / "flags" / "canonical-flags.json").read_text("utf-8"))
            made += params(suite(assets / "provider-tck" / "gherkin"), lambda _: canonical, "provider-tck")
    if "FLAGD_TESTBED" in os.environ:
        root = Path(os.environ["FLAGD_TESTBED"])
        whole = flags_of(root, evaluators=False)

        def selected(scenario: Scenario) -> dict[str, Any]:
            """Give the one file that a selector names, or all."""
            named = [m[1] for text, _ in scenario.steps if (m := re.search(r'"selector" .* value "rawflags/(.*)"', text))]
            return json.loads((root / "flags" / named[0]).read_text("utf-8")) if named else whole

        own = [s for s in suite(root / "gherkin") if s.name.partition(":")[0] not in NOT_EVALUATION]
        made += params(own, selected, "flagd")
    return made


NOT_EVALUATION = {
    "config": "options of flagd's providers and the variables they are read from",
    "connection": "flagd's server behind TLS, sockets and proxies",
    "flagd-reconnect": "reconnecting to a flagd server, in words of an older suite",
    "flagd-rpc-caching": "a cache of a flagd server's answers",
    "rpc-caching": "a cache of a flagd server's answers",
    "flagd": "an older suite, which evaluation and events have replaced",
    "flagd-json-evaluator": "an older suite, which targeting has replaced",
}
"""Files of the testbed that do not apply as a whole, and why."""


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[[dict[str, Any], Scenario, str], None]]:
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    stages: list[Stage] = []

    def play(document: dict[str, Any], scenario: Scenario, fractional: str = "v2") -> None:
        root = tmp_path / str(len(stages))
        root.mkdir()
        stages.append(Stage(root, document, fractional, remote=scenario.says("the connection is lost")))
        perform(Actor(stages[-1]), scenario.steps, WORDS)

    yield play
    for stage in stages:
        stage.end()


NO_FILES = pytest.mark.skipif(
    not {"OPENFEATURE_SPEC", "FLAGD_TESTBED"} & os.environ.keys(),
    reason="neither OPENFEATURE_SPEC nor FLAGD_TESTBED names a checkout",
)


@NO_FILES
@pytest.mark.parametrize(("document", "scenario", "fractional"), public())
def test_a_public_scenario_holds(
    play: Callable[..., None], document: dict[str, Any], scenario: Scenario, fractional: str
) -> None:
    play(document, scenario, fractional)


@pytest.mark.skipif("FLAGD_TESTBED" not in os.environ, reason="FLAGD_TESTBED names no checkout of flagd-testbed")
@pytest.mark.parametrize("feature", NOT_EVALUATION)
def test_a_public_file_is_left_out_by_name_and_reason(feature: str) -> None:
    pytest.skip(f"flagd {feature}.feature: {NOT_EVALUATION[feature]}")


TEXT = """
  Background:
    Given a stable provider

  Scenario Outline: rows
    Given a <type>-flag with key "<key>" and a default value "<default>"
    And a context containing a key "email", with type "String" and with value "ana@shop"
    And a context containing a key "age", with type "Integer" and with value "20"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"
    And the reason should be "<reason>"
    @objects
    Examples: some
      | key  | type    | default | value       | reason          |
      | tree | Object  | {}      | {\\"a\\": 1}  | STATIC          |
      | zero | Boolean | true    | false       | TARGETING_MATCH |
      | off  | String  | x       | x           | DISABLED        |
      | none | Integer | 1       | 1           | ERROR           |

  Scenario: hooks
    Given a client with added hook
    And a boolean-flag with key "zero" and a default value "true"
    When the flag was evaluated with details
    Then the "before" hook should have been executed
    And the "after, finally" hooks should be called with evaluation details
      | data_type | key        | value |
      | string    | flag_key   | zero  |
      | boolean   | value      | false |
      | string    | error_code | None  |

  Scenario: levels
    Given A table with levels of increasing precedence
      | API    |
      | Client |
    And Context entries for each level from API level down to the "Client" level, with key "key" and value "Client"
    When Some flag was evaluated
    Then The merged context contains an entry with key "key" and value "Client"

  Scenario: a change
    Given a change event handler
    When the flag was modified
    Then the change event handler should have been executed
    And the flag should be part of the event payload

  Scenario: an outage
    Given a stale event handler
    And a ready event handler
    Then the ready event handler should have been executed
    When the connection is lost
    Then the stale event handler should have been executed
    When the connection is restored
    Then the ready event handler should have been executed
    And the client should be in ready state

  Scenario: wrong on purpose
    Given a Boolean-flag with key "zero" and a default value "true"
    When the flag was evaluated with details
    Then the variant should be "more"
"""
FLAGS = {
    "tree": {"variants": {"a": {"a": 1}}, "defaultVariant": "a"},
    "off": {"variants": {"a": "A"}, "defaultVariant": "a", "disabled": True},
    "zero": {
        "variants": {"zero": False, "more": True},
        "defaultVariant": "zero",
        "contextEvaluator": "!customer && email == 'ana@shop' && age > 10 ? 'zero' : ''",
    },
}


def test_the_player_plays_every_kind_of_scenario_and_finds_what_is_wrong(play: Callable[..., None]) -> None:
    *right, wrong = scenarios(TEXT, "own")
    assert len(right) == 8
    for scenario in right:
        play(as_flagd(FLAGS), scenario)
    with pytest.raises(AssertionError, match="more"):
        play(as_flagd(FLAGS), wrong)
    with pytest.raises(AssertionError, match="a step that nobody knows: a miracle"):
        play(as_flagd(FLAGS), Scenario("unknown", frozenset(), (("a miracle", []),)))


def test_what_does_not_apply_is_left_out_by_name_and_reason() -> None:
    asked_of_a_server = Scenario("rpc: cached", frozenset({"@rpc"}), ())
    marked = [str(p.marks[0].kwargs["reason"]) for p in params([asked_of_a_server], lambda _: {"flags": {}}, "flagd") if p.marks]
    assert marked == ["flagd rpc: cached: asks a flagd server for each evaluation"]
