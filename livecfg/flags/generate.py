"""code_of(): the shape of a rule → one code object, built from `ast` nodes; no text of the configuration is in it.

Constants, leaves and the flag come in as parameters with defaults, so that a thousand flags need a handful of code objects.
The same generator makes three kinds of function from one shape: `serve` gives a value, `evaluate` an Evaluation, `trace`
an Evaluation while it notes the value of every operation: enforcement and explanation cannot drift apart.
"""

from __future__ import annotations

import ast
import functools
from types import CodeType
from typing import TYPE_CHECKING, Any

from livecfg.flags import nodes
from livecfg.flags.expressions import (
    GLOBALS,
    Expressions,
    Mode,
    Witness,
    call,
    compare,
    literal,
    method,
    name_of,
    negation,
    type_is,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livecfg.flags.targeting import Node

__all__ = ["GLOBALS", "Mode", "Witness", "code_of", "dispatched", "parameters", "table"]
_FILE = "<livecfg rule>"
_FEW_PAIRS = 6
_BLOCK = 3
"""How many conditions of a long `if` are passed over in one step."""


@functools.lru_cache(maxsize=2048)
def code_of(shape: Node, leaves: tuple[int, ...], kind: str, mode: Mode) -> CodeType:
    """Compile a shape. `leaves` gives the number of each leaf's variant, -1 for the caller's default; `kind` their type.

    Raises:
        RecursionError: a rule that Python's compiler cannot nest.

    """
    return _Generator(shape, leaves, kind, mode).code()


def parameters(leaves: tuple[int, ...], mode: Mode) -> list[str]:
    """Name the parameters after the constants: parts of variants (`value0`, …), then of leaves (`rule0`, …)."""
    variants = sorted({v for v in leaves if v >= 0})
    if mode == "serve":
        return [f"value{v}" for v in variants]
    ours = [f"{part}{v}" for v in variants for part in ("value", "variant")]
    return ours + [f"{part}{i}" for i in range(len(leaves)) for part in ("reason", "error", "rule")]


def dispatched(shape: Node, mode: Mode) -> tuple[int, ...]:
    """Give the parameters of the texts that one variable must be for each condition of a rule's long `if` to hold.

    Empty where a condition is no such comparison, nor an `and` that begins with one; then there is no `table` either.
    """
    _, tree, places = shape
    if mode == "trace" or tree[0] != "tail_if" or len(tree[2]) < _FEW_PAIRS:
        return ()
    firsts = [c[3][0][0] if c[:1] == ("logic",) and c[2] == "and" else c for c, _ in tree[2]]
    if any(f[0] != "equality" or f[2][0] == "!" or f[3] != "str" or f[4][0] != "var" for f in firsts):
        return ()
    return tuple(places[f[5][1]] for f in firsts) if len({f[4] for f in firsts}) == 1 else ()


def table(dispatch: tuple[int, ...], constants: Sequence[Any]) -> dict[str, int]:
    """Give the number of the first condition that each text may fulfil."""
    return {constants[parameter]: number for number, parameter in reversed(tuple(enumerate(dispatch)))}


class _Generator(Expressions):
    def __init__(self, shape: Node, leaves: tuple[int, ...], kind: str, mode: Mode) -> None:
        super().__init__(shape, mode)
        self.leaves = leaves
        self.kind = kind
        self.dispatched = bool(dispatched(shape, mode))

    def code(self) -> CodeType:
        body = [*self._hoisted(), *self.tail(self.tree, None)]
        guarded: list[ast.stmt] = [*self._type_check(), self._guard(body)]
        context = ["c", "d"] if self.mode == "serve" else ["c", "d", "r"]
        names = [*context, "F", *(["t"] if self.mode == "trace" else [])]
        names += [f"k{i}" for i in range(len(set(self.places)))]
        names += parameters(self.leaves, self.mode)
        names += ["j"] if self.dispatched else []
        arguments = ast.arguments([], [nodes.arg(n) for n in names], None, [], [], None, [])
        function = nodes.FunctionDef(self.mode, arguments, guarded, [], None)
        compiled = compile(ast.Module([function], []), _FILE, "exec", dont_inherit=True, optimize=2)
        return next(c for c in compiled.co_consts if isinstance(c, CodeType))

    def _type_check(self) -> list[ast.stmt]:
        wrong: ast.expr = nodes.Compare(call("type", name_of("d")), [ast.IsNot()], [name_of(self.kind)])
        if self.kind == "bool":
            wrong = self.joined(ast.And(), [nodes.Compare(name_of("d"), [ast.IsNot()], [literal(b)]) for b in (False, True)])
        if self.mode == "serve":
            return [nodes.If(wrong, [nodes.Return(method("F", "other", name_of("c"), name_of("d")))], [])]
        if self.mode == "evaluate":
            return [nodes.If(wrong, [nodes.Return(method("F", "coerced", name_of("c"), name_of("d"), name_of("r")))], [])]
        return []

    def _guard(self, body: list[ast.stmt]) -> ast.Try:
        if self.mode == "serve":
            last = nodes.ExceptHandler(name_of("Exception"), None, [nodes.Return(name_of("d"))])  # a stack that is nearly full
            again = nodes.Return(method("F", "other", name_of("c"), name_of("d")))
            handler = nodes.ExceptHandler(name_of("Exception"), None, [nodes.Try([again], [last], [], [])])
        else:
            failed = method("F", "failed", name_of("x"), name_of("d"), name_of("r"))
            handler = nodes.ExceptHandler(name_of("Exception"), "x", [nodes.Return(failed)])
        return nodes.Try(body, [handler], [], [])

    def _hoisted(self) -> list[ast.stmt]:
        """Variables that are read more than once, and whether they are texts, before anything else."""
        statements: list[ast.stmt] = []
        for slot, (_, uses) in enumerate(self.variables):
            value = self._read(slot)
            if uses > 1:
                statements.append(nodes.Assign([nodes.Name(f"v{slot}", ast.Store())], value))
                if self.texts.get(slot, 0) > 1:
                    statements.append(nodes.Assign([nodes.Name(f"s{slot}", ast.Store())], type_is(name_of(f"v{slot}"), "str")))
        return statements

    # --- the end of the rule ------------------------------------------------------------------------------------------

    def tail(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        return getattr(self, f"_tail_{node[0]}")(node, bucket)  # type: ignore[no-any-return]  # one of the methods below

    def _tail_leaf(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        leaf = node[1]
        variant = self.leaves[leaf]
        value = name_of(f"value{variant}" if variant >= 0 else "d")
        if self.mode == "serve":
            return [nodes.Return(value)]
        drawn = name_of(bucket) if bucket else literal(None)
        name = name_of(f"variant{variant}") if variant >= 0 else literal(None)
        reason, error, rule = (name_of(f"{part}{leaf}") for part in ("reason", "error", "rule"))
        metadata = nodes.Attribute(name_of("F"), "metadata", ast.Load())
        return [nodes.Return(call("Evaluation", value, name, reason, error, name_of("r"), rule, drawn, metadata))]

    def _tail_tail_if(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, pairs, otherwise = node
        statements: list[ast.stmt] = []
        for condition, result in pairs:
            statements.append(nodes.If(self.traced(identity, self.truth(condition)), self.tail(result, bucket), []))
        if node is self.tree and self.dispatched:
            statements = self._in_blocks(statements, pairs[0][0])
        return statements + self.tail(otherwise, bucket)

    def _in_blocks(self, tests: list[ast.stmt], condition: Node) -> list[ast.stmt]:
        """Pass over the tests before the first one that may hold, by the table; only where the variable is a text."""
        equality = condition[3][0][0] if condition[0] == "logic" else condition
        check, text = self._typed(equality[4], "str")
        first = nodes.IfExp(check, method("j", "get", text, literal(len(tests))), literal(0))
        statements: list[ast.stmt] = [nodes.Assign([nodes.Name("n", ast.Store())], first)]
        for start in range(0, len(tests), _BLOCK):
            block = tests[start : start + _BLOCK]
            statements.append(nodes.If(compare(name_of("n"), ast.Lt, literal(start + len(block))), block, []))
        return statements

    def _tail_test(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, test, yes, no = node
        return [nodes.If(self.truth(test), self.tail(yes, bucket), []), *self.tail(no, bucket)]

    def _tail_dynamic(self, node: Node, _: str | None) -> list[ast.stmt]:
        _, value, leaf = node
        if self.mode == "serve":
            return [nodes.Return(method("F", "pick", self.value(value), name_of("d")))]
        rule = name_of(f"rule{leaf[1]}")
        return [nodes.Return(method("F", "detail", self.value(value), name_of("d"), name_of("r"), rule))]

    def _tail_fractional(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, version, by, total, limits, heads, null = node
        self.temporaries += 1
        drawn, name = f"h{self.temporaries}", f"b{self.temporaries}"
        hashed = self.hash(version, by)
        statements: list[ast.stmt] = [nodes.If(negation(hashed.test), self.tail(null, bucket), [])]
        statements.append(nodes.Assign([nodes.Name(drawn, ast.Store())], hashed.body))
        if self.mode != "serve":  # the number is for people: the limits are set on the hash itself
            share = self.traced(identity, self.share(name_of(drawn), self.constant(total)))
            statements.append(nodes.Assign([nodes.Name(name, ast.Store())], share))
        for limit, head in zip(limits, heads[:-1], strict=True):
            statements.append(nodes.If(compare(name_of(drawn), ast.Lt, self.constant(limit)), self.tail(head, name), []))
        return statements + self.tail(heads[-1], name)

    def _tail_weighed(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, version, by, weights, heads, null = node
        self.temporaries += 1
        name, drawn = f"a{self.temporaries}", f"b{self.temporaries}"
        given = nodes.Tuple([self.value(w) for w in weights], ast.Load())
        arm = call("weighed", self.hash(version, by), given)
        target = nodes.Tuple([nodes.Name(name, ast.Store()), nodes.Name(drawn, ast.Store())], ast.Store())
        statements: list[ast.stmt] = [nodes.Assign([target], arm)]
        nothing = compare(self.traced(identity, name_of(name)), ast.Is, literal(None))
        statements.append(nodes.If(nothing, self.tail(null, bucket), []))
        for i, head in enumerate(heads[:-1]):
            statements.append(nodes.If(compare(name_of(name), ast.Eq, literal(i)), self.tail(head, drawn), []))
        return statements + self.tail(heads[-1], drawn)
