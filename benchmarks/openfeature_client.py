"""Through OpenFeature: its client around livecfg, against the same client around the least that a provider can be.

The floor calls a hand-written function for each flag and explains nothing. The figures are those of a whole
`client.get_…_value(key, default, context)`, most of which is the client's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata
from pydantic import BaseModel

from benchmarks.evaluate import CONTEXT, documents, functions
from benchmarks.figures import Figure, interleaved_ns, ratio, show
from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.openfeature import LivecfgProvider
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOPS = 5_000


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


class Floor(AbstractProvider):
    """A function for each flag."""

    def __init__(self, by_key: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
        super().__init__()
        self._by_key = by_key

    def get_metadata(self) -> Metadata:
        """Name the provider."""
        return Metadata("floor")

    def _resolve(
        self, flag_key: str, default_value: Any, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[Any]:
        assert evaluation_context is not None
        context = {**evaluation_context.attributes, "targetingKey": evaluation_context.targeting_key}
        value = self._by_key[flag_key](context)
        return FlagResolutionDetails(value, None, None, Reason.TARGETING_MATCH, default_value, {"version": "r"})

    resolve_boolean_details = resolve_string_details = resolve_integer_details = _resolve
    resolve_float_details = resolve_object_details = _resolve


class Ready(LivecfgProvider):
    """The provider of an application whose first revision is there."""

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Wait for nothing."""


def through_openfeature() -> list[Figure]:
    """Measure W1 to W6 of benchmarks/evaluate.py."""
    live = LiveConfig(Config, source=UnsafeNoVerification(Path()), service="bench", env="dev")
    live._publish(snapshot(flags={"flags": documents()}))  # noqa: SLF001 - what the follower does at a swap
    api.set_provider_and_wait(Floor(functions()), "floor")
    api.set_provider_and_wait(Ready(live), "livecfg")
    attributes = {name: value for name, value in CONTEXT.items() if name != "targetingKey"}
    context = EvaluationContext(CONTEXT["targetingKey"], attributes)
    figures = []
    for key in functions():
        ask = {name: _asker(name, key, context) for name in ("floor", "livecfg")}
        ns = interleaved_ns(ask, loops=LOOPS)
        figures.append(Figure(f"{key} OpenFeature around a function", ns["floor"], "ns"))
        figures.append(
            Figure(f"{key} OpenFeature around livecfg", ns["livecfg"], "ns", "a function", ratio(ns["livecfg"], ns["floor"]))
        )
    api.shutdown()
    return figures


def _asker(domain: str, key: str, context: EvaluationContext) -> Callable[[int], None]:
    client = api.get_client(domain)
    default: Any = "a" if key == "W6" else False
    get: Callable[..., Any] = client.get_string_value if key == "W6" else client.get_boolean_value
    wanted = functions()[key](CONTEXT)
    if get(key, default, context) != wanted:
        raise SystemExit(f"{key}: {domain} gives something else than {wanted!r}")

    def run(n: int) -> None:
        for _ in range(n):
            get(key, default, context)

    return run


if __name__ == "__main__":
    show("Through OpenFeature, ns of CPU per call", through_openfeature())
