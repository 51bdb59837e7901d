"""compile_flags(): a flagd flag document → CompiledFlag by key; CompiledFlag: one flag, ready to be asked.

The document is flagd's (open-feature/flagd-schemas, `flags.json`): `flags`, `$evaluators`, `metadata`. At its root a key of
ours, `x-livecfg: {fractional: v2 | v3}`, says which hash it means; inside a flag there is nothing of ours. All faults of a
document are refused together, each at its place. What loads can be evaluated for any context, without an exception.
"""

from __future__ import annotations

import math
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from livecfg.errors import RefusedError
from livecfg.flags.evaluate import ErrorCode, Evaluation, Reason
from livecfg.flags.generate import GLOBALS, Witness, code_of, parameters
from livecfg.flags.targeting import Dialect, Fractional, Gate, Leaf, Rule, TooLargeError, read_rule
from livecfg.refusal import Code, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.document import Document, Loc
    from livecfg.flags.explain import Trace
    from livecfg.flags.generate import Mode

T = TypeVar("T")
SAFE_INTEGER = (1 << 53) - 1
"""Beyond this a float cannot hold every integer."""
_ROOT_KEYS = frozenset({"flags", "$evaluators", "metadata", "$schema", "x-livecfg"})
_FLAG_KEYS = frozenset({"state", "variants", "defaultVariant", "targeting", "metadata"})
_STATES = ("ENABLED", "DISABLED")
_MISMATCH: Any = object()
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
    default_variant: str | None
    targeting: Any
    metadata: Mapping[str, Any]
    loc: Loc
    match: Reason = Reason.TARGETING_MATCH

    def outcome(self, result: Any) -> _Outcome:
        """Say what a result of the rule comes to (flags.md §2, rule 4)."""
        if result is None:
            return self.default(Reason.DEFAULT)
        name = ("true" if result else "false") if isinstance(result, bool) else result
        if isinstance(name, str) and name in self.variants:
            return _Outcome(name, self.variants[name], self.match)
        return _Outcome(None, None, Reason.ERROR, ErrorCode.GENERAL)

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

    __slots__ = ("_definition", "_dialect", "_kind", "evaluate", "key", "metadata", "serve", "state", "variants")

    serve: Callable[[Mapping[str, Any], Any], Any]
    evaluate: Callable[[Mapping[str, Any], Any, str], Evaluation[Any]]

    def __init__(self, definition: Definition, dialect: Dialect, rule: Rule) -> None:
        self.key = definition.key
        self.state = definition.state
        self.variants = definition.variants
        self.metadata = definition.metadata
        self._definition = definition
        self._dialect = dialect
        self._kind = _kind_of(definition.variants)
        self.serve = self._bind(rule, "serve")
        self.evaluate = self._first_evaluate

    def _first_evaluate(self, context: Mapping[str, Any], default: T, revision: str) -> Evaluation[T]:
        """Compile `evaluate` when it is first asked for: most flags are only ever served."""
        self.evaluate = self._bind(self.rule(), "evaluate")
        return self.evaluate(context, default, revision)

    def rule(self) -> Rule:
        """Read the rule again; it was accepted before, so nothing is refused now."""
        return rule_of(self._definition, self._dialect, _ignore)

    def explain(self, context: Mapping[str, Any], default: T, revision: str = "") -> Trace[T]:
        """Evaluate with tracing on: the same rule, and every step it took. Never raises."""
        from livecfg.flags.explain import trace  # noqa: PLC0415 - rarely asked for

        rule = self.rule()
        return trace(self, rule, self._bind(rule, "trace"), context, default, revision)

    def _bind(self, rule: Rule, mode: Mode) -> Callable[..., Any]:
        outcomes = [self._outcome(leaf) for leaf in rule.leaves]
        served = tuple(o.variant is not None for o in outcomes)
        defaults: list[Any] = [self, *([None] if mode == "trace" else []), *rule.constants]
        for index, names in parameters(served, mode):
            outcome, where = outcomes[index], place(rule.leaves[index].loc)
            value = float(outcome.value) if self._kind == "float" and outcome.variant is not None else outcome.value
            parts = {"value": value, "variant": outcome.variant, "reason": outcome.reason, "error": outcome.error, "rule": where}
            defaults += [parts[name] for name in names]
        return FunctionType(code_of(rule.shape, served, self._kind, mode), GLOBALS, mode, tuple(defaults))

    def _outcome(self, leaf: Leaf) -> _Outcome:
        definition = self._definition
        if definition.state == "DISABLED":
            return _Outcome(None, None, Reason.DISABLED)
        if not definition.targeting:
            return definition.default(Reason.STATIC)
        return definition.outcome(leaf.result)

    # --- what generated code falls back on ----------------------------------------------------------------------------

    def other(self, context: Mapping[str, Any], default: Any) -> Any:
        """Serve a default of another type than the variants have."""
        return self.coerced(context, default, "").value

    def coerced(self, context: Mapping[str, Any], default: Any, revision: str) -> Evaluation[Any]:
        """Evaluate, then convert the value to the type of `default` where nothing is lost."""
        made: Evaluation[Any] = self.evaluate(context, _WITNESSES[self._kind], revision)
        if made.variant is None:
            made.value = default
            return made
        value = converted(made.value, default)
        if value is _MISMATCH:
            return Evaluation(default, None, Reason.ERROR, ErrorCode.TYPE_MISMATCH, revision, made.rule, None, self.metadata)
        made.value = value
        return made

    def pick(self, result: Any, default: Any) -> Any:
        """Serve what a computed result comes to."""
        outcome = self._definition.outcome(result)
        if outcome.variant is None:
            return default
        return float(outcome.value) if self._kind == "float" else outcome.value

    def detail(self, result: Any, default: Any, revision: str, rule: str) -> Evaluation[Any]:
        """Evaluate what a computed result comes to."""
        variant, value, reason, error = self._definition.outcome(result)
        if variant is None:
            value = default
        elif self._kind == "float":
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
        here = {"flagKey": self.key, "timestamp": self._dialect.clock()}
        return {"targetingKey": None, **self._dialect.static, **context, "$flagd": here}

    # --- identity -----------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CompiledFlag):
            return NotImplemented
        mine, its = self._dialect._replace(clock=_no_clock), other._dialect._replace(clock=_no_clock)
        return self._definition == other._definition and mine == its

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"CompiledFlag({self.key!r}, {self.state})"


