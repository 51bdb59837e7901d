"""read_rule(): the targeting of one flag → Rule: a shape without any text of the configuration, and the constants that fill it.

A shape is nested tuples of kinds and indexes; rules of one shape share one code object (`generate`). Everything that can be
known before a context comes is settled here: references resolved, constants typed, versions parsed, weights summed, literal
lists made sets, attributes of the process bound. What could never be meant is refused under the gate `strict`; under `flagd`
the rule loads and gives what flagd gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from livecfg.flags.constants import COMPARISONS, KEY, group_of, places_of, shares_of
from livecfg.flags.fractions import read_fractional
from livecfg.flags.operations import READERS, read_call
from livecfg.flags.operators import OPERATORS
from livecfg.flags.segment import PREFIX, Segment
from livecfg.refusal import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.document import Loc

Fractional = Literal["v2", "v3"]
Gate = Literal["strict", "flagd"]
Node = tuple[Any, ...]
_MAX_NODES = 5_000
_MAX_VALUES = 50_000
_MAX_ROUNDS = 100_000
_MAX_DEPTH = 100
_SCALARS = {str: "str", int: "num", float: "num"}


class Dialect(NamedTuple):
    """What a rule is read by: the fractional of its document, the gate, static attributes, shared rules and segments, the clock.

    `static` lies under each context; `clock` gives Unix seconds for `$flagd.timestamp`.
    """

    fractional: Fractional
    gate: Gate
    static: Mapping[str, object]
    evaluators: Mapping[str, Any]
    clock: Callable[[], int]

    def alone(self) -> Dialect:
        """Give the same without shared rules and segments."""
        return self._replace(evaluators={}) if self.evaluators else self

    def same(self, other: Dialect) -> bool:
        """Tell whether rules read by either come to the same, types included: `==` alone takes 1, 1.0 and true for one value."""
        return self == other and (self is other or repr(self[:-1]) == repr(other[:-1]))


class Leaf(NamedTuple):
    """A result known when the rule is read: raw, and the place in the rule that gives it."""

    result: Any
    loc: Loc


class Rule(NamedTuple):
    """A rule that was read: what the code looks like, what fills it, what its steps are called.

    The shape is (variables, tree, places); the tree numbers the constants as they stand in the rule, and `places` gives the
    parameter of each: constants of a `group` that are all alike share one, the others have one each.
    """

    shape: Node
    constants: list[Any]
    """By parameter."""
    leaves: list[Leaf]
    notes: list[tuple[Loc, str]]
    """The operations of the rule: where each stands, its name."""
    used: frozenset[str]
    """The references that were met, those to nowhere too."""

    def constant(self, number: int) -> Any:
        """Give the constant that the tree calls by this number."""
        return self.constants[self.shape[2][number]]


class TooLargeError(Exception):
    """A rule over the limits."""


def read_rule(raw: Any, key: str, dialect: Dialect, fault: Callable[..., None], loc: Loc) -> Rule:
    """Read the rule `raw` of the flag `key`; `fault(code, loc, message, advice)` takes what is wrong with it.

    Raises:
        TooLargeError: more than 5,000 operations or 50,000 operands, or nested deeper than 100, references counted where they
            are used.

    """
    reader = Reader(key, dialect, fault)
    tree = reader.tail(raw, loc)
    places, firsts = places_of(reader.constants, reader.groups.values())
    constants = [reader.constants[first] for first in firsts]
    return Rule((reader.variables(), tree, places), constants, reader.leaves, reader.notes, frozenset(reader.used))


class Reader:
    """Reads one rule, top down; every operation gets a number, in the order of the text."""

    def __init__(self, key: str, dialect: Dialect, fault: Callable[..., None]) -> None:
        self.key = key
        self.dialect = dialect
        self.strict = dialect.gate == "strict"
        self.fault = fault
        self.constants: list[Any] = []
        self.known: dict[tuple[type, Any], int] = {}
        self.groups: dict[Node, list[int]] = {}
        self.sources: dict[int, Any] = {}
        self.drawn: list[tuple[int, list[int]]] = []  # the first constant of each fractional, its weights
        self.leaves: list[Leaf] = []
        self.notes: list[tuple[Loc, str]] = []
        self.named: dict[str, int] = {}  # the slot of each variable
        self.kinds: list[Node] = []
        self.uses: list[int] = []
        self.inner = 0  # how many rules over items enclose this one
        self.depth = 0
        self.size = 0  # operands and items
        self.rounds = 1  # how often the rule is run that is being read, for lists that are written out
        self.open: list[str] = []  # references being resolved
        self.used: set[str] = set()

    # --- small parts --------------------------------------------------------------------------------------------------

    def refuse(self, code: Code, loc: Loc, message: str, advice: str = "") -> None:
        """Refuse under the gate `strict` what flagd would load."""
        if self.strict:
            self.fault(code, loc, message, advice)

    def variables(self) -> Node:
        """Give how each variable is read, and how often."""
        return tuple(zip(self.kinds, self.uses, strict=True))

    def given(self, value: Any, source: Any, group: Node | None = None) -> int:
        """Keep a constant that rules of one form differ in (`constants`), and what it was made of; gives its number."""
        number = len(self.constants)
        self.constants.append(value)
        self.sources[number] = source
        if group is not None:
            self.groups.setdefault(group, []).append(number)
        return number

    def shares(self, weights: list[int]) -> tuple[int, tuple[int, ...]]:
        """Keep the sum of the weights of a fractional, and the first hash of each arm but the first one."""
        self.drawn.append((len(self.constants), weights))
        total, *limits = (self.given(value, None) for value in shares_of(weights))
        return total, tuple(limits)

    def constant(self, value: Any) -> int:
        """Keep a constant that belongs to the form of the rule; gives its number. Equal ones are one."""
        try:
            key = (type(value), value)
            known = self.known.get(key)
        except TypeError:  # a list or a mapping
            self.constants.append(value)
            return len(self.constants) - 1
        if known is None:
            known = self.known[key] = len(self.constants)
            self.constants.append(value)
        return known

    def note(self, loc: Loc, operator: str) -> int:
        """Number an operation."""
        if len(self.notes) >= _MAX_NODES:
            raise TooLargeError(f"more than {_MAX_NODES:,} operations")
        self.notes.append((loc, operator))
        return len(self.notes) - 1

    def grow(self, count: int) -> None:
        """Count operands and items: lists are no operations, and what they refer to is read each time."""
        self.size += count
        if self.size > _MAX_VALUES:
            raise TooLargeError(f"more than {_MAX_VALUES:,} operands")

    def leaf(self, result: Any, loc: Loc) -> Node:
        """Make a leaf: a result known now."""
        self.leaves.append(Leaf(result, loc))
        return ("leaf", len(self.leaves) - 1)

    def resolve(self, raw: Any, loc: Loc) -> tuple[Any, Loc, int]:
        """Follow references to a rule; gives it, where it stands, and how many references to forget afterwards."""
        raw, at, count = self.follow(raw, loc)
        if isinstance(raw, Segment):
            self.refuse(Code.FLAG_REFERENCE, loc, "expected a rule, got a segment", "a segment stands at the end of an `in`")
            return [] if self.strict else sorted(raw.members), at, count
        return raw, at, count

    def follow(self, raw: Any, loc: Loc) -> tuple[Any, Loc, int]:
        """Follow references to what they lead to: a rule, or a segment."""
        count = 0
        while isinstance(raw, dict) and len(raw) == 1 and "$ref" in raw:
            name = raw["$ref"]
            known = self.dialect.evaluators
            if isinstance(name, str):
                self.used.add(name)
            if not isinstance(name, str) or name not in known or name in self.open:
                self._lost(name, loc)
                break
            self.open.append(name)
            count += 1
            raw, loc = known[name], ("$evaluators", name)
        return raw, loc, count

    def _lost(self, name: Any, loc: Loc) -> None:
        """Refuse a reference that leads nowhere; under the gate `flagd` only one to a segment, which flagd does not know."""
        if isinstance(name, str) and name.startswith(PREFIX):
            advice = f"put its members into a file {name.removeprefix(PREFIX)}.txt under `segments` of the manifest"
            self.fault(Code.FLAG_REFERENCE, loc, f"there is no segment {name.removeprefix(PREFIX)!r}", advice)
            return
        why = "leads back to itself" if isinstance(name, str) and name in self.open else "is not under $evaluators"
        self.refuse(Code.FLAG_REFERENCE, loc, f"the reference {name!r} {why}", "define it, or write the rule out")

    def close(self, count: int) -> None:
        """Forget references that were followed."""
        if count:
            del self.open[-count:]

    # --- where the rule ends ------------------------------------------------------------------------------------------

    def tail(self, raw: Any, loc: Loc) -> Node:
        """Read what is returned: results known beforehand become leaves."""
        raw, loc, opened = self.resolve(raw, loc)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise TooLargeError(f"nested deeper than {_MAX_DEPTH} operations")
        node = self._tail(raw, loc)
        self.depth -= 1
        self.close(opened)
        return node

    def _tail(self, raw: Any, loc: Loc) -> Node:
        if not isinstance(raw, dict | list):
            return self.leaf(raw, loc)
        if isinstance(raw, dict) and len(raw) == 1:
            ((name, operands),) = raw.items()
            if name in {"if", "?:"} and isinstance(operands, list) and operands:
                return self._tail_if(operands, (*loc, name), name)
            if name == "fractional" and not self.inner:
                return read_fractional(self, operands, (*loc, name), tail=True)[0]
        node, kind = self.value(raw, loc)
        if kind == "bool":
            return ("test", node, self.leaf(True, loc), self.leaf(False, loc))  # noqa: FBT003 - the variants "true" and "false"
        return ("dynamic", node, self.leaf(None, loc))

    def _tail_if(self, operands: list[Any], loc: Loc, name: str) -> Node:
        identity = self.note(loc, name)
        pairs = []
        for i in range(0, len(operands) - 1, 2):
            condition, _ = self.value(operands[i], (*loc, i))
            pairs.append((condition, self.tail(operands[i + 1], (*loc, i + 1))))
        last = len(operands) - 1
        otherwise = self.tail(operands[last], (*loc, last)) if last % 2 == 0 else self.leaf(None, loc)
        return ("tail_if", identity, tuple(pairs), otherwise)

    # --- expressions --------------------------------------------------------------------------------------------------

    def value(self, raw: Any, loc: Loc) -> tuple[Node, str]:
        """Read an expression; gives its node and what its value can be."""
        kind = _SCALARS.get(type(raw))
        if kind is not None:
            return ("constant", self.constant(raw)), kind
        opened = 0
        if type(raw) is dict and len(raw) == 1:
            name = raw.get("var")
            if type(name) is str and name and name[0] != "$":  # half of all operations
                return self.path(name)
        if type(raw) is not dict or "$ref" in raw:
            raw, loc, opened = self.resolve(raw, loc)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise TooLargeError(f"nested deeper than {_MAX_DEPTH} operations")
        result = self._value(raw, loc)
        self.depth -= 1
        self.close(opened)
        return result

    def _value(self, raw: Any, loc: Loc) -> tuple[Node, str]:
        if isinstance(raw, dict):
            if len(raw) == 1:
                ((name, operands),) = raw.items()
                return self._operation(name, operands, (*loc, name))
            advice = "write one operator; put the rest into and, or, if"
            self.refuse(Code.FLAG_OPERATOR, loc, f"expected one operator, got a mapping of {len(raw)} keys", advice)
            return ("constant", self.constant(raw)), "any"
        if isinstance(raw, list):
            if any(isinstance(item, dict | list) for item in raw):
                self.grow(len(raw))
                return ("list", tuple(self.value(item, (*loc, i))[0] for i, item in enumerate(raw))), "list"
            return ("constant", self.constant(raw)), "list"
        if raw is None or isinstance(raw, bool):
            return ("literal", raw), "null" if raw is None else "bool"
        return ("constant", self.constant(raw)), "str" if isinstance(raw, str) else "num"

    def operand(self, name: str, operands: list[Any], i: int, loc: Loc) -> tuple[Node, str]:
        """Read an operand; what a variable is compared with is a constant that rules of one form differ in."""
        raw = operands[i]
        if i == 1 and name in COMPARISONS and len(operands) == 2:
            kind = _SCALARS.get(type(raw))
            group = group_of(name, operands[0])
            if kind is not None and group is not None:
                return ("constant", self.given(raw, raw, group)), kind
        return self.value(raw, (*loc, i))

    def _operation(self, name: str, raw: Any, loc: Loc) -> tuple[Node, str]:
        known = OPERATORS.get(name)
        if known is None:
            if name != "$ref":
                advice = f"the operators are {' '.join(sorted(OPERATORS))}"
                self.refuse(Code.FLAG_OPERATOR, loc, f"the operator {name!r} is not known", advice)
            return ("fail", self.note(loc, name)), "any"
        operands = raw if isinstance(raw, list) else [raw]
        self.grow(len(operands))
        if not known.least <= len(operands) <= known.most:
            wanted = str(known.least) if known.least == known.most else f"{known.least} to {known.most}"
            wanted = f"at least {known.least}" if known.most >= 10_000 else wanted
            self.refuse(Code.FLAG_OPERATOR, loc, f"{name} expected {wanted} operands, got {len(operands)}")
        return READERS.get(name, read_call)(self, name, operands, loc)

    def repeated(self, raw: Any, loc: Loc, times: int) -> Node:
        """Read a rule that is run for each item of a list."""
        around, self.rounds = self.rounds, self.rounds * max(times, 1)
        if self.rounds > _MAX_ROUNDS:
            raise TooLargeError(f"lists inside lists that come to more than {_MAX_ROUNDS:,} rounds")
        self.inner += 1
        node, _ = self.value(raw, loc)
        self.inner -= 1
        self.rounds = around
        return node

    # --- var ----------------------------------------------------------------------------------------------------------

    def path(self, text: str) -> tuple[Node, str]:
        """Read the name of a variable."""
        if not text:
            return ("data",), "any"
        slot = self.named.get(text) if not self.inner else None
        if slot is not None:
            self.uses[slot] = 2
            return ("var", slot), "any"
        path = tuple(text.split("."))
        if self.inner:
            return ("item", self.constant(path)), "any"
        if path[0] == "$flagd":
            return self._own(text, path)
        slot = self.named[text] = len(self.named)
        bound = path[0] in self.dialect.static
        first = self.constant(path[0])
        default = self.constant(self.dialect.static[path[0]]) if bound else -1
        rest = self.constant(path[1] if len(path) == 2 else path[1:]) if len(path) > 1 else -1
        self.kinds.append((first, default, rest, min(len(path), 3)))
        self.uses.append(1)
        return ("var", slot), "any"

    def _own(self, text: str, path: tuple[str, ...]) -> tuple[Node, str]:
        """Read the name of what flagd adds to the context."""
        if text == "$flagd.flagKey":
            return ("constant", self.given(self.key, KEY)), "str"
        if text == "$flagd.timestamp":
            return ("now", self.constant(self.dialect.clock)), "num"
        return ("dig", ("data",), self.constant(path)), "any"
