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
    """What a hole takes: a type, and what the reader makes of it; a marker to take, that stands nowhere else in a rule."""

    kind: type
    marker: Callable[[int], Any]
    made: Callable[[Any], Any] | None = None
    """Gives the constant, unless that is what was taken; raises UnfitError for what the hole does not take."""

    def takes(self, value: Any) -> bool:
        """Tell whether a hole takes a value."""
        if type(value) is not self.kind:
            return False
        if self.made is not None:
            try:
                self.made(value)
            except UnfitError:
                return False
        return True


class UnfitError(Exception):
    """A rule of no form, with references or with what only the reader understands; or a value that a hole does not take."""


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
def _word(text: str) -> str:
    """Take a text that equals no number: one that begins with a letter equals none, Infinity apart."""
    if not (text[:1].isalpha() and text[0] != "I") and not math.isnan(to_number(text)):
        raise UnfitError
    return text


def _texts(values: list[Any]) -> frozenset[Any]:
    return _members(values, {str})


def _numbers(values: list[Any]) -> frozenset[Any]:
    return _members(values, {int, float})


def _members(values: list[Any], kinds: set[type]) -> frozenset[Any]:
    if not values or not set(map(type, values)) <= kinds:
        raise UnfitError
    return frozenset(values)


def _version(relation: str) -> Sort:
    @lru_cache(maxsize=1024)
    def made(text: str) -> Any:
        version = parse_version(text) if is_version(text) else None
        if version is None:
            raise UnfitError
        return compared_part(version, relation)

    return Sort(str, "7.{}.7".format, made)


_TEXT = Sort(str, "hole {}".format)
_WORD = Sort(str, "hole {}".format, _word)
_INTEGER = Sort(int, lambda n: 7_000_000_000 + n)
_FLOAT = Sort(float, lambda n: 7e9 + n)
_TEXTS = Sort(list, lambda n: [f"hole {n}"], _texts)
_NUMBERS = Sort(list, lambda n: [7_000_000_000 + n], _numbers)
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
