"""Constants of a rule: which of them belong to its form, which parameter of the code each one fills.

Rules of one form differ in what they compare variables with, in weights, and in the key of their flag. Each of these has a
parameter of its own: if two that are equal shared one, the code would depend on the values, and hardly two rules would have the
same. Only where all constants of a group are alike, they share: ten rules that ask for the same age pay for one parameter.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from livecfg.flags.bucketing import encode, first_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from livecfg.flags.operators import Version

COMPARISONS = frozenset({"==", "===", "!=", "!==", "<", "<=", ">", ">=", "starts_with", "ends_with"})
KEY = object()
"""The source of a constant that is the flag's key."""
SHORT = object()
"""The source of what a fractional without a unit puts before the targeting key."""


def group_of(name: str, operand: Any) -> tuple[str, str] | None:
    """Give the group of what `operand` is compared with: all that one operator compares one variable with; None for others."""
    variable = operand.get("var") if type(operand) is dict and len(operand) == 1 else None
    return (name, variable) if type(variable) is str else None


def places_of(constants: Sequence[Any], groups: Iterable[Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the parameter of each constant, and the first constant of each parameter."""
    stands_for = list(range(len(constants)))
    for group in groups:
        if alike([constants[number] for number in group]):
            for number in group:
                stands_for[number] = group[0]
    parameters: dict[int, int] = {}
    places = tuple([parameters.setdefault(number, len(parameters)) for number in stands_for])
    return places, tuple(parameters)


def alike(values: Sequence[Any]) -> bool:
    """Tell whether all values are the same, types included."""
    return values.count(values[0]) == len(values) and len(set(map(type, values))) == 1


def shares_of(weights: Iterable[int]) -> list[int]:
    """Give the sum of the weights of a fractional, then the first hash of each arm but the first one."""
    below = list(accumulate(weights))
    total = below.pop()
    return [total, *(first_hash(limit, total) for limit in below)]


def short_key(key: str, fractional: str) -> str | bytes:
    """Give what a fractional without a unit puts before the targeting key."""
    return key if fractional == "v2" else b"\x82" + encode(key)


def compared_part(version: Version, relation: str) -> Any:
    """Give the part of a version that a relation of `sem_ver` looks at."""
    return version[0] if relation == "^" else version[:2] if relation == "~" else version
