"""Targeting operators: plain functions over evaluated operands; OPERATORS is the table of what a rule may name.

Each entry says how many operands there may be and what the result can be, so that the compiler knows where JavaScript's
truth and Python's agree. An operator of flagd's own (`starts_with`, `sem_ver`, …) gives None for operands it cannot take,
as flagd does; the others convert as JavaScript does. `var`, `if`, `and`, `or`, comparisons, `in` and `fractional` have code
of their own in `generate`; those that take a rule as operand (`map`, `filter`, …) get it as a function.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.flags.values import NAN, dig, identical, to_number, to_string, truthy

if TYPE_CHECKING:
    from collections.abc import Callable


# --- strings and versions ---------------------------------------------------------------------------------------------------


def starts_with(value: Any, prefix: Any) -> bool | None:
    """Tell whether a string begins with another; None when either is no string."""
    return value.startswith(prefix) if isinstance(value, str) and isinstance(prefix, str) else None


def ends_with(value: Any, suffix: Any) -> bool | None:
    """Tell whether a string ends with another; None when either is no string."""
    return value.endswith(suffix) if isinstance(value, str) and isinstance(suffix, str) else None


Version = tuple[int, int, int, tuple[Any, ...]]
_VERSION = re.compile(
    r"[vV]?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
)
_RELEASE: tuple[Any, ...] = ((2,),)  # after every pre-release
_LONGEST_VERSION = 256
_LONGEST_TEXT, _MOST_ITEMS = 1 << 24, 1 << 20
"""`reduce` may double what it has at each item of a list: no rule can fill the memory."""
_MOST_VERSIONS = 4096


def parse_version(text: str) -> Version | None:
    """Read a semantic version (semver.org 2.0.0), with or without `v`, partial ones filled with zeros; None if it is none.

    The result compares as versions do: build metadata does not count, a pre-release comes before its release.
    """
    return VERSIONS[text]


def _read_version(text: str) -> Version | None:
    match = _VERSION.fullmatch(text) if len(text) <= _LONGEST_VERSION else None
    if match is None:
        return None
    major, minor, patch, pre = match.groups()
    parts = _RELEASE if pre is None else tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pre.split("."))
    return int(major), int(minor or 0), int(patch or 0), parts


class _Versions(dict[str, "Version | None"]):
    """Versions by their texts, read when first asked for; by subscript, which costs a third of what `lru_cache` takes."""

    def __missing__(self, text: str) -> Version | None:
        found = _read_version(text)
        if len(text) <= _LONGEST_VERSION:
            if len(self) >= _MOST_VERSIONS:
                self.clear()
            self[text] = found
        return found


VERSIONS = _Versions()


def version_of(value: Any) -> Version | None:
    """Read the version of an operand: a string, or a number such as 2 or 1.5."""
    if isinstance(value, str):
        return parse_version(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return parse_version(to_string(value))
    return None


VERSION_RELATIONS: dict[str, Callable[[Version, Version], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "^": lambda a, b: a[0] == b[0],  # flagd: same major, not npm's ranges
    "~": lambda a, b: a[:2] == b[:2],  # flagd: same major and minor
}


def sem_ver(version: Any, relation: Any, other: Any) -> bool | None:
    """Compare two versions; None when one of them is none or the relation is unknown."""
    compare = VERSION_RELATIONS.get(relation) if isinstance(relation, str) else None
    a, b = version_of(version), version_of(other)
    return compare(a, b) if compare is not None and a is not None and b is not None else None


def cat(*values: Any) -> str:
    """Join the texts of all operands.

    Raises:
        ValueError: more than 16 million characters.

    """
    text = "".join("" if v is None else v if type(v) is str else to_string(v) for v in values)
    if len(text) > _LONGEST_TEXT:
        raise ValueError("the text is too long")
    return text


def substr(source: Any, start: Any = None, length: Any = None) -> str:
    """Give a part of a text; negative numbers count from its end."""
    text = to_string(source)
    first = _index(start)
    begin = max(len(text) + first, 0) if first < 0 else min(first, len(text))
    if length is None:
        return text[begin:]
    count = _index(length)
    return text[begin : len(text) + count if -count <= len(text) else 0] if count < 0 else text[begin : begin + count]


def _index(value: Any) -> int:
    number = to_number(value)
    if isinstance(number, float):
        if math.isnan(number):
            return 0
        number = math.trunc(max(min(number, 1e15), -1e15))
    return number


# --- arithmetic -------------------------------------------------------------------------------------------------------------


def add(*values: Any) -> float | int:
    """Sum; one operand is turned into a number."""
    return _checked(lambda: sum((to_number(v) for v in values), 0))


def multiply(*values: Any) -> float | int:
    """Give the product."""
    return _checked(lambda: math.prod(to_number(v) for v in values))


def subtract(a: Any = None, b: Any = None) -> float | int:
    """Give the difference; the negative of one operand."""
    return _checked(lambda: -to_number(a) if b is None else to_number(a) - to_number(b))


def divide(a: Any, b: Any = None) -> float | int:
    """Give the quotient; infinity or NaN over zero."""
    return _checked(lambda: _divide(to_number(a), to_number(b)))


def _divide(a: float, b: float) -> float | int:
    if b == 0:
        return NAN if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


def modulo(a: Any, b: Any = None) -> float | int:
    """Give the remainder, with the sign of the dividend."""
    return _checked(lambda: _modulo(to_number(a), to_number(b)))


def _modulo(a: float, b: float) -> float | int:
    if b == 0 or math.isinf(a):
        return NAN
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) % abs(b) * (1 if a >= 0 else -1)
    return math.fmod(a, b)


def largest(*values: Any) -> float | int:
    """Give the largest number; NaN when one of them is no number."""
    return _extreme(max, -math.inf, values)


def smallest(*values: Any) -> float | int:
    """Give the smallest number; NaN when one of them is no number."""
    return _extreme(min, math.inf, values)


def _extreme(choose: Callable[[list[float]], float], empty: float, values: tuple[Any, ...]) -> float | int:
    numbers: list[float] = [to_number(v) for v in values]
    if any(math.isnan(n) for n in numbers):
        return NAN
    return choose(numbers) if numbers else empty


_WIDE = 1 << 64


def _checked(compute: Callable[[], float | int]) -> float | int:
    """Integers beyond 64 bits become floats, as all numbers of JavaScript are: no rule can make Python's grow without end."""
    try:
        result = compute()
        return float(result) if isinstance(result, int) and abs(result) >= _WIDE else result
    except OverflowError:
        return math.inf


