"""compile_split(): who gets which arm; a split file → CompiledSplit, through the same rules and buckets as every flag.

The bucket is drawn from `salt:unit`, never from names, so that a renamed file moves nobody; the arithmetic is `v2`, for good.
In this order: overrides, `where` (outside it: the first arm), a unit (without one: the first arm), weights. Arms stand on the
line in the order of the file: growing one arm at the cost of the next moves nobody out of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from livecfg.errors import RefusedError
from livecfg.flags.assignment import Assignment, Key, phase_of
from livecfg.flags.bucketing import MAX_TOTAL
from livecfg.flags.compiled import CompiledFlag, Definition, compiled
from livecfg.flags.fractions import Drawn
from livecfg.flags.segment import Segment, named
from livecfg.flags.targeting import Dialect, TooLargeError, read_rule
from livecfg.refusal import Code, Refusal
from livecfg.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.document import Document, Loc, Position
    from livecfg.flags.evaluate import Evaluation
    from livecfg.flags.explain import Trace

Name = Annotated[str, Field(min_length=1, max_length=200)]
Weight = Annotated[int, Field(ge=0, le=MAX_TOTAL, strict=True)]


class _Arm(BaseModel, frozen=True, extra="forbid"):
    weight: Weight
    value: Any = None


class _Override(BaseModel, frozen=True, extra="forbid"):
    when: dict[str, Any]
    arm: Name


class _Split(BaseModel, frozen=True, extra="forbid"):
    split: Name
    salt: Name
    by: Name = "targetingKey"
    where: dict[str, Any] | None = None
    arms: Annotated[dict[Name, _Arm], Field(min_length=1, max_length=1000)]
    overrides: Annotated[list[_Override], Field(max_length=1000)] = []


class CompiledSplit:
    """One split: `name`, `arms` (raw value by name), `choose(context)` → the name of an arm. Never raises when asked."""

    __slots__ = ("_document", "_first", "_flag", "arms", "assignment", "name")

    def __init__(self, model: _Split, document: Document, flag: CompiledFlag) -> None:
        self.name = model.split
        self.arms: dict[str, Any] = {name: arm.value for name, arm in model.arms.items()}
        self._first = next(iter(self.arms))
        self._flag = flag
        phase = phase_of(model.model_dump(exclude={"split"}), list(model.arms))
        self.assignment = Assignment(Key("split", model.split, phase), tuple(model.by.split(".")), flag.dialect.static)
        self._document = document

    def choose(self, context: Mapping[str, Any]) -> str:
        """Give the name of the unit's arm."""
        return self._flag.serve(context, self._first)  # type: ignore[no-any-return]  # a variant: one of the names

    def evaluate(self, context: Mapping[str, Any], revision: str = "") -> Evaluation[str]:
        """Give the name of the unit's arm and why: the rule that decided, the bucket that was drawn."""
        return self._flag.evaluate(context, self._first, revision)

    def explain(self, context: Mapping[str, Any], _: object = None, revision: str = "") -> Trace[str]:
        """Give the unit's arm with every step that led to it."""
        return self._flag.explain(context, self._first, revision)

    @property
    def dialect(self) -> Dialect:
        """What its rules are read by."""
        return self._flag.dialect

    def positions(self, arm: str, loc: Loc = (), *, at_key: bool = False) -> Position:
        """Say where a part of an arm's value stands in the file."""
        full: Loc = ("arms", arm, "value", *loc)
        return self._document.key_position(full) if at_key else self._document.position(full)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, CompiledSplit):
            return NotImplemented
        return (self.name, self.arms, self._flag) == (other.name, other.arms, other._flag)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"CompiledSplit({self.name!r}, {list(self.arms)})"


def compile_split(
    document: Document,
    *,
    static: Mapping[str, object],
    clock: Callable[[], int],
    segments: Mapping[str, Segment] | None = None,
) -> CompiledSplit:
    """Compile one split file; `static` lies under each context, `clock` gives Unix seconds for `$flagd.timestamp`.

    Raises:
        RefusedError: every fault, each with its line and column.

    """
    model = validate(_Split, document, Code.SPLIT_INVALID)
    dialect = Dialect("v2", "strict", static, named(document.value, segments or {}), clock)
    checks: list[tuple[Any, Loc]] = [(o.when, ("overrides", i, "when")) for i, o in enumerate(model.overrides)]
    if model.where is not None:
        checks.append((model.where, ("where",)))
    faults = check_rules(document, dialect, checks)
    total = sum(arm.weight for arm in model.arms.values())
    if not 0 < total <= MAX_TOTAL:
        message = f"the weights sum to {total:,}; expected 1 to {MAX_TOTAL:,}"
        faults.append(document.refusal(Code.SPLIT_INVALID, ("arms",), message))
    for i, override in enumerate(model.overrides):
        if override.arm not in model.arms:
            message = f"there is no arm {override.arm!r}; the arms are {', '.join(model.arms)}"
            faults.append(document.refusal(Code.SPLIT_INVALID, ("overrides", i, "arm"), message))
    if faults:
        raise RefusedError(*faults)
    return CompiledSplit(model, document, compiled(_definition(model), dialect))


def check_rules(document: Document, dialect: Dialect, rules: list[tuple[Any, Loc]]) -> list[Refusal]:
    """Give the faults of conditions, each at its place in the document."""
    faults: list[Refusal] = []

    def fault(code: Code, loc: Loc, message: str, advice: str = "") -> None:
        faults.append(document.refusal(code, loc, message, advice=advice))

    for raw, loc in rules:
        try:
            read_rule({"!!": [raw]}, "", dialect, lambda code, at, *rest, loc=loc: fault(code, (*loc, *at[2:]), *rest), ())
        except TooLargeError as error:
            fault(Code.SPLIT_INVALID, loc, f"the rule is too large: {error}")
    return faults


def draw(salt: str, unit: str, arms: Mapping[Any, int]) -> dict[str, Any]:
    """Write the rule that draws an arm by weight for the unit that `unit` names."""
    return {"fractional": Drawn([{"cat": [f"{salt}:", {"var": unit}]}, *([arm, weight] for arm, weight in arms.items())])}


def without(unit: str) -> dict[str, Any]:
    """Write the condition that there is no unit: null, or an empty text."""
    return {"or": [{"==": [{"var": unit}, None]}, {"===": [{"var": unit}, ""]}]}


def _definition(model: _Split) -> Definition:
    first = next(iter(model.arms))
    clauses: list[Any] = []
    for override in model.overrides:
        clauses += [override.when, override.arm]
    if model.where is not None:
        clauses += [{"!": [model.where]}, first]
    clauses += [without(model.by), first, draw(model.salt, model.by, {name: arm.weight for name, arm in model.arms.items()})]
    names = {name: name for name in model.arms}
    return Definition(model.split, "ENABLED", names, "str", first, {"if": clauses}, {}, ("splits", model.split), ())
