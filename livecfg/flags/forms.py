"""Forms: a rule as plain data with holes where rules that are read alike may differ.

Holes are what a variable is compared with, the members of a list, versions, weights, names of variants. A rule is of a form when
it is equal to it: Python compares the two trees, and each hole looks at what stands in its place, takes what the reader treats
alike whatever its value, and keeps it. All else is compared exactly, types included.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.flags.constants import COMPARISONS, compared_part, group_of
from livecfg.flags.operators import VERSION_RELATIONS, parse_version
from livecfg.flags.values import to_number
from livecfg.flags.versions import is_version

if TYPE_CHECKING:
    from collections.abc import Callable


class _Sort(NamedTuple):
    """What a hole takes: its type and what must hold beyond; a marker to take, that stands nowhere else in a rule."""

    kind: type
    fits: Callable[[Any], bool] | None
    marker: Callable[[int], Any]
    made: Callable[[Any], Any] | None = None
    """Gives the constant that the reader makes of it, unless that is the same."""


class Hole:
    """Equal to what it takes; keeps what it was compared with in `seen`."""

    __slots__ = ("fits", "kind", "seen", "sort")
    __hash__ = None  # type: ignore[assignment]  # holes are compared, never looked up

    def __init__(self, sort: _Sort, seen: list[Any]) -> None:
        self.kind = sort.kind
        self.fits = sort.fits
        self.sort = sort
        self.seen = seen

    def __eq__(self, other: object) -> bool:
        self.seen.append(other)
        return type(other) is self.kind and (self.fits is None or self.fits(other))


class _Exactly:
    """A number or a boolean that belongs to the form: equal to the same of the same type."""

    __slots__ = ("kind", "text")
    __hash__ = None  # type: ignore[assignment]  # as holes

    def __init__(self, value: float) -> None:
        self.kind = type(value)
        self.text = repr(value)

    def __eq__(self, other: object) -> bool:
        return type(other) is self.kind and repr(other) == self.text


def _no_number(text: str) -> bool:
    """Tell whether no number equals a text: one that begins with a letter is none, Infinity apart."""
    return (text[:1].isalpha() and text[0] != "I") or math.isnan(to_number(text))


def _texts(values: list[Any]) -> bool:
    return set(map(type, values)) == {str}


def _numbers(values: list[Any]) -> bool:
    return bool(values) and set(map(type, values)) <= {int, float}


def _version(relation: str) -> _Sort:
    def made(text: str) -> Any:
        version = parse_version(text)
        assert version is not None  # noqa: S101 - a version was taken
        return compared_part(version, relation)

    return _Sort(str, is_version, "7.{}.7".format, made)


_TEXT = _Sort(str, None, "hole {}".format)
_WORD = _Sort(str, _no_number, "hole {}".format)
_INTEGER = _Sort(int, None, lambda n: 7_000_000_000 + n)
_FLOAT = _Sort(float, None, lambda n: 7e9 + n)
_TEXTS = _Sort(list, _texts, lambda n: [f"hole {n}"], frozenset)
_NUMBERS = _Sort(list, _numbers, lambda n: [7_000_000_000 + n], frozenset)
WEIGHT = _Sort(int, (0).__le__, lambda n: 1_000_003 + n)
_VERSIONS = {relation: _version(relation) for relation in VERSION_RELATIONS}
_AFTER_A_VARIABLE: dict[str, tuple[_Sort, ...]] = {
    **dict.fromkeys(COMPARISONS, (_TEXT, _INTEGER, _FLOAT)),
    **dict.fromkeys(("==", "!="), (_WORD, _INTEGER, _FLOAT)),
    "in": (_TEXTS, _NUMBERS),
}


class UnfitError(Exception):
    """A rule of no form: with references, or with what only the reader understands."""


class Outline:
    """Makes the form of a rule, and the same rule with a marker in each hole."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.holes: list[Hole] = []
        self.markers: list[Any] = []

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

    def _dug(self, sort: _Sort) -> tuple[Any, Any]:
        hole, marker = Hole(sort, self.seen), sort.marker(len(self.holes))
        self.holes.append(hole)
        self.markers.append(marker)
        return hole, marker

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
            if type(arm) is not list or not 1 <= len(arm) <= 2 or (len(arm) == 2 and Hole(WEIGHT, []) != arm[1]):
                raise UnfitError
            made.append(_both([self.rule(arm[0], tail=tail), *(self._dug(WEIGHT) for _ in arm[1:])]))
        return _both(made)


def _sort_of_last(name: str, operands: list[Any]) -> _Sort | None:
    """Choose the hole for the last operand."""
    sorts: tuple[_Sort, ...] = ()
    if len(operands) == 2 and group_of(name, operands[0]) is not None:
        sorts = _AFTER_A_VARIABLE.get(name, ())
    elif len(operands) == 3 and name == "sem_ver" and isinstance(operands[1], str) and operands[1] in _VERSIONS:
        sorts = (_VERSIONS[operands[1]],)
    return next((sort for sort in sorts if Hole(sort, []) == operands[-1]), None)


def _both(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [form for form, _ in pairs], [marked for _, marked in pairs]