# --- lists ------------------------------------------------------------------------------------------------------------------


def merge(*values: Any) -> list[Any]:
    """Join lists into one; what is no list counts as a list of one.

    Raises:
        ValueError: more than a million items.

    """
    result: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            result += value
        else:
            result.append(value)
    if len(result) > _MOST_ITEMS:
        raise ValueError("the list is too long")
    return result


def contains(needle: Any, haystack: Any) -> bool:
    """`in`: a part of a text, or an item of a list (compared without conversion)."""
    if isinstance(haystack, str):
        return bool(haystack) and (needle if isinstance(needle, str) else to_string(needle)) in haystack
    if isinstance(haystack, list | tuple):
        return any(identical(needle, item) for item in haystack)
    return False


def contains_literal(needle: Any, items: frozenset[Any]) -> bool:
    """`in` over a literal list of texts only, or of numbers only."""
    return isinstance(needle, str | int | float) and not isinstance(needle, bool) and needle in items


def map_(values: Any, rule: Callable[[Any], Any]) -> list[Any]:
    """Apply a rule to every item."""
    return [rule(v) for v in values] if isinstance(values, list | tuple) else []


def filter_(values: Any, rule: Callable[[Any], Any]) -> list[Any]:
    """Keep the items for which a rule is true."""
    return [v for v in values if truthy(rule(v))] if isinstance(values, list | tuple) else []