def compile_flags(
    document: Document,
    *,
    fractional: Fractional,
    gate: Gate,
    static: Mapping[str, object],
    clock: Callable[[], int],
) -> dict[str, CompiledFlag]:
    """Compile every flag of a document. `clock` gives Unix seconds for `$flagd.timestamp`; `static` lies under each context.

    Raises:
        RefusedError: every fault, each with its line and column.

    """
    return _Compiler(document, Dialect(fractional, gate, static, {}, clock)).run()


def disabled(flag: CompiledFlag) -> CompiledFlag:
    """Give the same flag switched off: the caller's default, reason DISABLED."""
    definition = flag._definition._replace(state="DISABLED")  # noqa: SLF001 - the same module
    return compiled(definition, flag._dialect)  # noqa: SLF001 - the same module


def compiled(definition: Definition, dialect: Dialect) -> CompiledFlag:
    """Compile a definition that is known to be sound."""
    return CompiledFlag(definition, dialect, rule_of(definition, dialect, _ignore))


def rule_of(definition: Definition, dialect: Dialect, fault: Callable[..., None]) -> Rule:
    """Read the rule of a flag; without targeting, or disabled, it is one leaf."""
    raw = definition.targeting if definition.targeting and definition.state == "ENABLED" else None
    return read_rule(raw, definition.key, dialect, fault, (*definition.loc, "targeting"))


def converted(value: Any, default: Any) -> Any:
    """Convert a variant's value to the type of the caller's default; `_MISMATCH` where something would be lost."""
    if isinstance(value, dict | list):
        return _copied(value) if default is None or isinstance(default, type(value)) else _MISMATCH
    if default is None or type(value) is type(default):
        return value
    if isinstance(value, bool) or isinstance(default, bool):
        return _MISMATCH
    if isinstance(default, str):
        return value if isinstance(value, str) else _MISMATCH
    if not isinstance(value, int | float) or not isinstance(default, int | float) or abs(value) > SAFE_INTEGER:
        return _MISMATCH
    if isinstance(default, float):
        return float(value)
    return int(value) if value == int(value) else _MISMATCH


