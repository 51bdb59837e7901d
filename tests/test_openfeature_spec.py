"""The scenarios of OpenFeature's appendix B, through the real client: our own vectors, and the public files."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationOptions
from openfeature.hook import Hook
from openfeature.provider import ProviderStatus
from openfeature.transaction_context import ContextVarsTransactionContextPropagator
from pydantic import BaseModel

from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.document import read
from livecfg.openfeature import LivecfgProvider
from tests.e2e.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openfeature.client import OpenFeatureClient

pytestmark = pytest.mark.xdist_group("openfeature")  # the SDK keeps its providers in globals
FOLDER = Path(__file__).parent / "conformance" / "openfeature"
OWN = read((FOLDER / "evaluation.yaml").read_bytes(), "evaluation.yaml").value


class Config(BaseModel, frozen=True):
    """No configuration."""


class Seeing(LivecfgProvider):
    """Remembers the context that reached it."""

    seen: EvaluationContext | None = None

    def _resolve(self, key: str, default: Any, context: EvaluationContext | None) -> Any:
        self.seen = context
        return super()._resolve(key, default, context)


class Waiting(LivecfgProvider):
    """Is not ready before it is let go."""

    def __init__(self, live: LiveConfig[Any]) -> None:
        super().__init__(live)
        self.go = threading.Event()

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        assert self.go.wait(60)
        super().initialize(evaluation_context)


class Noting(Hook):
    """Notes what it was called with; adds to the context before."""

    def __init__(self, adds: dict[str, Any] | None = None) -> None:
        self.adds = adds
        self.calls: dict[str, Any] = {}

    def before(self, hook_context: Any, hints: Any) -> EvaluationContext | None:  # noqa: ARG002 - the SDK's
        self.calls["before"] = hook_context
        return EvaluationContext(attributes=self.adds) if self.adds else None

    def after(self, hook_context: Any, details: Any, hints: Any) -> None:  # noqa: ARG002 - the SDK's
        self.calls["after"] = details

    def error(self, hook_context: Any, exception: Exception, hints: Any) -> None:  # noqa: ARG002 - the SDK's
        self.calls["error"] = exception

    def finally_after(self, hook_context: Any, details: Any, hints: Any) -> None:  # noqa: ARG002 - the SDK's
        self.calls["finally"] = details


class Stage:
    """A LiveConfig over the given flags, registered with the SDK as providers in three conditions."""

    def __init__(self, root: Path, flags: Any) -> None:
        (root / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\nflags: [flags.json]\ngate: flagd\n")
        (root / "base.yaml").write_text("{}\n")
        (root / "flags.json").write_text(json.dumps(flags))
        source = UnsafeNoVerification(root)
        self.live = LiveConfig(Config, source=source, service="shop", env="dev")
        self.provider = Seeing(self.live)
        self.waiting = Waiting(self.live)
        api.set_provider_and_wait(self.provider)

    def client(self, provider: str = "stable") -> OpenFeatureClient:
        if provider == "stable":
            return api.get_client()
        if provider == "not ready":
            api.set_provider(self.waiting, "not ready")
        else:
            wrong = LiveConfig(Config, source=UnsafeNoVerification(Path("/")), service="not a name")
            api.set_provider(LivecfgProvider(wrong), "fatal")
            eventually(lambda: api.get_client("fatal").get_provider_status() is ProviderStatus.FATAL)
        return api.get_client(provider)

    def end(self) -> None:
        self.waiting.go.set()
        api.clear_providers()
        api.clear_hooks()
        api.set_evaluation_context(EvaluationContext())
        api.set_transaction_context(EvaluationContext())
        self.live.stop()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    made = Stage(tmp_path, OWN["flags"])
    yield made
    made.end()


def context_of(attributes: dict[str, Any]) -> EvaluationContext:
    return EvaluationContext(attributes.get("targetingKey"), {k: v for k, v in attributes.items() if k != "targetingKey"})


def asked(client: OpenFeatureClient, case: dict[str, Any]) -> tuple[Any, Any]:
    """Ask by the synchronous and by the asynchronous method."""
    name, rest = case["type"], (case["flag"], case["default"], context_of(case.get("context", {})))
    later = getattr(client, f"get_{name}_details_async")
    return getattr(client, f"get_{name}_details")(*rest), asyncio.run(later(*rest))


@pytest.mark.parametrize("case", OWN["cases"], ids=lambda c: f"{c.get('provider', '')}{c['flag']}-{c['type']}")
def test_a_client_is_given_what_the_vector_says(stage: Stage, case: dict[str, Any]) -> None:
    client = stage.client(case.get("provider", "stable"))
    for made in asked(client, case):
        assert (made.value, type(made.value)) == (case["value"], type(case["value"]))
        assert made.flag_key == case["flag"]
        if "reason" in case:
            assert (made.reason, made.variant, made.error_code) == (case["reason"], case.get("variant"), case.get("error"))
        if "metadata" in case:
            assert made.flag_metadata == case["metadata"] | {"version": str(stage.live.current.revision)}


@pytest.mark.parametrize(
    ("kind", "flag", "default", "stages", "error"),
    [
        ("boolean", "beta", False, {"before", "after", "finally"}, None),
        ("string", "nowhere", "x", {"before", "error", "finally"}, "FLAG_NOT_FOUND"),
        ("integer", "text", 13, {"before", "error", "finally"}, "TYPE_MISMATCH"),
    ],
)
def test_hooks_of_api_client_and_call_run_and_are_given_the_details(
    stage: Stage, kind: str, flag: str, default: Any, stages: set[str], error: str | None
) -> None:
    hooks = [Noting(), Noting(), Noting()]
    client = stage.client()
    api.add_hooks(hooks[:1])
    client.add_hooks(hooks[1:2])
    options = FlagEvaluationOptions(hooks=hooks[2:])
    made = getattr(client, f"get_{kind}_details")(flag, default, flag_evaluation_options=options)
    for hook in hooks:
        assert hook.calls.keys() == stages
        assert hook.calls["before"].provider_metadata.name == "livecfg"
        assert (hook.calls["finally"].value, hook.calls["finally"].error_code) == (made.value, error)


LEVELS = ("API", "Transaction", "Client", "Invocation", "Before Hooks")


def merged(stage: Stage, entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Evaluate with entries at the named levels; gives what reached the provider."""
    client = stage.client()
    api.set_evaluation_context(EvaluationContext(attributes=entries.get("API", {})))
    api.set_transaction_context(EvaluationContext(attributes=entries.get("Transaction", {})))
    client.context = EvaluationContext(attributes=entries.get("Client", {}))
    options = FlagEvaluationOptions(hooks=[Noting(entries.get("Before Hooks"))])
    client.get_boolean_value("beta", False, EvaluationContext(attributes=entries.get("Invocation", {})), options)  # noqa: FBT003 - the SDK's signature
    assert stage.provider.seen is not None
    return dict(stage.provider.seen.attributes)


