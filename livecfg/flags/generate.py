"""code_of(): the shape of a rule → one code object, built from `ast` nodes; no text of the configuration is in it.

Constants, leaves and the flag come in as parameters with defaults, so that a thousand flags need a handful of code objects.
The same generator makes three kinds of function from one shape: `serve` gives a value, `evaluate` an Evaluation, `trace`
an Evaluation while it notes the value of every operation: enforcement and explanation cannot drift apart.
"""

from __future__ import annotations

import ast
import functools
from types import CodeType
from typing import TYPE_CHECKING

from livecfg.flags.expressions import GLOBALS, Expressions, Mode, Witness, call, compare, literal, method, name_of, type_is

if TYPE_CHECKING:
    from livecfg.flags.targeting import Node

__all__ = ["GLOBALS", "Mode", "Witness", "code_of", "parameters"]
_FILE = "<livecfg rule>"


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
    known, absent = ("value", "variant", "reason", "rule"), ("reason", "error", "rule")
    return [(i, known if served else absent) for i, served in enumerate(leaves)]


class _Generator(Expressions):
    def __init__(self, shape: Node, leaves: tuple[bool, ...], kind: str, mode: Mode) -> None:
        super().__init__(shape, mode)
        self.leaves = leaves
        self.kind = kind

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
        return next(c for c in compiled.co_consts if isinstance(c, CodeType))

    def _type_check(self) -> list[ast.stmt]:
        wrong = ast.Compare(call("type", name_of("d")), [ast.IsNot()], [name_of(self.kind)])
        if self.mode == "serve":
            return [ast.If(wrong, [ast.Return(method("F", "other", name_of("c"), name_of("d")))], [])]
        if self.mode == "evaluate":
            return [ast.If(wrong, [ast.Return(method("F", "coerced", name_of("c"), name_of("d"), name_of("r")))], [])]
        return []

    def _guard(self, body: list[ast.stmt]) -> ast.Try:
        if self.mode == "serve":
            handler = ast.ExceptHandler(name_of("Exception"), None, [ast.Return(name_of("d"))])
        else:
            failed = method("F", "failed", name_of("x"), name_of("d"), name_of("r"))
            handler = ast.ExceptHandler(name_of("Exception"), "x", [ast.Return(failed)])
        return ast.Try(body, [handler], [], [])

    def _hoisted(self) -> list[ast.stmt]:
        """Variables that are read more than once, and whether they are texts, before anything else."""
        statements: list[ast.stmt] = []
        for slot, (_, uses) in enumerate(self.variables):
            value = self._read(slot)
            if uses > 1:
                statements.append(ast.Assign([ast.Name(f"v{slot}", ast.Store())], value))
                if self.texts.get(slot, 0) > 1:
                    statements.append(ast.Assign([ast.Name(f"s{slot}", ast.Store())], type_is(name_of(f"v{slot}"), "str")))
        return statements

    # --- the end of the rule ------------------------------------------------------------------------------------------

    def tail(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        return getattr(self, f"_tail_{node[0]}")(node, bucket)  # type: ignore[no-any-return]  # one of the methods below

    def _tail_leaf(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        leaf = node[1]
        served = self.leaves[leaf]
        if self.mode == "serve":
            return [ast.Return(name_of(f"l{leaf}_value" if served else "d"))]
        drawn = name_of(bucket) if bucket else literal(None)
        if served:
            parts = [name_of(f"l{leaf}_value"), name_of(f"l{leaf}_variant"), name_of(f"l{leaf}_reason"), literal(None)]
        else:
            parts = [name_of("d"), literal(None), name_of(f"l{leaf}_reason"), name_of(f"l{leaf}_error")]
        metadata = ast.Attribute(name_of("F"), "metadata", ast.Load())
        return [ast.Return(call("Evaluation", *parts, name_of("r"), name_of(f"l{leaf}_rule"), drawn, metadata))]

    def _tail_tail_if(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, pairs, otherwise = node
        statements: list[ast.stmt] = []
        for condition, result in pairs:
            statements.append(ast.If(self.traced(identity, self.truth(condition)), self.tail(result, bucket), []))
        return statements + self.tail(otherwise, bucket)

    def _tail_test(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, test, yes, no = node
        return [ast.If(self.truth(test), self.tail(yes, bucket), []), *self.tail(no, bucket)]

    def _tail_dynamic(self, node: Node, _: str | None) -> list[ast.stmt]:
        _, value, leaf = node
        if self.mode == "serve":
            return [ast.Return(method("F", "pick", self.value(value), name_of("d")))]
        rule = name_of(f"l{leaf[1]}_rule")
        return [ast.Return(method("F", "detail", self.value(value), name_of("d"), name_of("r"), rule))]

    def _tail_fractional(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, version, by, total, bounds, heads, null = node
        self.temporaries += 1
        name = f"b{self.temporaries}"
        drawn = self.bucket(version, by, self.constant(total))
        statements: list[ast.stmt] = [ast.Assign([ast.Name(name, ast.Store())], self.traced(identity, drawn))]
        statements.append(ast.If(compare(name_of(name), ast.Is, literal(None)), self.tail(null, bucket), []))
        for bound, head in zip(bounds[:-1], heads[:-1], strict=True):
            statements.append(ast.If(compare(name_of(name), ast.Lt, self.constant(bound)), self.tail(head, name), []))
        return statements + self.tail(heads[-1], name)

    def _tail_weighed(self, node: Node, bucket: str | None) -> list[ast.stmt]:
        _, identity, version, by, weights, heads, null = node
        self.temporaries += 1
        name, drawn = f"a{self.temporaries}", f"b{self.temporaries}"
        given = ast.Tuple([self.value(w) for w in weights], ast.Load())
        arm = call("weighed", self.hash(version, by), given)
        target = ast.Tuple([ast.Name(name, ast.Store()), ast.Name(drawn, ast.Store())], ast.Store())
        statements: list[ast.stmt] = [ast.Assign([target], arm)]
        nothing = compare(self.traced(identity, name_of(name)), ast.Is, literal(None))
        statements.append(ast.If(nothing, self.tail(null, bucket), []))
        for i, head in enumerate(heads[:-1]):
            statements.append(ast.If(compare(name_of(name), ast.Eq, literal(i)), self.tail(head, drawn), []))
        return statements + self.tail(heads[-1], drawn)
