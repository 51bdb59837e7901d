"""compile_flags(): a flagd flag document → CompiledFlag by key.

The document is flagd's (open-feature/flagd-schemas, `flags.json`): `flags`, `$evaluators`, `metadata`. At its root a key of
ours, `x-livecfg: {fractional: v2 | v3}`, says which hash it means; inside a flag there is nothing of ours. The faults of a
document are refused together, each at its place. What loads can be evaluated for any context, without an exception.
"""

from __future__ import annotations

import marshal
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from livecfg.errors import RefusedError
from livecfg.flags.compiled import SAFE_INTEGER, CompiledFlag, Definition, compiled, kind_of, rule_of
from livecfg.flags.references import MOST_VALUES, expanded
from livecfg.flags.segment import PREFIX, named
from livecfg.flags.targeting import Dialect, Leaf, TooLargeError, read_rule
from livecfg.flags.templates import STATIC, Templates
from livecfg.refusal import MOST_FAULTS, Code, Refusal, first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from livecfg.document import Document, Loc
    from livecfg.flags.templates import Fitted

__all__ = ["CompiledFlag", "compile_flags", "disabled"]
T = TypeVar("T")
_ROOT_KEYS = frozenset({"flags", "$evaluators", "metadata", "$schema", "x-livecfg"})
_FLAG_KEYS = frozenset({"state", "variants", "defaultVariant", "targeting", "metadata"})
_PLAIN = ("bool", "str")
"""Kinds of variants of which there is nothing to check."""
_STATES = ("ENABLED", "DISABLED")
_MARSHAL = 2
"""The version of marshal: of its bytes, which tell types apart, nothing depends on object identity."""


def compile_flags(
    document: Document,
    dialect: Dialect,
    before: Mapping[str, CompiledFlag] | None = None,
    templates: Templates | None = None,
) -> dict[str, CompiledFlag]:
    """Compile every flag of a document. The dialect's evaluators are the segments; the document adds its own.

    A flag that says the same in `before`, what an earlier version of the document gave, is taken from there. Documents of one
    load share their `templates`.

    Raises:
        RefusedError: the first hundred faults, each with its line and column.

    """
    return _Compiler(document, dialect, before or {}, templates or Templates()).run()


def disabled(flag: CompiledFlag) -> CompiledFlag:
    """Give the same flag switched off: the caller's default, reason DISABLED."""
    return compiled(flag.definition._replace(state="DISABLED"), flag.dialect)


