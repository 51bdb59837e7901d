"""code_of(): the shape of a rule → one code object, built from `ast` nodes; no text of the configuration is in it.

Constants, leaves and the flag come in as parameters with defaults, so that a thousand flags need a handful of code objects.
The same generator makes three kinds of function from one shape: `serve` gives a value, `evaluate` an Evaluation, `trace`
an Evaluation while it notes the value of every operation: enforcement and explanation cannot drift apart.

A fast path stands only where Python and JavaScript agree: on exact types, checked in the line before; all else calls `values`.
"""

from __future__ import annotations

import ast
import functools
from typing import TYPE_CHECKING, Any, Literal

from livecfg.flags import bucketing, operators, values
from livecfg.flags.bucketing import murmur3
from livecfg.flags.operators import OPERATORS
from livecfg.flags.evaluate import Evaluation

if TYPE_CHECKING:
    from types import CodeType

    from livecfg.flags.targeting import Node

Mode = Literal["serve", "evaluate", "trace"]
_FILE = "<livecfg rule>"
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
    **{name: getattr(values, name) for name in ("truthy", "equal", "identical", "less", "less_equal", "greater", "greater_equal")},
    "dig": values.dig,
    "op_lookup": operators.lookup,
    "cat": operators.cat,
    "contains": operators.contains_literal,
    "parse_version": operators.parse_version,
    "version_of": operators.version_of,
    "murmur3": murmur3,
    "encode": bucketing.encode,
    "weighed": bucketing.weighed,
}
_ORDER = {"<": (ast.Lt, "less"), "<=": (ast.LtE, "less_equal"), ">": (ast.Gt, "greater"), ">=": (ast.GtE, "greater_equal")}
_VERSION = {"=": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "^": ast.Eq, "~": ast.Eq}


@functools.lru_cache(maxsize=2048)
def code_of(shape: Node, leaves: tuple[bool, ...], kind: str, mode: Mode) -> CodeType:
    """Compile a shape. `leaves` says which leaves give a variant (the others the caller's default); `kind` names their type.

    Raises:
        RecursionError: a rule that Python's compiler cannot nest.

    """
    return _Generator(shape, leaves, kind, mode).code()


def parameters(leaves: tuple[bool, ...], mode: Mode) -> list[tuple[int, tuple[str, ...]]]:
    """Which parts of each leaf are parameters, in order: (leaf, names of parts)."""
    if mode == "serve":
        return [(i, ("value",)) for i, served in enumerate(leaves) if served]
    return [(i, ("value", "variant", "reason", "rule") if served else ("reason", "error", "rule")) for i, served in enumerate(leaves)]


# --- small makers of nodes --------------------------------------------------------------------------------------------------


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _call(function: str | ast.expr, *arguments: ast.expr) -> ast.Call:
    return ast.Call(_name(function) if isinstance(function, str) else function, list(arguments), [])


def _method(owner: str, method: str, *arguments: ast.expr) -> ast.Call:
    return _call(ast.Attribute(_name(owner), method, ast.Load()), *arguments)


def _compare(left: ast.expr, operator: type[ast.cmpop], right: ast.expr) -> ast.Compare:
    return ast.Compare(left, [operator()], [right])


def _type_is(value: ast.expr, kind: str) -> ast.Compare:
    return _compare(_call("type", value), ast.Is, _name(kind))


def _not(value: ast.expr) -> ast.UnaryOp:
    return ast.UnaryOp(ast.Not(), value)


def _const(value: Any) -> ast.Constant:
    return ast.Constant(value)