def reduce_(values: Any, rule: Callable[[Any], Any], initial: Any = None) -> Any:
    """Combine all items; the rule sees `current` and `accumulator`."""
    if isinstance(values, list | tuple):
        for value in values:
            initial = rule({"current": value, "accumulator": initial})
    return initial


def all_(values: Any, rule: Callable[[Any], Any]) -> bool:
    """Tell whether a rule is true for every item, and there is one."""
    return isinstance(values, list | tuple) and bool(values) and all(truthy(rule(v)) for v in values)


def some(values: Any, rule: Callable[[Any], Any]) -> bool:
    """Tell whether a rule is true for an item."""
    return isinstance(values, list | tuple) and any(truthy(rule(v)) for v in values)


def none(values: Any, rule: Callable[[Any], Any]) -> bool:
    """Tell whether a rule is true for no item."""
    return not some(values, rule)


# --- what is missing --------------------------------------------------------------------------------------------------------


def missing(data: Any, *keys: Any) -> list[Any]:
    """Give the keys that name nothing, null or an empty text."""
    names = keys[0] if keys and isinstance(keys[0], list | tuple) else keys
    return [name for name in names if lookup(data, name) in (None, "")]


def missing_some(data: Any, needed: Any, keys: Any = None) -> list[Any]:
    """Give the missing keys, or nothing when enough of them are there."""
    if not isinstance(keys, list | tuple):
        return []
    absent = missing(data, list(keys))
    return [] if len(keys) - len(absent) >= to_number(needed) else absent


def lookup(data: Any, name: Any, default: Any = None) -> Any:
    """`var` with a name that is computed."""
    if name is None or name == "":
        return data
    value = dig(data, tuple(to_string(name).split(".")))
    return default if value is None else value


class Operator(NamedTuple):
    """How many operands, what the result can be (`bool`, `bool?` with None, `str`, `num`, `list`, `any`), and the function."""

    least: int
    most: int
    result: str
    function: Callable[..., Any] | None = None


_MANY = 10_000
OPERATORS: dict[str, Operator] = {
    **{name: Operator(1, 2, "any") for name in ("var",)},
    **{name: Operator(1, _MANY, "any") for name in ("if", "?:", "and", "or", "fractional")},
    **{name: Operator(2, 2, "bool") for name in ("==", "===", "!=", "!==")},
    **{name: Operator(2, 3, "bool") for name in ("<", "<=", ">", ">=")},
    **{name: Operator(1, 1, "bool") for name in ("!", "!!")},
    "in": Operator(2, 2, "bool", contains),
    "starts_with": Operator(2, 2, "bool?", starts_with),
    "ends_with": Operator(2, 2, "bool?", ends_with),
    "sem_ver": Operator(3, 3, "bool?", sem_ver),
    "cat": Operator(1, _MANY, "str", cat),
    "substr": Operator(2, 3, "str", substr),
    "+": Operator(1, _MANY, "num", add),
    "*": Operator(1, _MANY, "num", multiply),
    "-": Operator(1, 2, "num", subtract),
    "/": Operator(2, 2, "num", divide),
    "%": Operator(2, 2, "num", modulo),
    "max": Operator(1, _MANY, "num", largest),
    "min": Operator(1, _MANY, "num", smallest),
    "merge": Operator(0, _MANY, "list", merge),
    "map": Operator(2, 2, "list", map_),
    "filter": Operator(2, 2, "list", filter_),
    "reduce": Operator(2, 3, "any", reduce_),
    "all": Operator(2, 2, "bool", all_),
    "some": Operator(2, 2, "bool", some),
    "none": Operator(2, 2, "bool", none),
    "missing": Operator(1, _MANY, "list", missing),
    "missing_some": Operator(2, 2, "list", missing_some),
}
OVER_ITEMS = frozenset({"map", "filter", "reduce", "all", "some", "none"})
"""Operators whose second operand is a rule over each item."""
OVER_DATA = frozenset({"missing", "missing_some"})
"""Operators that also take the whole data."""