class _Compiler:
    """Checks one document and compiles its flags; collects the faults."""

    def __init__(self, document: Document, dialect: Dialect, before: Mapping[str, CompiledFlag], templates: Templates) -> None:
        self.document = document
        self.dialect = dialect
        self.before = before
        self.templates = templates
        self.strict = dialect.gate == "strict"
        self.faults: dict[Refusal, None] = {}  # a shared rule is read once per flag, reported once

    def fault(self, code: Code, loc: Loc, message: str, advice: str = "") -> None:
        if len(self.faults) <= MOST_FAULTS:
            self.faults[self.document.refusal(code, loc, message, advice=advice)] = None

    def key_fault(self, loc: Loc, message: str, advice: str = "") -> None:
        if len(self.faults) <= MOST_FAULTS:
            self.faults[self.document.refusal(Code.FLAG_INVALID, loc, message, at_key=True, advice=advice)] = None

    def run(self) -> dict[str, CompiledFlag]:
        root = self.document.value
        flags = root.get("flags") if isinstance(root, dict) else None
        if not isinstance(root, dict) or not isinstance(flags, dict):
            message = "expected a mapping with the key flags: a mapping of flag keys to flags"
            raise RefusedError(self.document.refusal(Code.FLAG_INVALID, ("flags",), message))
        self._root(root)
        shared = self._metadata(root.get("metadata"), ("metadata",))
        self.alone = self.dialect.alone()  # a flag keeps the shared rules that it uses, no others
        first = next(iter(self.before.values()), None)
        known = self.before if first is not None and first.dialect.alone().same(self.alone) else {}
        common = MappingProxyType(dict(shared))
        result = {}
        for key, raw in flags.items():
            said: Any = [raw, shared] if shared else raw
            old = known.get(key)
            if old is not None:
                said = marshal.dumps(said, _MARSHAL)
                if type(old.said) is not bytes:  # only now: most documents of a flag are never followed by another
                    old.said = marshal.dumps(old.said, _MARSHAL)
                if old.said == said and (not old.dialect.evaluators or self._same_shared_rules(old)):
                    result[key] = old
                    continue
            definition = self._definition(key, raw, common)
            flag = self._compile(definition) if definition is not None else None
            if flag is not None:
                flag.said = said
                result[key] = flag
            if len(self.faults) > MOST_FAULTS:
                break
        if self.faults:
            raise RefusedError(*first_of(self.faults))
        return result

    def _same_shared_rules(self, old: CompiledFlag) -> bool:
        return old.dialect.same(self._dialect_of(old.dialect.evaluators))

    def _dialect_of(self, used: Collection[str]) -> Dialect:
        """Give the dialect with the shared rules that one flag uses; one that leads nowhere leads back to itself: the same."""
        known = self.dialect.evaluators
        return self.alone._replace(evaluators={n: known.get(n, {"$ref": n}) for n in sorted(used)}) if used else self.alone

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
        for name in evaluators if self.strict else ():
            if name.startswith(PREFIX):
                self.key_fault(("$evaluators", name), f"names that begin with {PREFIX} are those of segments", "rename it")
        segments = named(root, self.dialect.evaluators) if self.dialect.evaluators else {}  # those it names: no other is a change
        if segments or evaluators or self.dialect.evaluators or version != self.dialect.fractional:
            self.dialect = self.dialect._replace(fractional=version, evaluators={**segments, **evaluators})
        rules = [flag.get("targeting") for flag in root["flags"].values() if isinstance(flag, dict)] if evaluators else ()
        if expanded([*rules, *({"$ref": name} for name in evaluators)], evaluators) > MOST_VALUES:
            message = f"the rules are too large: more than {MOST_VALUES:,} values when each reference stands for what it leads to"
            raise RefusedError(self.document.refusal(Code.FLAG_INVALID, ("$evaluators",), message, advice="split the document"))
        for name in evaluators:
            self._read(lambda name=name: read_rule({"$ref": name}, "", self.dialect, self.fault, ()), ("$evaluators", name))  # type: ignore[misc]  # bound now

    def _read(self, read: Callable[[], T], loc: Loc) -> T | None:
        try:
            return read()
        except (TooLargeError, RecursionError) as error:
            self.fault(Code.FLAG_INVALID, loc, f"the rule is too large: {error}", "split the flag, or use a list with `in`")
            return None

    def _compile(self, definition: Definition) -> CompiledFlag | None:
        enabled = definition
        if definition.state != "ENABLED":
            enabled = definition._replace(state="ENABLED")  # what is off now will be on one day
        else:
            rule = definition.targeting
            fitted = self.templates.fitted(rule, definition.key, self.dialect) if rule else STATIC
            made = self._fitted(definition, fitted) if fitted is not None else None
            if made is not None:
                return made
        loc = (*definition.loc, "targeting")
        rule = self._read(lambda: rule_of(enabled, self.dialect, self.fault), loc)
        if rule is None:
            return None
        if self.strict and definition.targeting:
            for leaf in rule.leaves:
                self._leaf(definition, leaf)
        if self.faults:
            return None
        dialect = self._dialect_of(rule.used)
        if definition.state != "ENABLED":
            return compiled(definition, dialect)
        return self._read(lambda: CompiledFlag(definition, dialect, rule), loc)

    def _fitted(self, definition: Definition, fitted: Fitted) -> CompiledFlag | None:
        """Make a flag of a rule that fits a template; None where a result comes to no value.

        Nothing but its constants differs in a flag of the same use as one before: its results come to values too, by the same
        code. The load compiles that for the first of them, so that no request does.
        """
        made = CompiledFlag(definition, self.alone, fitted)
        results = fitted.results()
        use = (fitted.template, results, definition.default_variant, made.kind, *definition.variants)
        uses = self.templates.uses
        if use not in uses:
            if not definition.takes(results):
                return None
            uses.add(use)
            made.ready()
        return made

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
        for name in raw.keys() - _FLAG_KEYS if self.strict and not _FLAG_KEYS.issuperset(raw) else ():
            self.key_fault((*loc, name), f"{name} is not a key of a flag", f"the keys are {', '.join(sorted(_FLAG_KEYS))}")
        state = raw.get("state")
        if state not in _STATES:
            self.fault(Code.FLAG_INVALID, (*loc, "state"), "expected state: ENABLED or DISABLED")
        targeting = raw.get("targeting")
        if targeting is not None and not isinstance(targeting, dict):
            self.fault(Code.FLAG_INVALID, (*loc, "targeting"), "expected a rule: a mapping with one operator")
        variants: Any = raw.get("variants")
        default: Any = raw.get("defaultVariant")
        kind = kind_of(variants if type(variants) is dict else {})
        if kind not in _PLAIN:
            variants = self._variants(variants, (*loc, "variants"))
        if type(default) is not str or not default or default not in variants:
            default = self._default_variant(default, variants, (*loc, "defaultVariant"))
        if "metadata" in raw:
            shared = MappingProxyType({**shared, **self._metadata(raw["metadata"], (*loc, "metadata"))})
        return Definition(key, str(state), MappingProxyType(variants), kind, default, targeting, shared, loc)

    def _variants(self, raw: Any, loc: Loc) -> dict[str, Any]:
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
                self.fault(Code.FLAG_INVALID, (*loc, name), "expected a number within ±(2^53 - 1), which every language can hold")
        if self.strict and len(kinds) > 1:
            self.fault(Code.FLAG_INVALID, loc, f"expected variants of one type, got {' and '.join(filter(None, kinds))}")
        return raw

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
