"""What a flag can still give: reachable() walks the end of its rule, as it was compiled.

A flag that can give one variant only has done its work. Conditions count as open unless they are constants: attributes of the
process may be overridden by a caller's context.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from livecfg.flags.values import truthy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.targeting import Node, Rule


def reachable(flag: CompiledFlag) -> frozenset[str | None]:
    """Give the variants that some caller with a unit may get; None stands for the caller's default.

    All variants where the rule computes the name of one.
    """
    if flag.state == "DISABLED":
        return frozenset({None})
    if not flag.definition.targeting:
        return frozenset({flag.definition.default_variant})
    rule = flag.rule()
    found: set[str | None] = set()
    for leaf in _leaves(rule.shape[1], rule):
        if leaf is None:
            return frozenset({None, *flag.variants})
        found.add(flag.definition.outcome(rule.leaves[leaf].result).variant)
    return frozenset(found)


def _leaves(node: Node, rule: Rule) -> Iterator[int | None]:
    """Give the numbers of the leaves that a rule can end at; None where it computes its result."""
    kind = node[0]
    if kind == "leaf":
        yield node[1]
    elif kind == "tail_if":
        for condition, then in node[2]:
            known = _known(condition, rule)
            if known is not False:
                yield from _leaves(then, rule)
            if known is True:
                return
        yield from _leaves(node[3], rule)
    elif kind == "test":
        known = _known(node[1], rule)
        for branch in (node[2],) if known is True else (node[3],) if known is False else node[2:4]:
            yield from _leaves(branch, rule)
    elif kind == "fractional":
        limits = [0, *(rule.constant(limit) for limit in node[5]), 1 << 32]
        for head, (below, above) in zip(node[6], pairwise(limits), strict=True):
            if above > below:
                yield from _leaves(head, rule)
    else:
        yield None


def _known(condition: Node, rule: Rule) -> bool | None:
    """Give the truth of a constant."""
    if condition[0] == "literal":
        return bool(condition[1])
    return truthy(rule.constant(condition[1])) if condition[0] == "constant" else None
