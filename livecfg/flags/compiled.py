"""CompiledFlag: one flag, ready to be asked; Definition: what its document says, checked."""

from __future__ import annotations

import marshal
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from livecfg.flags.evaluate import ErrorCode, Evaluation, Reason
from livecfg.flags.generate import GLOBALS, Witness, code_of, dispatched, parameters, table
from livecfg.flags.targeting import Dialect, Leaf, Rule, read_rule
from livecfg.flags.templates import MOST_OPERATIONS, Fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from livecfg.document import Loc
    from livecfg.flags.assignment import Assignment
    from livecfg.flags.explain import Trace
    from livecfg.flags.generate import Mode
    from livecfg.flags.templates import Known

T = TypeVar("T")
SAFE_INTEGER = (1 << 53) - 1
"""Beyond this a float cannot hold every integer."""
_MOST_CODES = 64
MISMATCH: Any = object()
"""What `converted` gives where something would be lost."""
_PLAIN: dict[type, str] = {bool: "bool", str: "str", int: "int"}
_WITNESSES: dict[str, Any] = {"bool": False, "str": "", "int": 0, "float": 0.0, "Witness": Witness()}


class _Outcome(NamedTuple):
    """What a result of the rule comes to: a variant and its value, or the caller's default."""

    variant: str | None
    value: Any
    reason: Reason
    error: ErrorCode | None = None


class Definition(NamedTuple):
    """One flag as its document says it, checked."""

    key: str
    state: str
    variants: Mapping[str, Any]
    kind: str
    """The one plain type that all variants have; see `kind_of`."""
    default_variant: str | None
    targeting: Any
    metadata: Mapping[str, Any]
    loc: Loc
    split_at: Loc | None = None
    """Results below this place were drawn by a split or an experiment: their reason is SPLIT."""

    def same(self, other: Definition) -> bool:
        """Tell whether both say the same, types included: `==` alone takes 1, 1.0 and true for one value."""
        return self == other and _exactly(self) == _exactly(other)

    def outcome(self, result: Any) -> _Outcome:
        """Say what a result of the rule comes to."""
        if result is None:
            return self.default(Reason.DEFAULT)
        name = ("true" if result else "false") if isinstance(result, bool) else result
        if isinstance(name, str) and name in self.variants:
            return _Outcome(name, self.variants[name], Reason.TARGETING_MATCH)
        return _Outcome(None, None, Reason.ERROR, ErrorCode.GENERAL)

    def takes(self, results: Iterable[Any]) -> bool:
        """Tell whether each of these results of the rule comes to a value."""
        variants = self.variants
        for result in results:
            if (type(result) is not str or result not in variants) and self.outcome(result).error is not None:
                return False
        return True

    def default(self, reason: Reason) -> _Outcome:
        """Give the default variant, or the caller's default when there is none."""
        if self.default_variant is None:
            return _Outcome(None, None, Reason.DEFAULT)
        if self.default_variant not in self.variants:
            return _Outcome(None, None, Reason.ERROR, ErrorCode.GENERAL)
        return _Outcome(self.default_variant, self.variants[self.default_variant], reason)