def _copied(value: Any) -> Any:
    """Copy JSON, so that a caller who edits a value edits nobody else's."""
    if isinstance(value, dict):
        return {k: _copied(v) if isinstance(v, dict | list) else v for k, v in value.items()}
    return [_copied(v) if isinstance(v, dict | list) else v for v in value]


def _kind_of(variants: Mapping[str, Any]) -> str:
    """Name the one plain type that all variants have."""
    kinds = {type(v) for v in variants.values()}
    if len(kinds) == 1 and kinds <= {bool, str, int}:
        return str(kinds.pop().__name__)
    if kinds and kinds <= {int, float} and all(abs(v) <= SAFE_INTEGER for v in variants.values()):
        return "float"
    return "Witness"


def place(loc: Loc) -> str:
    """Write a place in a rule for people: `targeting.if[1]`."""
    parts = loc if loc[:1] == ("$evaluators",) else loc[2:]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "targeting"


def _ignore(*_: object) -> None:
    """Take a fault that was reported before."""


def _no_clock() -> int:
    return 0


class _Compiler:
    """Checks one document and compiles its flags; collects every fault."""

    def __init__(self, document: Document, dialect: Dialect) -> None:
        self.document = document
        self.dialect = dialect
        self.strict = dialect.gate == "strict"
        self.faults: dict[Refusal, None] = {}  # a shared rule is read once per flag, reported once

    def fault(self, code: Code, loc: Loc, message: str, advice: str = "") -> None:
        self.faults[self.document.refusal(code, loc, message, advice=advice)] = None

    def key_fault(self, loc: Loc, message: str, advice: str = "") -> None:
        self.faults[self.document.refusal(Code.FLAG_INVALID, loc, message, at_key=True, advice=advice)] = None

    def run(self) -> dict[str, CompiledFlag]:
        root = self.document.value
        flags = root.get("flags") if isinstance(root, dict) else None
        if not isinstance(root, dict) or not isinstance(flags, dict):
            message = "expected a mapping with the key flags: a mapping of flag keys to flags"
            raise RefusedError(self.document.refusal(Code.FLAG_INVALID, ("flags",), message))
        self._root(root)
        shared = self._metadata(root.get("metadata"), ("metadata",))
        result = {}
        for key, raw in flags.items():
            definition = self._definition(key, raw, shared)
            flag = self._compile(definition) if definition is not None else None
            if flag is not None:
                result[key] = flag
        if self.faults:
            raise RefusedError(*self.faults)
        return result

    def _root(self, root: dict[str, Any]) -> None:
        for key in root.keys() - _ROOT_KEYS if self.strict else ():
            self.key_fault((key,), f"{key} is not a key of a flag document", f"the keys are {', '.join(sorted(_ROOT_KEYS))}")
        ours = root.get("x-livecfg", {})
        version = ours.get("fractional", self.dialect.fractional) if isinstance(ours, dict) else None
        if version not in {"v2", "v3"} or ours.keys() - {"fractional"}:
            self.fault(Code.FLAG_INVALID, ("x-livecfg",), "expected {fractional: v2} or {fractional: v3}")
            version = self.dialect.fractional
        evaluators = root.get("$evaluators", {})
        if not isinstance(evaluators, dict):
            self.fault(Code.FLAG_INVALID, ("$evaluators",), "expected a mapping of names to rules")
            evaluators = {}
        self.dialect = self.dialect._replace(fractional=version, evaluators=evaluators)
        for name in evaluators:
            self._read(lambda name=name: read_rule({"$ref": name}, "", self.dialect, self.fault, ()), ("$evaluators", name))  # type: ignore[misc]  # bound now

    def _read(self, read: Callable[[], T], loc: Loc) -> T | None:
        try:
            return read()
        except (TooLargeError, RecursionError) as error:
            self.fault(Code.FLAG_INVALID, loc, f"the rule is too large: {error}", "split the flag, or use a list with `in`")
            return None

    def _compile(self, definition: Definition) -> CompiledFlag | None:
        loc = (*definition.loc, "targeting")
        rule = self._read(lambda: rule_of(definition, self.dialect, self.fault), loc)
        if rule is None:
            return None
        if self.strict and definition.targeting and definition.state == "ENABLED":
            for leaf in rule.leaves:
                self._leaf(definition, leaf)
        if self.faults:
            return None
        return self._read(lambda: CompiledFlag(definition, self.dialect, rule), loc)

    def _leaf(self, definition: Definition, leaf: Leaf) -> None:
        if definition.outcome(leaf.result).error is None:
            return
        names = ", ".join(definition.variants)
        what = leaf.result if isinstance(leaf.result, str) else "true or false" if isinstance(leaf.result, bool) else "no variant"
        self.fault(Code.FLAG_REFERENCE, leaf.loc, f"the rule gives {what}; the variants are {names}")

    def _definition(self, key: str, raw: Any, shared: Mapping[str, Any]) -> Definition | None:
        loc: Loc = ("flags", key)
        if not isinstance(raw, dict):
            self.fault(Code.FLAG_INVALID, loc, "expected a flag: a mapping with state, variants, defaultVariant")
            return None
        for name in raw.keys() - _FLAG_KEYS if self.strict else ():
            self.key_fault((*loc, name), f"{name} is not a key of a flag", f"the keys are {', '.join(sorted(_FLAG_KEYS))}")
        state = raw.get("state")
        if state not in _STATES:
            self.fault(Code.FLAG_INVALID, (*loc, "state"), "expected state: ENABLED or DISABLED")
        targeting = raw.get("targeting")
        if targeting is not None and not isinstance(targeting, dict):
            self.fault(Code.FLAG_INVALID, (*loc, "targeting"), "expected a rule: a mapping with one operator")
        variants = self._variants(raw.get("variants"), (*loc, "variants"))
        default = self._default_variant(raw.get("defaultVariant"), variants, (*loc, "defaultVariant"))
        metadata = {**shared, **self._metadata(raw.get("metadata"), (*loc, "metadata"))}
        return Definition(key, str(state), variants, default, targeting, MappingProxyType(metadata), loc)

    def _variants(self, raw: Any, loc: Loc) -> Mapping[str, Any]:
        if not isinstance(raw, dict) or not raw:
            self.fault(Code.FLAG_INVALID, loc, "expected variants: a mapping of names to values, at least one")
            return {}
        kinds: dict[str, str] = {}
        for name, value in raw.items():
            kind = _variant_kind(value)
            kinds.setdefault(kind, name)
            if not kind or (isinstance(value, float) and not math.isfinite(value)):
                self.fault(Code.FLAG_INVALID, (*loc, name), "expected a boolean, a string, a number or an object")
            elif self.strict and isinstance(value, int) and abs(value) > SAFE_INTEGER:
                self.fault(Code.FLAG_INVALID, (*loc, name), "expected a number within ±(2^53 − 1), which every language can hold")
        if self.strict and len(kinds) > 1:
            self.fault(Code.FLAG_INVALID, loc, f"expected variants of one type, got {' and '.join(filter(None, kinds))}")
        return MappingProxyType(raw)

    def _default_variant(self, raw: Any, variants: Mapping[str, Any], loc: Loc) -> str | None:
        if raw is None or (raw == "" and not self.strict):
            return None
        if isinstance(raw, bool) and not self.strict:
            return "true" if raw else "false"
        if not isinstance(raw, str):
            self.fault(Code.FLAG_INVALID, loc, "expected the name of a variant", 'write it in quotes: "true"')
            return None
        if self.strict and variants and raw not in variants:
            self.fault(Code.FLAG_REFERENCE, loc, f"there is no variant {raw!r}", f"the variants are {', '.join(variants)}")
        return raw

    def _metadata(self, raw: Any, loc: Loc) -> Mapping[str, Any]:
        if raw is None:
            return {}
        if not isinstance(raw, dict) or not all(isinstance(v, str | int | float) for v in raw.values()):
            self.fault(Code.FLAG_INVALID, loc, "expected metadata: a mapping of names to strings, numbers or booleans")
            return {}
        return raw


def _variant_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "booleans"
    if isinstance(value, str):
        return "strings"
    if isinstance(value, int | float):
        return "numbers"
    return "objects" if isinstance(value, dict | list) else ""
