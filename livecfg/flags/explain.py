"""Trace: an evaluation and every step of the rule that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.evaluate import Evaluation
    from livecfg.flags.targeting import Rule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation that ran: where it stands in the rule, its operator, what it gave."""

    where: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Trace(Generic[T]):
    """An evaluation with the steps that led to it, in the order in which they ended (innermost first)."""

    evaluation: Evaluation[T]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        made = self.evaluation
        lines = [f"{s.where}: {s.operator} gave {s.value!r}" for s in self.steps]
        drawn = f", bucket {made.bucket}" if made.bucket is not None else ""
        error = f" ({made.error_code})" if made.error_code else ""
        served = f"variant {made.variant!r}" if made.variant is not None else "the caller's default"
        return "\n".join([*lines, f"{made.reason}{error}: {served} by {made.rule}{drawn}"])


def trace(
    flag: CompiledFlag,
    rule: Rule,
    function: Callable[..., Evaluation[Any]],
    context: Mapping[str, Any],
    default: T,
    revision: str,
) -> Trace[T]:
    """Run a rule compiled for tracing, and note each operation's value."""
    from livecfg.flags.compiled import place  # noqa: PLC0415 - that module imports this one late

    steps: list[Step] = []

    def note(identity: int, value: Any) -> Any:
        loc, operator = rule.notes[identity]
        steps.append(Step(place(loc), operator, value))
        return value

    function(context, default, revision, flag, note)
    return Trace(flag.evaluate(context, default, revision), tuple(steps))
