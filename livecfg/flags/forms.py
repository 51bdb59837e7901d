"""Forms: a rule as plain data with holes where rules that are read alike may differ.

Holes are what a variable is compared with, the members of a list, versions, weights, names of variants. A rule is of a form when
it is equal to it: Python compares the two trees, and each hole keeps what stands in its place, which must then be of a sort that
the reader treats alike whatever its value. All else is compared exactly, types included.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.flags.constants import COMPARISONS, compared_part, group_of
from livecfg.flags.operators import VERSION_RELATIONS, parse_version
from livecfg.flags.values import to_number
from livecfg.flags.versions import is_version

if TYPE_CHECKING:
    from collections.abc import Callable


class Sort(NamedTuple):
    """What a hole takes: values of a type that fit, and what the reader makes of one; a marker to take, alone of its kind."""

    kind: type
    marker: Callable[[int], Any]
    fits: Callable[[Any], bool] | None = None
    """Tells whether the hole takes a value of the type; None: every one."""
    made: Callable[[Any], Any] | None = None
    """Gives the constant, unless that is what was taken."""

    def takes(self, value: Any) -> bool:
        """Tell whether a hole takes a value."""
        return type(value) is self.kind and (self.fits is None or self.fits(value))


class UnfitError(Exception):
    """A rule of no form, with references or with what only the reader understands."""


class _Hole:
    """Equal to everything; keeps what it was compared with in `seen`."""

    __slots__ = ("_keep",)
    __hash__ = None  # type: ignore[assignment]  # holes are compared, never looked up

    def __init__(self, seen: list[Any]) -> None:
        self._keep = seen.append

    def __eq__(self, other: object) -> bool:
        self._keep(other)
        return True


class _Exactly:
    """A number or a boolean that belongs to the form: equal to the same of the same type."""

    __slots__ = ("kind", "text")
    __hash__ = None  # type: ignore[assignment]  # as holes

    def __init__(self, value: float) -> None:
        self.kind = type(value)
        self.text = repr(value)

    def __eq__(self, other: object) -> bool:
        return type(other) is self.kind and repr(other) == self.text


@lru_cache(maxsize=4096)
def _is_word(text: str) -> bool:
    """Tell whether a text equals no number: one that begins with a letter equals none, Infinity apart."""
    return (text[:1].isalpha() and text[0] != "I") or math.isnan(to_number(text))


def _are_texts(values: list[Any]) -> bool:
    return set(map(type, values)) == {str}


def _are_numbers(values: list[Any]) -> bool:
    return bool(values) and set(map(type, values)) <= {int, float}


_is_version = lru_cache(maxsize=1024)(is_version)


def _version(relation: str) -> Sort:
    def made(text: str) -> Any:
        version = parse_version(text)
        return compared_part(version, relation) if version is not None else None

    return Sort(str, "7.{}.7".format, _is_version, made)


_TEXT = Sort(str, "hole {}".format)
_WORD = Sort(str, "hole {}".format, _is_word)
_INTEGER = Sort(int, lambda n: 7_000_000_000 + n)
_FLOAT = Sort(float, lambda n: 7e9 + n)
_TEXTS = Sort(list, lambda n: [f"hole {n}"], _are_texts, frozenset)
_NUMBERS = Sort(list, lambda n: [7_000_000_000 + n], _are_numbers, frozenset)
WEIGHT = Sort(int, lambda n: 1_000_003 + n)
"""Of a weight from 0; what is below is for the reader."""
_VERSIONS = {relation: _version(relation) for relation in VERSION_RELATIONS}
_AFTER_A_VARIABLE: dict[str, tuple[Sort, ...]] = {
    **dict.fromkeys(COMPARISONS, (_TEXT, _INTEGER, _FLOAT)),
    **dict.fromkeys(("==", "!="), (_WORD, _INTEGER, _FLOAT)),
    "in": (_TEXTS, _NUMBERS),
}


class Outline:
    """Makes the form of a rule, and the same rule with a marker in each hole."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        """What the holes were compared with, in their order."""
        self.holes: list[Sort] = []
        self.markers: list[Any] = []
        self._hole = _Hole(self.seen)

    def rule(self, raw: Any, *, tail: bool = False) -> tuple[Any, Any]:
        """Give form and marked rule; at the `tail` of a rule texts are names of variants.

        Raises:
            UnfitError: a rule of no form.

        """
        kind = type(raw)
        if kind is dict:
            if len(raw) != 1 or "$ref" in raw:
                raise UnfitError
            ((name, operands),) = raw.items()
            form, marked = self._operation(name, operands, tail) if type(operands) is list else self.rule(operands)
            return {name: form}, {name: marked}
        if kind is list:
            return _both([self.rule(item) for item in raw])
        if kind is str and tail:
            return self._dug(_TEXT)
        if raw is None or kind is str:
            return raw, raw
        if kind not in {bool, int, float}:
            raise UnfitError
        return _Exactly(raw), raw

    def _dug(self, sort: Sort) -> tuple[Any, Any]:
        marker = sort.marker(len(self.holes))
        self.holes.append(sort)
        self.markers.append(marker)
        return self._hole, marker

    def _operation(self, name: str, operands: list[Any], tail: bool) -> tuple[Any, Any]:  # noqa: FBT001 - as in `rule`
        if name == "fractional":
            return self._fractional(operands, tail)
        if name in {"if", "?:"} and tail:
            last = len(operands) - 1
            return _both([self.rule(o, tail=i % 2 == 1 or i == last) for i, o in enumerate(operands)])
        made = [self.rule(o) for o in operands[:-1]]
        sort = _sort_of_last(name, operands)
        made += [self._dug(sort) if sort is not None else self.rule(o) for o in operands[-1:]]
        return _both(made)

    def _fractional(self, operands: list[Any], tail: bool) -> tuple[Any, Any]:  # noqa: FBT001 - as in `rule`
        first = 0 if operands and type(operands[0]) is list else 1
        made = [self.rule(o) for o in operands[:first]]
        for arm in operands[first:]:
            if type(arm) is not list or not 1 <= len(arm) <= 2 or (len(arm) == 2 and not WEIGHT.takes(arm[1])):
                raise UnfitError
            made.append(_both([self.rule(arm[0], tail=tail), *(self._dug(WEIGHT) for _ in arm[1:])]))
        return _both(made)


def _sort_of_last(name: str, operands: list[Any]) -> Sort | None:
    """Choose the hole for the last operand."""
    sorts: tuple[Sort, ...] = ()
    if len(operands) == 2 and group_of(name, operands[0]) is not None:
        sorts = _AFTER_A_VARIABLE.get(name, ())
    elif len(operands) == 3 and name == "sem_ver" and isinstance(operands[1], str) and operands[1] in _VERSIONS:
        sorts = (_VERSIONS[operands[1]],)
    return next((sort for sort in sorts if sort.takes(operands[-1])), None)


def _both(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [form for form, _ in pairs], [marked for _, marked in pairs]
