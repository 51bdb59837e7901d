"""Expressions: the shape of an operation → an expression of Python's syntax tree.

A fast path stands only where Python and JavaScript agree: on exact types, checked just before; all else calls `values`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Literal

from mmh3 import hash as murmur3

from livecfg.flags import bucketing, nodes, operators, values
from livecfg.flags.evaluate import Evaluation
from livecfg.flags.operators import OPERATORS

if TYPE_CHECKING:
    from livecfg.flags.targeting import Node

Mode = Literal["serve", "evaluate", "trace"]
_TRUTH_AGREES = frozenset({"bool", "bool?", "str", "list", "null"})


class Witness:
    """A type that no default has: flags whose variants are not all of one plain type always take the slow path."""


_IDENTIFIERS = {"+": "add", "*": "multiply", "-": "subtract", "/": "divide", "%": "modulo"}


def _operator(name: str) -> str:
    return f"op_{_IDENTIFIERS.get(name, name)}"


GLOBALS: dict[str, Any] = {
    "Evaluation": Evaluation,
    "Witness": Witness,
    **{_operator(name): known.function for name, known in OPERATORS.items() if known.function is not None},
    **{name: getattr(values, name) for name in ("truthy", "equal", "identical", "less", "less_equal")},
    "greater": values.greater,
    "greater_equal": values.greater_equal,
    "dig": values.dig,
    "op_lookup": operators.lookup,
    "cat": operators.cat,
    "contains": operators.contains_literal,
    "versions": operators.VERSIONS,
    "version_of": operators.version_of,
    "murmur3": murmur3,
    "encode": bucketing.encode,
    "utf8": str.encode,
    "weighed": bucketing.weighed,
}
_ORDER = {"<": (ast.Lt, "less"), "<=": (ast.LtE, "less_equal"), ">": (ast.Gt, "greater"), ">=": (ast.GtE, "greater_equal")}
_VERSION = {"=": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "^": ast.Eq, "~": ast.Eq}


# --- small makers of nodes --------------------------------------------------------------------------------------------------


def name_of(name: str) -> ast.Name:
    """Read a name."""
    return nodes.Name(name, ast.Load())


def call(function: str | ast.expr, *arguments: ast.expr) -> ast.Call:
    """Call a function with positional arguments."""
    return nodes.Call(name_of(function) if isinstance(function, str) else function, list(arguments), [])


def method(owner: str, method: str, *arguments: ast.expr) -> ast.Call:
    """Call a method of a name."""
    return call(nodes.Attribute(name_of(owner), method, ast.Load()), *arguments)


def compare(left: ast.expr, operator: type[ast.cmpop], right: ast.expr) -> ast.Compare:
    """Compare two values."""
    return nodes.Compare(left, [operator()], [right])


def type_is(value: ast.expr, kind: str) -> ast.Compare:
    """Check the exact type of a value."""
    return compare(call("type", value), ast.Is, name_of(kind))


def negation(value: ast.expr) -> ast.UnaryOp:
    """Negate."""
    return nodes.UnaryOp(ast.Not(), value)


def literal(value: Any) -> ast.Constant:
    """Write a literal of the generator's own: never text of the configuration."""
    return nodes.Constant(value)


