"""Evaluation: what a flag gives and why; evaluate(), explain().

The words (reason, error code, variant, metadata) are OpenFeature's. An evaluation is data: nothing here raises into the
application, and a caller who asked for a bool gets a bool.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.explain import Trace

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Reason(StrEnum):
    """Why a value was given (OpenFeature's resolution reasons)."""

    STATIC = "STATIC"
    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    DISABLED = "DISABLED"
    ERROR = "ERROR"


class ErrorCode(StrEnum):
    """What went wrong when the reason is ERROR (OpenFeature's error codes)."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    GENERAL = "GENERAL"


class Evaluation(Generic[T_co]):
    """A value and why it was given. Treat it as immutable: it is not frozen because that triples the cost of making one.

    `variant` is None when the caller's default was given. `rule` says which part of the targeting decided, `bucket` the
    number that a fractional drew.
    """

    __slots__ = ("bucket", "error_code", "flag_metadata", "reason", "revision", "rule", "value", "variant")

    def __init__(  # noqa: PLR0913, PLR0917 - made by generated code, by position, once per evaluation
        self,
        value: T_co,
        variant: str | None,
        reason: Reason,
        error_code: ErrorCode | None,
        revision: str,
        rule: str,
        bucket: int | None,
        flag_metadata: Mapping[str, Any],
    ) -> None:
        self.value = value
        self.variant = variant
        self.reason = reason
        self.error_code = error_code
        self.revision = revision
        self.rule = rule
        self.bucket = bucket
        self.flag_metadata = flag_metadata

    def __repr__(self) -> str:
        return f"Evaluation({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluation) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # values and metadata may be mappings


_NOTHING: Mapping[str, Any] = {}


def not_found(key: object, default: T, revision: str) -> Evaluation[T]:  # noqa: ARG001 - `key` keeps call sites readable
    """Give the evaluation of a flag that does not exist: the caller's default, FLAG_NOT_FOUND."""
    return Evaluation(default, None, Reason.ERROR, ErrorCode.FLAG_NOT_FOUND, revision, "", None, _NOTHING)


def evaluate(flag: CompiledFlag, default: T, context: Mapping[str, Any], revision: str = "") -> Evaluation[T]:
    """Give the value of `flag` for `context`, of the type of `default`. Never raises."""
    return flag.evaluate(context, default, revision)


def explain(flag: CompiledFlag, default: T, context: Mapping[str, Any], revision: str = "") -> Trace[T]:
    """Evaluate with tracing on: the same rule, and every step it took. Never raises."""
    return flag.explain(context, default, revision)