@pytest.mark.parametrize("level", LEVELS)
def test_an_entry_of_every_level_reaches_the_rules_and_later_levels_win(stage: Stage, level: str) -> None:
    assert merged(stage, {level: {"key": "value"}}) == {"key": "value"}
    upto = LEVELS[: LEVELS.index(level) + 1]
    assert merged(stage, {name: {"key": name, name: 1} for name in upto}) == {"key": level} | dict.fromkeys(upto, 1)


def test_two_tasks_have_transaction_contexts_of_their_own(stage: Stage) -> None:
    client = stage.client()

    async def ask(user: str) -> str:
        api.set_transaction_context(EvaluationContext(user))
        await asyncio.sleep(0)
        return await client.get_string_value_async("mine", "")

    async def both() -> list[str]:
        return await asyncio.gather(ask("u1"), ask("u2"))

    assert asyncio.run(both()) == ["me", "others"]


# --- the public files ---------------------------------------------------------------------------------------------------------

CASTS: dict[str, Any] = {
    "boolean": lambda t: t == "true",
    "string": str,
    "integer": int,
    "float": float,
    "double": float,
    "object": lambda t: json.loads(t.replace('\\"', '"')),
}
Table = list[list[str]]


class Scenario:
    """One public scenario: steps are methods, found by the pattern beside them; a step that is none of these is an error."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.client = stage.client()
        self.case: dict[str, Any] = {"context": {}}
        self.entries: dict[str, dict[str, Any]] = {}
        self.levels: list[str] = []
        self.hook = Noting()

    def play(self, steps: list[tuple[str, Table]]) -> None:
        for text, table in steps:
            found = next(((act, m) for pattern, act in STEPS if (m := re.fullmatch(pattern, text, re.IGNORECASE))), None)
            assert found is not None, f"a step that nobody knows: {text}"
            getattr(self, found[0])(*found[1].groups(), *([table] if table else []))

    def provider(self, condition: str) -> None:
        self.client = self.stage.client({"a not ready": "not ready", "a fatal": "fatal"}.get(condition, "stable"))

    def flag(self, kind: str, key: str, default: str) -> None:
        self.case |= {"type": kind.lower(), "flag": key, "default": CASTS[kind.lower()](default)}

    def attribute(self, key: str, kind: str, text: str) -> None:
        self.case["context"][key] = CASTS[kind.lower()](text)

    def nothing(self, key: str) -> None:
        self.case["context"][key] = None

    def add_hook(self) -> None:
        self.client.add_hooks([self.hook])

    def evaluate(self) -> None:
        self.made = asked(self.client, self.case)[0]

    def value(self, text: str) -> None:
        assert self.made.value == CASTS[self.case["type"]](text)

    def status(self, text: str) -> None:
        assert self.client.get_provider_status().value == text

    def key(self, text: str) -> None:
        assert self.made.flag_key == text

    def variant(self, text: str) -> None:
        assert self.made.variant == text

    def reason(self, text: str) -> None:
        assert self.made.reason == text

    def error(self, text: str) -> None:
        assert self.made.error_code == text

    def metadata(self, table: Table) -> None:
        for key, kind, text in table[1:]:
            assert self.made.flag_metadata[key] == CASTS[kind.lower()](text)

    def no_metadata(self) -> None:
        assert self.made.flag_metadata.keys() == {"version"}  # livecfg always says which revision answered

    def executed(self, names: str) -> None:
        assert set(names.split(", ")) <= self.hook.calls.keys()

    def called_with(self, names: str, table: Table) -> None:
        for name in names.split(", "):
            for kind, key, text in table[1:]:
                expected = None if text == "None" else CASTS[kind.lower()](text)
                assert str(getattr(self.hook.calls[name], key)) == str(expected)

    def entry(self, key: str, value: str, level: str) -> None:
        self.entries.setdefault(level, {})[key] = value

    def order(self, table: Table) -> None:
        self.levels = [row[0] for row in table]

    def entries_upto(self, level: str, key: str, _: str) -> None:
        for name in self.levels[: self.levels.index(level) + 1]:
            self.entry(key, name, name)

    def evaluate_merged(self) -> None:
        self.merged = merged(self.stage, self.entries)

    def merged_has(self, key: str, value: str) -> None:
        assert self.merged[key] == value


STEPS = [
    (r"(a stable|a not ready|a fatal) provider", "provider"),
    (r"(a stable) provider with retrievable context is registered", "provider"),
    (r"(a) provider is registered", "provider"),
    (r'an? (\w+)-flag with key "(.*)" and a (?:default|fallback) value "(.*)"', "flag"),
    (r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"', "attribute"),
    (r'a context containing a key "(.*)" with null value', "nothing"),
    (r"a client with added hook", "add_hook"),
    (r"the flag was evaluated with details", "evaluate"),
    (r'the resolved details value should be "(.*)"', "value"),
    (r'the provider status should be "(.*)"', "status"),
    (r'the flag key should be "(.*)"', "key"),
    (r'the variant should be "(.*)"', "variant"),
    (r'the reason should be "(.*)"', "reason"),
    (r'the error-code should be "(.*)"', "error"),
    (r"the resolved metadata should contain", "metadata"),
    (r"the resolved metadata is empty", "no_metadata"),
    (r'the "(.*)" hooks? should have been executed', "executed"),
    (r'the "(.*)" hooks? should be called with evaluation details', "called_with"),
    (r'a context entry with key "(.*)" and value "(.*)" is added to the "(.*)" level', "entry"),
    (r"a table with levels of increasing precedence", "order"),
    (
        r'context entries for each level from API level down to the "(.*)" level, with key "(.*)" and value "(.*)"',
        "entries_upto",
    ),
    (r"some flag was evaluated", "evaluate_merged"),
    (r'the merged context contains an entry with key "(.*)" and value "(.*)"', "merged_has"),
]


def scenarios(text: str) -> Iterator[list[tuple[str, Table]]]:
    """Give the steps of each scenario and each row of its examples, the background first; each step with its table."""
    background: list[tuple[str, Table]] = []
    found: list[tuple[list[tuple[str, Table]], list[Table]]] = []
    rows: Table | None = None
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        steps = found[-1][0] if found else background
        if word in {"Scenario:", "Scenario"}:
            found.append(([], []))
        elif word == "Examples:":
            found[-1][1].append(rows := [])
        elif word in {"Given", "When", "Then", "And"}:
            steps.append((rest, rows := []))
        elif line.startswith("|") and rows is not None:
            rows.append([cell.strip() for cell in line[1:].rstrip("|").split("|")] if line.endswith("|") else [])
    for steps, tables in found:
        filled: list[dict[str, str]] = [dict(zip(t[0], row, strict=True)) for t in tables for row in t[1:]] if tables else [{}]
        for cells in filled:
            yield [(re.sub(r"<(\w+)>", lambda m, c=cells: c[m[1]], step), table) for step, table in background + steps]


def as_flagd(flags: dict[str, Any]) -> dict[str, Any]:
    """Write the public flags as flagd has them; their conditions are of two forms."""
    made = {}
    for key, flag in flags.items():
        same = re.fullmatch(r"(\w+) == '(.*)' \? '(.*)' : ''", flag.get("contextEvaluator", ""))
        none = re.fullmatch(r"!(\w+) \? '(.*)' : ''", flag.get("contextEvaluator", ""))
        rule: Any = {"if": [{"==": [{"var": same[1]}, same[2]]}, same[3]]} if same else None
        rule = {"if": [{"!": [{"var": none[1]}]}, none[2]]} if none else rule
        assert rule or not flag.get("contextEvaluator")
        parts = {"state": "ENABLED", "variants": flag["variants"], "defaultVariant": flag.get("defaultVariant")}
        made[key] = parts | {"targeting": rule, "metadata": flag.get("flagMetadata")}
    return {"flags": {k: {n: v for n, v in f.items() if v is not None} for k, f in made.items()}}


FEATURES = ("evaluation_v2", "hooks", "contextMerging")
"""`evaluation.feature` asks for the same as evaluation_v2 in words that are deprecated, `metadata.feature` for no metadata at
all, where livecfg always says the revision."""
LEFT_OUT = {
    r'the reason should be "CACHED"': "livecfg caches no answers",
    r"the error message should contain .*": "its text is the reference provider's",
    r"an? (error|stale) provider": "tests/test_openfeature.py",
    r"evaluation options containing specific hooks": "test_hooks_of_api_client_and_call_run_and_are_given_the_details",
    r"an evaluation context with modifiable data": "a duty of the SDK",
    r"the flag was evaluated with details asynchronously": "every own vector is asked by both APIs",
    r'a string-flag with key "wrong-flag" .*': "asks for a text as a text, and expects TYPE_MISMATCH",
    r'a \w+-flag with key "\w+-disabled-flag" .*': "the flag is not in the public file",
}
"""Steps of public scenarios that are not played, and why."""


def played(steps: list[tuple[str, Table]]) -> bool:
    return not any(re.fullmatch(pattern, text) for pattern in LEFT_OUT for text, _ in steps)


@pytest.mark.skipif("OPENFEATURE_SPEC" not in os.environ, reason="OPENFEATURE_SPEC does not name a checkout of open-feature/spec")
@pytest.mark.parametrize("feature", FEATURES)
def test_the_public_scenarios_hold(tmp_path: Path, feature: str) -> None:
    folder = Path(os.environ["OPENFEATURE_SPEC"]) / "specification" / "assets" / "gherkin"
    found = [steps for steps in scenarios((folder / f"{feature}.feature").read_text()) if played(steps)]
    assert found
    play_all(tmp_path, as_flagd(json.loads((folder / "test-flags.json").read_text())), found)


def play_all(root: Path, flags: dict[str, Any], found: list[list[tuple[str, Table]]]) -> None:
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    for number, steps in enumerate(found):
        (root / str(number)).mkdir()
        stage = Stage(root / str(number), flags)
        try:
            Scenario(stage).play(steps)
        finally:
            stage.end()


TEXT = """
  Background:
    Given a stable provider

  Scenario Outline: rows
    Given a <type>-flag with key "<key>" and a default value "<default>"
    And a context containing a key "email", with type "String" and with value "ana@shop"
    When the flag was evaluated with details
    Then the resolved details value should be "<value>"
    And the reason should be "<reason>"
    @objects
    Examples: some
      | key  | type    | default | value        | reason          |
      | tree | Object  | {}      | {\\"a\\": 1}   | STATIC          |
      | zero | Boolean | true    | <false>      | TARGETING_MATCH |
      | none | Integer | 1       | 1            | ERROR           |

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

  Scenario: wrong on purpose
    Given a Boolean-flag with key "zero" and a default value "true"
    When the flag was evaluated with details
    Then the variant should be "more"
"""


def test_the_reader_of_the_public_scenarios_plays_them_and_finds_what_is_wrong(tmp_path: Path) -> None:
    zero = {"variants": {"zero": False, "more": True}, "contextEvaluator": "email == 'ana@shop' ? 'zero' : ''"}
    flags = as_flagd({"tree": {"variants": {"a": {"a": 1}}, "defaultVariant": "a"}, "zero": zero | {"defaultVariant": "zero"}})
    *right, wrong = scenarios(TEXT.replace("<false>", "false"))
    assert len(right) == 5
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    play_all(tmp_path / "right", flags, right)
    with pytest.raises(AssertionError, match="more"):
        play_all(tmp_path / "wrong", flags, [wrong])
    with pytest.raises(AssertionError, match="a step that nobody knows: a miracle"):
        play_all(tmp_path / "wrong" / "0", flags, [[("a miracle", [])]])
