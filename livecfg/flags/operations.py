"""Operations: how each operator is read → its node, and what its value can be.

Of every operator what is known beforehand is settled here: which side is a constant and of what kind, lists made sets, versions
parsed, weights summed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from livecfg.flags.constants import group_of
from livecfg.flags.fractions import read_fractional
from livecfg.flags.operators import OPERATORS, OVER_DATA, OVER_ITEMS
from livecfg.flags.segment import Segment
from livecfg.flags.values import to_number, to_string
from livecfg.flags.versions import read_version
from livecfg.refusal import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.document import Loc
    from livecfg.flags.targeting import Node, Reader

_BOOL = frozenset({"bool", "bool?"})
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def read_call(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    """Read a call of the operator's function with all of its operands: what is left where nothing is known beforehand."""
    known = OPERATORS[name]
    identity = reader.note(loc, name)
    if name in OVER_ITEMS:
        return _over_items(reader, name, operands, loc, identity)
    nodes = [reader.operand(name, operands, i, loc) for i in range(len(operands))]
    if name in {"starts_with", "ends_with"}:
        for i, (node, kind) in enumerate(nodes):
            if kind not in {"any", "str"} or node == ("literal", None):
                reader.refuse(Code.FLAG_OPERATOR, (*loc, i), f"{name} expected a string")
        if len(nodes) != 2:
            return ("literal", None), "null"
    if known.function is not None and (len(nodes) < known.least or len(nodes) > known.most):
        nodes = nodes[: known.most] + [(("literal", None), "null")] * (known.least - len(nodes))
    data = (("data",),) if name in OVER_DATA else ()
    return ("call", identity, name, (*data, *(n for n, _ in nodes))), known.result


def _over_items(reader: Reader, name: str, operands: list[Any], loc: Loc, identity: int) -> tuple[Node, str]:
    if len(operands) < 2:
        return ("fail", identity), "any"
    values, _ = reader.value(operands[0], (*loc, 0))
    items, _, opened = reader.follow(operands[0], (*loc, 0))
    reader.close(opened)
    rule = reader.repeated(operands[1], (*loc, 1), len(items) if isinstance(items, list) else 1)
    more = tuple(reader.value(o, (*loc, i + 2))[0] for i, o in enumerate(operands[2:3])) if name == "reduce" else ()
    return ("items", identity, name, values, rule, more), OPERATORS[name].result