class Expressions:
    """Writes expressions; knows which variables are held in locals."""

    def __init__(self, shape: Node, mode: Mode) -> None:
        self.variables, self.tree, self.places = shape
        self.mode = mode
        self.inner = 0
        self.temporaries = 0
        self.texts: dict[int, int] = {}  # variable → how often it is compared with texts
        self._count(self.tree)

    def _count(self, node: Node) -> None:
        if node[:1] == ("equality",) and node[3] == "str" and node[4][0] == "var":
            self.texts[node[4][1]] = self.texts.get(node[4][1], 0) + 1
        elif node[:1] == ("in",) and node[2] == "str" and node[3][0] == "var" and self.mode != "serve":
            self.texts[node[3][1]] = self.texts.get(node[3][1], 0) + 1
        for part in node:
            if isinstance(part, tuple):
                self._count(part)

    # --- parameters and temporaries -----------------------------------------------------------------------------------

    def constant(self, index: int) -> ast.Name:
        """Read a constant's parameter."""
        return name_of(f"k{self.places[index]}")

    def held(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """Give an expression to use first, which keeps the value, and one to use afterwards."""
        if isinstance(value, ast.Name):
            return value, value
        self.temporaries += 1
        name = f"t{self.temporaries}"
        return nodes.NamedExpr(nodes.Name(name, ast.Store()), value), name_of(name)

    def traced(self, identity: int, value: ast.expr) -> ast.expr:
        """Note the value of an operation, in the mode `trace`."""
        return call("t", literal(identity), value) if self.mode == "trace" else value

    # --- buckets ------------------------------------------------------------------------------------------------------

    def hash(self, version: str, by: Node) -> ast.IfExp:
        """Give an expression for the 32-bit hash of a unit; None when there is no unit."""
        short = version.endswith("_short")
        first, again = self.held(self.value(by[2] if short else by))
        data: ast.expr = again
        there: ast.expr = compare(first, ast.IsNot, literal(None))
        if short or version == "v2":
            there = self.joined(ast.Or(), [type_is(first, "str"), call("isinstance", again, name_of("str"))])
        if short:
            there = self.joined(ast.And(), [there, again])
        if not version.startswith("v2"):
            data = call("encode", again)
        if short:
            data = nodes.BinOp(self.constant(by[1]), ast.Add(), data)
        if version.startswith("v2"):  # mmh3 takes texts too, and crashes the process at one that UTF-8 cannot encode
            data = call("utf8", data)
        return nodes.IfExp(there, call("murmur3", data, literal(0), literal(False)), literal(None))  # noqa: FBT003 - signed=False

    def share(self, hashed: ast.expr, total: ast.expr) -> ast.expr:
        """Give an expression for the bucket of a hash."""
        return nodes.BinOp(nodes.BinOp(hashed, ast.Mult(), total), ast.RShift(), literal(32))

    # --- expressions --------------------------------------------------------------------------------------------------

    def kind_of(self, node: Node) -> str:
        """Say what the value of a node can be."""
        kind = node[0]
        if kind == "literal":
            return "null" if node[1] is None else "bool"
        if kind == "logic":
            return str(node[4])
        if kind in {"call", "items"}:
            return OPERATORS[node[2]].result if node[2] in OPERATORS else "any"
        return _KINDS.get(kind, "any")

    def truth(self, node: Node) -> ast.expr:
        """Give an expression that Python takes for true when JSONLogic takes the node for true."""
        if node[0] == "logic" and self.mode != "trace":
            operator = ast.And() if node[2] == "and" else ast.Or()
            return self.joined(operator, [self.truth(n) for n, _ in node[3]])
        value = self.value(node)
        return value if self.kind_of(node) in _TRUTH_AGREES else call("truthy", value)

    def joined(self, operator: ast.boolop, parts: list[ast.expr]) -> ast.expr:
        """Join with `and` or `or`."""
        return parts[0] if len(parts) == 1 else nodes.BoolOp(operator, parts)

    def value(self, node: Node) -> ast.expr:
        """Give an expression for the value of a node."""
        return getattr(self, f"_value_{_METHODS.get(node[0], node[0])}")(node)  # type: ignore[no-any-return]  # one of those below

    def _value_constant(self, node: Node) -> ast.expr:
        return self.constant(node[1])

    def _value_literal(self, node: Node) -> ast.expr:
        return literal(node[1])

    def _value_list(self, node: Node) -> ast.expr:
        return nodes.List([self.value(n) for n in node[1]], ast.Load())

    def _value_fail(self, node: Node) -> ast.expr:
        return method("F", "unknown", literal(node[1]))

    def _value_now(self, node: Node) -> ast.expr:
        return call(self.constant(node[1]))

    def _value_data(self, _: Node) -> ast.expr:
        return name_of("c") if self.inner else method("F", "data", name_of("c"))

    def _value_dig(self, node: Node) -> ast.expr:
        return call("dig", self.value(node[1]), self.constant(node[2]))

    def _value_item(self, node: Node) -> ast.expr:
        return call("dig", name_of("c"), self.constant(node[1]))

    def _value_or_default(self, node: Node) -> ast.expr:
        first, again = self.held(self.value(node[1]))
        return nodes.IfExp(compare(first, ast.IsNot, literal(None)), again, self.value(node[2]))

    def _value_var(self, node: Node) -> ast.expr:
        slot = node[1]
        return name_of(f"v{slot}") if self.variables[slot][1] > 1 else self._read(slot)

    def _read(self, slot: int) -> ast.expr:
        first, default, rest, length = self.variables[slot][0]
        top = method("c", "get", self.constant(first), *((self.constant(default),) if default >= 0 else ()))
        if length == 1:
            return top
        if length > 2:
            return call("dig", top, self.constant(rest))
        held, again = self.held(top)
        part = self.constant(rest)
        deep = call("dig", again, nodes.Tuple([part], ast.Load()))
        got = call(nodes.Attribute(again, "get", ast.Load()), part)
        return nodes.IfExp(type_is(held, "dict"), got, deep)

    def _value_call(self, node: Node) -> ast.expr:
        _, identity, name, operands = node
        return self.traced(identity, call(_operator(name), *(self.value(n) for n in operands)))

    def _value_items(self, node: Node) -> ast.expr:
        _, identity, name, items, rule, more = node
        over = self.value(items)
        self.inner += 1
        body = self.value(rule)
        self.inner -= 1
        function = nodes.Lambda(ast.arguments([], [nodes.arg("c")], None, [], [], None, []), body)
        return self.traced(identity, call(_operator(name), over, function, *(self.value(n) for n in more)))

    def _value_if(self, node: Node) -> ast.expr:
        _, identity, pairs, otherwise = node
        result = self.value(otherwise)
        for condition, then in reversed(pairs):
            result = nodes.IfExp(self.truth(condition), self.value(then), result)
        return self.traced(identity, result)

    def _value_logic(self, node: Node) -> ast.expr:
        _, identity, name, pairs, kind = node
        if kind in _TRUTH_AGREES:
            joined = self.joined(ast.And() if name == "and" else ast.Or(), [self.value(n) for n, _ in pairs])
            return self.traced(identity, joined)
        result = self.value(pairs[-1][0])
        for operand, _ in reversed(pairs[:-1]):
            first, again = self.held(self.value(operand))
            test = call("truthy", first)
            result = nodes.IfExp(test, result, again) if name == "and" else nodes.IfExp(test, again, result)
        return self.traced(identity, result)

    def _value_not(self, node: Node) -> ast.expr:
        truth = negation(self.truth(node[2][0]))
        return self.traced(node[1], truth if node[0] == "!" else negation(truth))

    def _value_equality(self, node: Node) -> ast.expr:
        _, identity, name, how, a, b = node
        slow = "identical" if len(name) == 3 else "equal"
        right = self.value(b)
        if how == "is":
            result: ast.expr = compare(self.value(a), ast.Is, right)
        elif how == "any":
            result = call(slow, self.value(a), right)
        else:
            check, again = self._typed(a, "str" if how == "str" else "int")
            result = nodes.IfExp(check, compare(again, ast.Eq, right), call(slow, again, right))
        return self.traced(identity, negation(result) if name[0] == "!" else result)

    def _typed(self, node: Node, kind: str) -> tuple[ast.expr, ast.expr]:
        """Give a check of the exact type of a node's value, and the value to use after it."""
        if kind == "str" and node[0] == "var" and self.texts.get(node[1], 0) > 1 and self.variables[node[1]][1] > 1:
            return name_of(f"s{node[1]}"), name_of(f"v{node[1]}")
        first, again = self.held(self.value(node))
        return type_is(first, kind), again

    def _value_order(self, node: Node) -> ast.expr:
        _, identity, name, operands = node
        parts = [self._ordered(name, operands[0], operands[1])] if len(operands) == 2 else self._between(name, operands)
        return self.traced(identity, self.joined(ast.And(), parts))

    def _between(self, name: str, operands: tuple[Node, ...]) -> list[ast.expr]:
        held, again = self.held(self.value(operands[1]))
        slow = _ORDER[name][1]
        return [call(slow, self.value(operands[0]), held), call(slow, again, self.value(operands[2]))]

    def _ordered(self, name: str, a: Node, b: Node) -> ast.expr:
        fast, slow = _ORDER[name]
        if b[0] == "number":
            check, again = self._typed(a, "int")
            right = self.constant(b[1])
            return nodes.IfExp(check, compare(again, fast, right), call(slow, again, right))
        return call(slow, self.value(a), self.value(b))

    def _value_number(self, node: Node) -> ast.expr:
        return self.constant(node[1])

    def _value_in(self, node: Node) -> ast.expr:
        _, identity, how, needle, among = node
        if how == "str" and self.mode == "serve":  # what cannot be hashed raises, and is asked again by `evaluate`
            return compare(self.value(needle), ast.In, self.constant(among))
        check, again = self._typed(needle, "str" if how == "str" else "int")
        literal = self.constant(among)
        return self.traced(identity, nodes.IfExp(check, compare(again, ast.In, literal), call("contains", again, literal)))

    def _value_version(self, node: Node) -> ast.expr:
        _, identity, relation, version, other = node
        check, again = self._typed(version, "str")
        parsed = nodes.IfExp(check, nodes.Subscript(name_of("versions"), again, ast.Load()), call("version_of", again))
        held, read = self.held(parsed)
        part: ast.expr = read
        if relation == "^":
            part = nodes.Subscript(read, literal(0), ast.Load())
        elif relation == "~":
            part = nodes.Subscript(read, nodes.Slice(None, literal(2), None), ast.Load())
        compared = compare(part, _VERSION[relation], self.constant(other))
        return self.traced(identity, nodes.IfExp(compare(held, ast.Is, literal(None)), literal(None), compared))

    def _value_prefix(self, node: Node) -> ast.expr:
        _, identity, prefix, value = node
        check, again = self._typed(value, "str")
        text = self.constant(prefix)
        return self.traced(identity, nodes.IfExp(check, nodes.BinOp(text, ast.Add(), again), call("cat", text, again)))

    def _value_fractional(self, node: Node) -> ast.expr:
        _, identity, version, by, _, limits, heads, _ = node
        held, again = self.held(self.hash(version, by))
        result = self.value(heads[-1])
        for limit, head in zip(reversed(limits), reversed(heads[:-1]), strict=True):
            result = nodes.IfExp(compare(again, ast.Lt, self.constant(limit)), self.value(head), result)
        return self.traced(identity, nodes.IfExp(compare(held, ast.Is, literal(None)), literal(None), result))

    def _value_weighed(self, node: Node) -> ast.expr:
        _, identity, version, by, weights, heads, _ = node
        given = nodes.Tuple([self.value(w) for w in weights], ast.Load())
        drawn = nodes.Subscript(call("weighed", self.hash(version, by), given), literal(0), ast.Load())
        held, again = self.held(drawn)
        result = self.value(heads[-1])
        for i, head in reversed(list(enumerate(heads[:-1]))):
            result = nodes.IfExp(compare(again, ast.Eq, literal(i)), self.value(head), result)
        return self.traced(identity, nodes.IfExp(compare(held, ast.Is, literal(None)), literal(None), result))


_METHODS = {"!": "not", "!!": "not"}
_KINDS = {**dict.fromkeys(("equality", "order", "in", "!", "!!"), "bool"), "version": "bool?", "prefix": "str"}
