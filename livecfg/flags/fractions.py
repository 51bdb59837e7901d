"""Reading `fractional`: weights summed and bounds placed when they are known, code for them when they are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livecfg.flags.bucketing import MAX_TOTAL, weight_of
from livecfg.flags.constants import SHORT, short_key
from livecfg.refusal import Code

if TYPE_CHECKING:
    from livecfg.document import Loc
    from livecfg.flags.targeting import Node, Reader


class Drawn(list[Any]):
    """Operands that livecfg wrote itself, for a split or an experiment: always `v2`, whatever the document of the flag says."""


def read_fractional(reader: Reader, raw: Any, loc: Loc, *, tail: bool) -> tuple[Node, str]:
    """Read a fractional; at the `tail` of a rule its arms are results."""
    operands = raw if isinstance(raw, list) else [raw]
    null = (reader.leaf(None, loc) if tail else ("literal", None)), "null"
    identity = reader.note(loc, "fractional")
    short = bool(operands) and isinstance(operands[0], list)
    first = 0 if short else 1
    by = _short(reader) if short else reader.value(operands[0], (*loc, 0))[0] if operands else ("literal", None)
    version = "v2" if isinstance(raw, Drawn) else reader.dialect.fractional + ("_short" if short else "")
    arms = operands[first:]
    if not arms or (short and reader.inner):
        reader.refuse(Code.FLAG_OPERATOR, loc, "fractional expected at least one [variant, weight]")
        return null
    weights = [_weight(reader, arm, (*loc, first + i)) for i, arm in enumerate(arms)]
    if any(w is None for w in weights):
        return null
    heads = tuple(
        reader.tail(arm[0], (*loc, first + i, 0)) if tail else reader.value(arm[0], (*loc, first + i, 0))[0]
        for i, arm in enumerate(arms)
    )
    if any(isinstance(w, tuple) for w in weights):
        nodes = tuple(w if isinstance(w, tuple) else ("constant", reader.constant(w)) for w in weights)
        return (("weighed", identity, version, by, nodes, heads, null[0] if tail else None)), "any"
    total = sum(w for w in weights if isinstance(w, int))
    if not 0 < total <= MAX_TOTAL:
        reader.refuse(Code.FLAG_OPERATOR, loc, f"the weights sum to {total:,}; expected 1 to {MAX_TOTAL:,}")
        return null
    at, limits = reader.shares([w for w in weights if isinstance(w, int)])
    return ("fractional", identity, version, by, at, limits, heads, null[0] if tail else None), "any"


def _short(reader: Reader) -> Node:
    return ("short", reader.given(short_key(reader.key, reader.dialect.fractional), SHORT), reader.path("targetingKey")[0])


def _weight(reader: Reader, arm: Any, loc: Loc) -> int | Node | None:
    """Read the weight of an arm: a number, a node that gives one, or None for what flagd does not take."""
    if not isinstance(arm, list) or not 1 <= len(arm) <= 2:
        reader.refuse(Code.FLAG_OPERATOR, loc, "fractional expected [variant, weight]")
        return None
    if len(arm) == 1:
        return 1
    if isinstance(arm[1], dict):
        return reader.value(arm[1], (*loc, 1))[0]
    weight = weight_of(arm[1])
    if weight is None or (reader.strict and arm[1] < 0):
        reader.refuse(Code.FLAG_OPERATOR, (*loc, 1), "expected a weight: an integer from 0")
    return weight