def _var(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    path = operands[0] if operands else ""
    default = reader.value(operands[1], (*loc, 1))[0] if len(operands) > 1 else None
    if isinstance(path, dict | list | bool):
        computed, _ = reader.value(path, (*loc, 0))
        return ("call", reader.note(loc, name), "lookup", (("data",), computed, *((default,) if default else ()))), "any"
    text = "" if path is None else to_string(path)
    if text.startswith("$flagd.") and text not in {"$flagd.flagKey", "$flagd.timestamp"}:
        reader.refuse(Code.FLAG_OPERATOR, loc, f"{text} is nothing", "there are $flagd.flagKey and $flagd.timestamp")
    node, kind = reader.path(text)
    return (("or_default", node, default), "any") if default is not None else (node, kind)


def _if(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    identity = reader.note(loc, name)
    parts = [reader.value(o, (*loc, i)) for i, o in enumerate(operands)]
    results = [parts[i] for i in range(1, len(parts), 2)]
    results.append(parts[-1] if len(parts) % 2 else (("literal", None), "null"))
    kinds = {kind for _, kind in results}
    pairs = tuple((parts[i][0], parts[i + 1][0]) for i in range(0, len(parts) - 1, 2))
    return ("if", identity, pairs, results[-1][0]), kinds.pop() if len(kinds) == 1 else "any"


def _logic(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    identity = reader.note(loc, name)
    nodes = [reader.value(o, (*loc, i)) for i, o in enumerate(operands)]
    if not nodes:
        return ("literal", None), "null"
    kinds = {kind for _, kind in nodes}
    kind = kinds.pop() if len(kinds) == 1 else "bool?" if kinds <= _BOOL else "any"
    return ("logic", identity, name, tuple(nodes), kind), kind


def _not(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    identity = reader.note(loc, name)
    node = reader.value(operands[0], (*loc, 0)) if operands else (("literal", None), "null")
    return (name, identity, node), "bool"


def _equality(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    identity = reader.note(loc, name)
    nodes = [reader.operand(name, operands, i, loc) for i in range(min(len(operands), 2))]
    nodes += [(("literal", None), "null")] * (2 - len(nodes))
    (a, kind_a), (b, kind_b) = nodes
    if a[0] in {"constant", "literal"} and b[0] not in {"constant", "literal"}:
        (a, kind_a), (b, kind_b) = (b, kind_b), (a, kind_a)
    how = "any"
    if b[0] == "literal":
        how = "is" if len(name) == 3 or b[1] is None else "any"
    elif b[0] == "constant" and kind_b == "num":
        how = "num"
    elif b[0] == "constant" and kind_b == "str":
        text = reader.constants[b[1]]
        how = "str" if len(name) == 3 or math.isnan(to_number(text)) else "any"  # no number equals this text
    return ("equality", identity, name, how, a, b), "bool"


def _order(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    identity = reader.note(loc, name)
    parts = [reader.operand(name, operands, i, loc) for i in range(min(len(operands), 3))]
    parts += [(("literal", None), "null")] * (2 - len(parts))
    nodes = [("number", n[1]) if kind == "num" and n[0] == "constant" else n for n, kind in parts]
    if len(nodes) == 2 and nodes[0][0] == "number":  # 18 < age: age > 18
        nodes.reverse()
        name = _MIRRORED[name]
    return ("order", identity, name, tuple(nodes)), "bool"


def _in(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    if len(operands) < 2:
        return ("literal", False), "bool"
    haystack, _, opened = reader.follow(operands[1], (*loc, 1))
    reader.close(opened)
    how, among = "", frozenset[Any]()
    if isinstance(haystack, Segment):
        how, among = "str", haystack.members
    elif isinstance(haystack, list) and haystack:
        kinds = {type(item) for item in haystack}
        how = "str" if kinds == {str} else "num" if kinds <= {int, float} else ""
        among = frozenset(haystack) if how else among
    if not how:
        return read_call(reader, name, operands, loc)
    identity = reader.note(loc, name)
    needle, _ = reader.value(operands[0], (*loc, 0))
    return ("in", identity, how, needle, reader.given(among, haystack, group_of(name + how, operands[0]))), "bool"


def _version(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    return read_version(reader, operands, loc) or read_call(reader, name, operands, loc)


def _cat(reader: Reader, name: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    if len(operands) == 2 and isinstance(operands[0], str) and isinstance(operands[1], dict):
        identity = reader.note(loc, name)
        prefix = reader.constant(operands[0])
        return ("prefix", identity, prefix, reader.value(operands[1], (*loc, 1))[0]), "str"
    return read_call(reader, name, operands, loc)


def _fractional(reader: Reader, _: str, operands: list[Any], loc: Loc) -> tuple[Node, str]:
    return read_fractional(reader, operands, loc, tail=False)


READERS: Final[dict[str, Callable[[Reader, str, list[Any], Loc], tuple[Node, str]]]] = {
    "var": _var,
    **dict.fromkeys(("if", "?:"), _if),
    **dict.fromkeys(("and", "or"), _logic),
    **dict.fromkeys(("!", "!!"), _not),
    **dict.fromkeys(("==", "===", "!=", "!=="), _equality),
    **dict.fromkeys(("<", "<=", ">", ">="), _order),
    "in": _in,
    "sem_ver": _version,
    "cat": _cat,
    "fractional": _fractional,
}
"""How an operator is read that `read_call` does not."""