class CompiledFlag:
    """One flag, compiled: `serve(context, default)` gives its value, `evaluate(context, default, revision)` an Evaluation.

    Both never raise, and give a value of the type of `default`. Equal when the flag says the same; shared by snapshots.
    """

    __slots__ = (
        *("_fitted", "assignment", "definition", "dialect", "evaluate"),
        *("key", "kind", "metadata", "said", "serve", "state", "variants"),
    )

    assignment: Assignment | None
    """Of the experiment that the flag is under: where what it draws is counted."""
    serve: Callable[[Mapping[str, Any], Any], Any]
    evaluate: Callable[[Mapping[str, Any], Any, str], Evaluation[Any]]

    def __init__(self, definition: Definition, dialect: Dialect, rule: Rule | Fitted) -> None:
        self.key = definition.key
        self.assignment = None
        self.said: Any = None
        """What the document said of it, or the bytes of that: the next version of the document may say the same."""
        self.state = definition.state
        self.variants = definition.variants
        self.metadata = definition.metadata
        self.definition = definition
        self.dialect = dialect
        self.kind = definition.kind
        self.evaluate = self._first_evaluate
        self._fitted: Fitted | None = None
        if isinstance(rule, Fitted):
            self._fitted = rule
            self.serve = self._first_serve
            return
        self.serve = self._bind(rule, "serve")
        if len(rule.notes) > MOST_OPERATIONS:  # a rule that Python cannot nest is refused now, not met at the first evaluation
            self.evaluate = self._bind(rule, "evaluate")

    def _first_serve(self, context: Mapping[str, Any], default: Any) -> Any:
        try:
            serve = self.ready()
        except (RecursionError, MemoryError):  # the caller's stack is nearly full: this call only
            return default
        return serve(context, default)

    def ready(self) -> Callable[[Mapping[str, Any], Any], Any]:
        """Give `serve` itself, compiled when it is first asked for: most flags of a load are asked for by other services."""
        fitted = self._fitted
        if fitted is not None:
            known = fitted.known()
            self.serve = self._filled(known) if known is not None else self._bind(self.rule(), "serve")
            self._fitted = None  # last: another thread takes `serve` then
        return self.serve

    def _first_evaluate(self, context: Mapping[str, Any], default: T, revision: str) -> Evaluation[T]:
        """Compile `evaluate` when it is first asked for: most flags are only ever served."""
        try:
            bound = self._bind(self.rule(), "evaluate")
        except (RecursionError, MemoryError) as error:  # the caller's stack is nearly full: this call only
            return self.failed(error, default, revision)
        self.evaluate = bound
        made: Evaluation[T] = bound(context, default, revision)
        return made

    def rule(self) -> Rule:
        """Read the rule again; it was accepted before, so nothing is refused now."""
        return rule_of(self.definition, self.dialect, ignore)

    def explain(self, context: Mapping[str, Any], default: T, revision: str = "") -> Trace[T]:
        """Evaluate with tracing on: the same rule, and every step it took. Never raises."""
        from livecfg.flags.explain import Trace, trace  # noqa: PLC0415 - rarely asked for

        try:
            rule = self.rule()
            bound = self._bind(rule, "trace")
        except (RecursionError, MemoryError):  # tracing nests deeper than evaluation does: the answer without its steps
            return Trace(self.evaluate(context, default, revision), ())
        return trace(self, rule, bound, context, default, revision)

    def _bind(self, rule: Rule, mode: Mode) -> Callable[..., Any]:
        outcomes = [self._outcome(leaf) for leaf in rule.leaves]
        leaves, _ = _numbered(outcomes)
        filled: dict[str, Any] = {}
        for i, (number, outcome) in enumerate(zip(leaves, outcomes, strict=True)):
            filled[f"value{number}"] = float(outcome.value) if self.kind == "float" and number >= 0 else outcome.value
            if mode != "serve":
                filled |= {f"variant{number}": outcome.variant, f"reason{i}": outcome.reason, f"error{i}": outcome.error}
                filled[f"rule{i}"] = place(rule.leaves[i].loc)
        more = [filled[name] for name in parameters(leaves, mode)]
        traced = [None] if mode == "trace" else []
        dispatch = dispatched(rule.shape, mode)
        more += [table(dispatch, rule.constants)] if dispatch else []
        return FunctionType(code_of(rule.shape, leaves, self.kind, mode), GLOBALS, mode, (self, *traced, *rule.constants, *more))

    def _filled(self, known: Known) -> Callable[..., Any]:
        """Give `serve` of a rule that fitted a template."""
        variants, default = self.variants, self.definition.default_variant
        key = (known.results, default, self.kind)
        made = known.codes.get(key)
        if made is None:
            leaves, names = _numbered([self.definition.outcome(result) for result in known.results])
            made = code_of(known.shape, leaves, self.kind, "serve"), names, dispatched(known.shape, "serve")
            if len(known.codes) < _MOST_CODES:
                known.codes[key] = made
        code, names, dispatch = made
        values = [variants[name] for name in names]
        if self.kind == "float":
            values = list(map(float, values))
        if dispatch:
            values.append(table(dispatch, known.constants))
        return FunctionType(code, GLOBALS, "serve", (self, *known.constants, *values))

    def _outcome(self, leaf: Leaf) -> _Outcome:
        definition = self.definition
        if definition.state == "DISABLED":
            return _Outcome(None, None, Reason.DISABLED)
        if not definition.targeting:
            return definition.default(Reason.STATIC)
        made = definition.outcome(leaf.result)
        at = definition.split_at
        return made._replace(reason=Reason.SPLIT) if at is not None and made.error is None and leaf.loc[: len(at)] == at else made

    # --- what generated code falls back on ----------------------------------------------------------------------------

    def other(self, context: Mapping[str, Any], default: Any) -> Any:
        """Serve by `evaluate`: a default of another type than the variants have, a context that the short way cannot take."""
        return self.coerced(context, default, "").value

    def coerced(self, context: Mapping[str, Any], default: Any, revision: str) -> Evaluation[Any]:
        """Evaluate, then convert the value to the type of `default` where nothing is lost."""
        made: Evaluation[Any] = self.evaluate(context, _WITNESSES[self.kind], revision)
        if made.variant is None:
            made.value = default
            return made
        value = converted(made.value, default)
        if value is MISMATCH:
            return Evaluation(default, None, Reason.ERROR, ErrorCode.TYPE_MISMATCH, revision, made.rule, None, self.metadata)
        made.value = value
        return made

    def pick(self, result: Any, default: Any) -> Any:
        """Serve what a computed result comes to."""
        outcome = self.definition.outcome(result)
        if outcome.variant is None:
            return default
        return float(outcome.value) if self.kind == "float" else outcome.value

    def detail(self, result: Any, default: Any, revision: str, rule: str) -> Evaluation[Any]:
        """Evaluate what a computed result comes to."""
        variant, value, reason, error = self.definition.outcome(result)
        if variant is None:
            value = default
        elif self.kind == "float":
            value = float(value)
        return Evaluation(value, variant, reason, error, revision, rule, None, self.metadata)

    def failed(self, _: Exception, default: Any, revision: str) -> Evaluation[Any]:
        """Give the evaluation of a rule that could not run."""
        return Evaluation(default, None, Reason.ERROR, ErrorCode.PARSE_ERROR, revision, "targeting", None, self.metadata)

    def unknown(self, _: int) -> Any:
        """Stop at an operator that nobody knows (gate `flagd`)."""
        raise LookupError("unknown operator")

    def data(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Give all that a rule can see."""
        here = {"flagKey": self.key, "timestamp": self.dialect.clock()}
        return {"targetingKey": None, **self.dialect.static, **context, "$flagd": here}

    # --- identity -----------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if self is other:  # most flags of two snapshots
            return True
        if not isinstance(other, CompiledFlag):
            return NotImplemented
        mine, its = self.dialect._replace(clock=_no_clock), other.dialect._replace(clock=_no_clock)
        return mine.same(its) and self.definition.same(other.definition)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"CompiledFlag({self.key!r}, {self.state})"


def _numbered(outcomes: list[_Outcome]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Number the variants that a rule can end at: the number of each leaf's, -1 for the caller's default; their names."""
    names: dict[str, int] = {}
    leaves = tuple([names.setdefault(o.variant, len(names)) if o.variant is not None else -1 for o in outcomes])
    return leaves, tuple(names)


def _exactly(definition: Definition) -> bytes | str:
    """Write out what differs between types; marshal is five times faster than `repr`, but refuses what experiments add."""
    variants, metadata = dict(definition.variants), dict(definition.metadata)
    try:
        return marshal.dumps((variants, definition.targeting, metadata), 2)  # version 2: nothing depends on object identity
    except ValueError:
        return repr((variants, definition.targeting, metadata))


def compiled(definition: Definition, dialect: Dialect) -> CompiledFlag:
    """Compile a definition that is known to be sound."""
    return CompiledFlag(definition, dialect, rule_of(definition, dialect, ignore))


_NO_RULE: tuple[Any, list[Any]] = (((), ("leaf", 0), ()), [])


def rule_of(definition: Definition, dialect: Dialect, fault: Callable[..., None]) -> Rule:
    """Read the rule of a flag; without targeting, or disabled, it is one leaf."""
    if not definition.targeting or definition.state != "ENABLED":
        return Rule(*_NO_RULE, [Leaf(None, (*definition.loc, "targeting"))], [], frozenset())
    return read_rule(definition.targeting, definition.key, dialect, fault, (*definition.loc, "targeting"))


def converted(value: Any, default: Any) -> Any:
    """Convert a variant's value to the type of the caller's default; `MISMATCH` where something would be lost."""
    if isinstance(value, dict | list):
        return _copied(value) if default is None or isinstance(default, type(value)) else MISMATCH
    if default is None or type(value) is type(default) or (isinstance(value, str) and isinstance(default, str)):
        return value
    numbers = isinstance(value, int | float) and isinstance(default, int | float)
    if not numbers or isinstance(value, bool) or isinstance(default, bool) or abs(value) > SAFE_INTEGER:
        return MISMATCH
    if isinstance(default, float):
        return float(value)
    return int(value) if value == int(value) else MISMATCH


def _copied(value: Any) -> Any:
    """Copy JSON, so that a caller who edits a value edits nobody else's."""
    if isinstance(value, dict):
        return {k: _copied(v) if isinstance(v, dict | list) else v for k, v in value.items()}
    return [_copied(v) if isinstance(v, dict | list) else v for v in value]


def kind_of(variants: Mapping[str, Any]) -> str:
    """Name the one plain type that all variants have: bool, str, int, or float for numbers of both types; else Witness."""
    kinds = set(map(type, variants.values()))
    if len(kinds) == 1:
        (kind,) = kinds
        if kind in _PLAIN:
            return _PLAIN[kind]
    if kinds and kinds <= {int, float} and all(abs(v) <= SAFE_INTEGER for v in variants.values()):
        return "float"
    return "Witness"


def place(loc: Loc) -> str:
    """Write a place in a rule for people: `targeting.if[1]`."""
    parts = loc if loc[:1] == ("$evaluators",) else loc[2:]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "targeting"


def ignore(*_: object) -> None:
    """Take a fault that was reported before."""


def _no_clock() -> int:
    return 0
