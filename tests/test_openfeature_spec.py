"""What OpenFeature's appendix B asks of evaluation, through the real client: our own vectors."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationOptions
from openfeature.transaction_context import ContextVarsTransactionContextPropagator

from livecfg.document import read
from tests.openfeature_stage import Noting, Stage, asked, merged

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("openfeature")  # the SDK keeps its providers in globals
FOLDER = Path(__file__).parent / "conformance" / "openfeature"
OWN = read((FOLDER / "evaluation.yaml").read_bytes(), "evaluation.yaml").value


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    made = Stage(tmp_path, OWN["flags"])
    yield made
    made.end()


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


def test_the_callers_context_is_left_as_it_was(stage: Stage) -> None:
    given = EvaluationContext("u1", {"user": {"plan": "pro", "tags": ["a"]}, "email": "ana@shop"})
    before = copy.deepcopy(given)
    assert stage.client().get_string_value("mine", "", given) == "me"
    assert given == before