class _Generator:
    def __init__(self, shape: Node, leaves: tuple[bool, ...], kind: str, mode: Mode) -> None:
        self.variables, self.tree, self.constants = shape
        self.leaves = leaves
        self.kind = kind
        self.mode = mode
        self.inner = 0
        self.temporaries = 0
        self.texts: dict[int, int] = {}  # variable → how often it is compared with texts
        self._count(self.tree)

    def _count(self, node: Node) -> None:
        if node[:1] == ("equality",) and node[3] == "str" and node[4][0] == "var":
            self.texts[node[4][1]] = self.texts.get(node[4][1], 0) + 1
        elif node[:1] == ("in",) and node[2] == "str" and node[3][0] == "var":
            self.texts[node[3][1]] = self.texts.get(node[3][1], 0) + 1
        for part in node:
            if isinstance(part, tuple):
                self._count(part)

    def code(self) -> CodeType:
        body = [*self._hoisted(), *self.tail(self.tree, None)]
        guarded: list[ast.stmt] = [*self._type_check(), self._guard(body)]
        context = ["c", "d"] if self.mode == "serve" else ["c", "d", "r"]
        names = [*context, "F", *(["t"] if self.mode == "trace" else [])]
        names += [f"k{i}" for i in range(self.constants)]
        names += [f"l{i}_{part}" for i, parts in parameters(self.leaves, self.mode) for part in parts]
        arguments = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
        function = ast.FunctionDef(self.mode, arguments, guarded, [], None)
        module = ast.fix_missing_locations(ast.Module([function], []))
        compiled = compile(module, _FILE, "exec", dont_inherit=True, optimize=2)
        return next(c for c in compiled.co_consts if hasattr(c, "co_code"))

    def _type_check(self) -> list[ast.stmt]:
        wrong = ast.Compare(_call("type", _name("d")), [ast.IsNot()], [_name(self.kind)])
        if self.mode == "serve":
            return [ast.If(wrong, [ast.Return(_method("F", "other", _name("c"), _name("d")))], [])]
        if self.mode == "evaluate":
            return [ast.If(wrong, [ast.Return(_method("F", "coerced", _name("c"), _name("d"), _name("r")))], [])]
        return []

    def _guard(self, body: list[ast.stmt]) -> ast.Try:
        if self.mode == "serve":
            handler = ast.ExceptHandler(_name("Exception"), None, [ast.Return(_name("d"))])
        else:
            handler = ast.ExceptHandler(_name("Exception"), "x", [ast.Return(_method("F", "failed", _name("x"), _name("d"), _name("r")))])
        return ast.Try(body, [handler], [], [])

    def _hoisted(self) -> list[ast.stmt]:
        """Variables that are read more than once, and whether they are texts, before anything else."""
        statements: list[ast.stmt] = []
        for slot, (_, uses) in enumerate(self.variables):
            value = self._read(slot)
            if uses > 1:
                statements.append(ast.Assign([ast.Name(f"v{slot}", ast.Store())], value))
                if self.texts.get(slot, 0) > 1:
                    statements.append(ast.Assign([ast.Name(f"s{slot}", ast.Store())], _type_is(_name(f"v{slot}"), "str")))
        return statements

    # --- parameters and temporaries -----------------------------------------------------------------------------------

    def constant(self, index: int) -> ast.Name:
        return _name(f"k{index}")

    def held(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """Give an expression to use first, which keeps the value, and one to use afterwards."""
        if isinstance(value, ast.Name):
            return value, value
        self.temporaries += 1
        name = f"t{self.temporaries}"
        return ast.NamedExpr(ast.Name(name, ast.Store()), value), _name(name)

    def traced(self, identity: int, value: ast.expr) -> ast.expr:
        return _call("t", _const(identity), value) if self.mode == "trace" else value

    # --- the end of the rule ------------------------------------------------------------------------------------------

    def tail(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        return getattr(self, f"tail_{node[0]}")(node, bucket)  # type: ignore[no-any-return]  # one of the methods below

    def tail_leaf(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        leaf = node[1]
        served = self.leaves[leaf]
        if self.mode == "serve":
            return [ast.Return(_name(f"l{leaf}_value" if served else "d"))]
        drawn = _name(bucket) if bucket else _const(None)
        if served:
            parts = [_name(f"l{leaf}_value"), _name(f"l{leaf}_variant"), _name(f"l{leaf}_reason"), _const(None)]
        else:
            parts = [_name("d"), _const(None), _name(f"l{leaf}_reason"), _name(f"l{leaf}_error")]
        metadata = ast.Attribute(_name("F"), "metadata", ast.Load())
        return [ast.Return(_call("Evaluation", *parts, _name("r"), _name(f"l{leaf}_rule"), drawn, metadata))]

    def tail_tail_if(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, pairs, otherwise = node
        statements: list[ast.stmt] = []
        for condition, result in pairs:
            statements.append(ast.If(self.traced(identity, self.truth(condition)), self.tail(result, bucket), []))
        return statements + self.tail(otherwise, bucket)

    def tail_test(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, test, yes, no = node
        return [ast.If(self.truth(test), self.tail(yes, bucket), []), *self.tail(no, bucket)]

    def tail_dynamic(self, node: Node, _: str | None) -> list[ast.stmt]:
        _, value, leaf = node
        if self.mode == "serve":
            return [ast.Return(_method("F", "pick", self.value(value), _name("d")))]
        rule = _name(f"l{leaf[1]}_rule")
        return [ast.Return(_method("F", "detail", self.value(value), _name("d"), _name("r"), rule))]

    def tail_fractional(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, version, by, total, bounds, heads, null = node
        self.temporaries += 1
        name = f"b{self.temporaries}"
        drawn = self.bucket(version, by, self.constant(total))
        statements: list[ast.stmt] = [ast.Assign([ast.Name(name, ast.Store())], self.traced(identity, drawn))]
        statements.append(ast.If(_compare(_name(name), ast.Is, _const(None)), self.tail(null, bucket), []))
        for bound, head in zip(bounds[:-1], heads[:-1], strict=True):
            statements.append(ast.If(_compare(_name(name), ast.Lt, self.constant(bound)), self.tail(head, name), []))
        return statements + self.tail(heads[-1], name)

    def tail_weighed(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, version, by, weights, heads, null = node
        self.temporaries += 1
        name, drawn = f"a{self.temporaries}", f"b{self.temporaries}"
        given = ast.Tuple([self.value(w) for w in weights], ast.Load())
        call = _call("weighed", self.hash(version, by), given)
        target = ast.Tuple([ast.Name(name, ast.Store()), ast.Name(drawn, ast.Store())], ast.Store())
        statements: list[ast.stmt] = [ast.Assign([target], call)]
        statements.append(ast.If(_compare(self.traced(identity, _name(name)), ast.Is, _const(None)), self.tail(null, bucket), []))
        for i, head in enumerate(heads[:-1]):
            statements.append(ast.If(_compare(_name(name), ast.Eq, _const(i)), self.tail(head, drawn), []))
        return statements + self.tail(heads[-1], drawn)

    # --- buckets ------------------------------------------------------------------------------------------------------

    def hash(self, version: str, by: Node) -> ast.expr:
        """Give an expression for the 32-bit hash of a unit; None when there is no unit."""
        if version.endswith("_short"):
            first, again = self.held(self.value(by[2]))
            key = self.constant(by[1])
            there = ast.BoolOp(ast.And(), [_call("isinstance", first, _name("str")), again])
            hashed = again if version == "v2_short" else _call("encode", again)
            data: ast.expr = ast.BinOp(key, ast.Add(), hashed)
        else:
            first, again = self.held(self.value(by))
            if version == "v2":
                there, data = _call("isinstance", first, _name("str")), again  # type: ignore[assignment]  # any expression does
            else:
                there, data = _compare(first, ast.IsNot, _const(None)), _call("encode", again)  # type: ignore[assignment]  # as above
        return ast.IfExp(there, _call("murmur3", data, _const(0), _const(False)), _const(None))  # noqa: FBT003 - signed=False

    def bucket(self, version: str, by: Node, total: ast.expr) -> ast.expr:
        hashed = self.hash(version, by)
        assert isinstance(hashed, ast.IfExp)  # noqa: S101 - as made above
        hashed.body = ast.BinOp(ast.BinOp(hashed.body, ast.Mult(), total), ast.RShift(), _const(32))
        return hashed

    # --- expressions --------------------------------------------------------------------------------------------------

    def kind_of(self, node: Node) -> str:
        match node[0]:
            case "equality" | "order" | "in" | "!" | "!!":
                return "bool"
            case "version":
                return "bool?"
            case "prefix":
                return "str"
            case "logic":
                return str(node[4])
            case "literal":
                return "null" if node[1] is None else "bool"
            case "call" | "items":
                return OPERATORS[node[2]].result if node[2] in OPERATORS else "any"
        return "any"

    def truth(self, node: Node) -> ast.expr:
        """Give an expression that Python takes for true when JSONLogic takes the node for true."""
        if node[0] == "logic" and self.mode != "trace":
            operator = ast.And() if node[2] == "and" else ast.Or()
            return self.joined(operator, [self.truth(n) for n, _ in node[3]])
        value = self.value(node)
        return value if self.kind_of(node) in _TRUTH_AGREES else _call("truthy", value)

    def joined(self, operator: ast.boolop, parts: list[ast.expr]) -> ast.expr:
        return parts[0] if len(parts) == 1 else ast.BoolOp(operator, parts)

    def value(self, node: Node) -> ast.expr:
        return getattr(self, "value_" + _METHODS.get(node[0], node[0]))(node)  # type: ignore[no-any-return]  # one of those below

    def value_constant(self, node: Node) -> ast.expr:
        return self.constant(node[1])

    def value_literal(self, node: Node) -> ast.expr:
        return _const(node[1])

    def value_list(self, node: Node) -> ast.expr:
        return ast.List([self.value(n) for n in node[1]], ast.Load())

    def value_fail(self, node: Node) -> ast.expr:
        return _method("F", "unknown", _const(node[1]))

    def value_now(self, node: Node) -> ast.expr:
        return _call(self.constant(node[1]))

    def value_data(self, _: Node) -> ast.expr:
        return _name("c") if self.inner else _method("F", "data", _name("c"))

    def value_dig(self, node: Node) -> ast.expr:
        return _call("dig", self.value(node[1]), self.constant(node[2]))

    def value_item(self, node: Node) -> ast.expr:
        return _call("dig", _name("c"), self.constant(node[1]))

    def value_or_default(self, node: Node) -> ast.expr:
        first, again = self.held(self.value(node[1]))
        return ast.IfExp(_compare(first, ast.IsNot, _const(None)), again, self.value(node[2]))

    def value_var(self, node: Node) -> ast.expr:
        slot = node[1]
        return _name(f"v{slot}") if self.variables[slot][1] > 1 else self._read(slot)

    def _read(self, slot: int) -> ast.expr:
        first, default, rest, length = self.variables[slot][0]
        top = _method("c", "get", self.constant(first), *((self.constant(default),) if default >= 0 else ()))
        if length == 1:
            return top
        if length > 2:
            return _call("dig", top, self.constant(rest))
        held, again = self.held(top)
        part = self.constant(rest)
        deep = _call("dig", again, ast.Tuple([part], ast.Load()))
        got = _call(ast.Attribute(again, "get", ast.Load()), part)
        return ast.IfExp(_type_is(held, "dict"), got, deep)

    def value_call(self, node: Node) -> ast.expr:
        _, identity, name, operands = node
        return self.traced(identity, _call(_operator(name), *(self.value(n) for n in operands)))

    def value_items(self, node: Node) -> ast.expr:
        _, identity, name, items, rule, more = node
        over = self.value(items)
        self.inner += 1
        body = self.value(rule)
        self.inner -= 1
        function = ast.Lambda(ast.arguments([], [ast.arg("c")], None, [], [], None, []), body)
        return self.traced(identity, _call(_operator(name), over, function, *(self.value(n) for n in more)))

    def value_if(self, node: Node) -> ast.expr:
        _, identity, pairs, otherwise = node
        result = self.value(otherwise)
        for condition, then in reversed(pairs):
            result = ast.IfExp(self.truth(condition), self.value(then), result)
        return self.traced(identity, result)

    def value_logic(self, node: Node) -> ast.expr:
        _, identity, name, pairs, kind = node
        if kind in _TRUTH_AGREES:
            joined = self.joined(ast.And() if name == "and" else ast.Or(), [self.value(n) for n, _ in pairs])
            return self.traced(identity, joined)
        result = self.value(pairs[-1][0])
        for operand, _ in reversed(pairs[:-1]):
            first, again = self.held(self.value(operand))
            test = _call("truthy", first)
            result = ast.IfExp(test, result, again) if name == "and" else ast.IfExp(test, again, result)
        return self.traced(identity, result)

    def value_not(self, node: Node) -> ast.expr:
        truth = _not(self.truth(node[2][0]))
        return self.traced(node[1], truth if node[0] == "!" else _not(truth))

    def value_equality(self, node: Node) -> ast.expr:
        _, identity, name, how, a, b = node
        slow = "identical" if len(name) == 3 else "equal"
        right = self.value(b)
        if how == "is":
            result: ast.expr = _compare(self.value(a), ast.Is, right)
        elif how == "any":
            result = _call(slow, self.value(a), right)
        else:
            check, again = self._typed(a, "str" if how == "str" else "int")
            result = ast.IfExp(check, _compare(again, ast.Eq, right), _call(slow, again, right))
        return self.traced(identity, _not(result) if name[0] == "!" else result)

    def _typed(self, node: Node, kind: str) -> tuple[ast.expr, ast.expr]:
        """Give a check of the exact type of a node's value, and the value to use after it."""
        if kind == "str" and node[0] == "var" and self.texts.get(node[1], 0) > 1 and self.variables[node[1]][1] > 1:
            return _name(f"s{node[1]}"), _name(f"v{node[1]}")
        first, again = self.held(self.value(node))
        return _type_is(first, kind), again

    def value_order(self, node: Node) -> ast.expr:
        _, identity, name, operands = node
        parts = [self._ordered(name, operands[0], operands[1])] if len(operands) == 2 else self._between(name, operands)
        return self.traced(identity, self.joined(ast.And(), parts))

    def _between(self, name: str, operands: tuple[Node, ...]) -> list[ast.expr]:
        held, again = self.held(self.value(operands[1]))
        slow = _ORDER[name][1]
        return [_call(slow, self.value(operands[0]), held), _call(slow, again, self.value(operands[2]))]

    def _ordered(self, name: str, a: Node, b: Node) -> ast.expr:
        fast, slow = _ORDER[name]
        if b[0] == "number":
            check, again = self._typed(a, "int")
            right = self.constant(b[1])
            return ast.IfExp(check, _compare(again, fast, right), _call(slow, again, right))
        return _call(slow, self.value(a), self.value(b))

    def value_number(self, node: Node) -> ast.expr:
        return self.constant(node[1])

    def value_in(self, node: Node) -> ast.expr:
        _, identity, how, needle, among = node
        check, again = self._typed(needle, "str" if how == "str" else "int")
        literal = self.constant(among)
        return self.traced(identity, ast.IfExp(check, _compare(again, ast.In, literal), _call("contains", again, literal)))

    def value_version(self, node: Node) -> ast.expr:
        _, identity, relation, version, other = node
        check, again = self._typed(version, "str")
        parsed = ast.IfExp(check, _call("parse_version", again), _call("version_of", again))
        held, read = self.held(parsed)
        part: ast.expr = read
        if relation == "^":
            part = ast.Subscript(read, _const(0), ast.Load())
        elif relation == "~":
            part = ast.Subscript(read, ast.Slice(None, _const(2), None), ast.Load())
        compared = _compare(part, _VERSION[relation], self.constant(other))
        return self.traced(identity, ast.IfExp(_compare(held, ast.Is, _const(None)), _const(None), compared))

    def value_prefix(self, node: Node) -> ast.expr:
        _, identity, prefix, value = node
        check, again = self._typed(value, "str")
        text = self.constant(prefix)
        return self.traced(identity, ast.IfExp(check, ast.BinOp(text, ast.Add(), again), _call("cat", text, again)))

    def value_fractional(self, node: Node) -> ast.expr:
        _, identity, version, by, total, bounds, heads, _ = node
        held, again = self.held(self.bucket(version, by, self.constant(total)))
        result = self.value(heads[-1])
        for bound, head in zip(reversed(bounds[:-1]), reversed(heads[:-1]), strict=True):
            result = ast.IfExp(_compare(again, ast.Lt, self.constant(bound)), self.value(head), result)
        return self.traced(identity, ast.IfExp(_compare(held, ast.Is, _const(None)), _const(None), result))

    def value_weighed(self, node: Node) -> ast.expr:
        _, identity, version, by, weights, heads, _ = node
        given = ast.Tuple([self.value(w) for w in weights], ast.Load())
        drawn = ast.Subscript(_call("weighed", self.hash(version, by), given), _const(0), ast.Load())
        held, again = self.held(drawn)
        result = self.value(heads[-1])
        for i, head in reversed(list(enumerate(heads[:-1]))):
            result = ast.IfExp(_compare(again, ast.Eq, _const(i)), self.value(head), result)
        return self.traced(identity, ast.IfExp(_compare(held, ast.Is, _const(None)), _const(None), result))


_METHODS = {"!": "not", "!!": "not"}
