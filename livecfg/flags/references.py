"""How much a document of flags comes to when each reference stands for what it leads to.

A shared rule is read once for every flag that uses it, and shared rules use each other: without a bound a few lines, each of
which names the next one twice, would be read for years.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST_VALUES = 500_000
"""That the rules of one document may have."""


class _Part(NamedTuple):
    """A rule as it stands: its values, and the names that it refers to, as often as it does."""

    values: int
    names: list[str]


def references(value: Any) -> Iterator[str]:
    """Give the name of each reference in a rule, or in a whole document."""
    yield from _part(value).names


def expanded(rules: Iterable[Any], shared: Mapping[str, Any]) -> int:
    """Count the values of some rules, those of shared rules where they are used; what leads back to itself counts once."""
    parts = {name: _part(rule) for name, rule in shared.items()}
    sizes: dict[str, int] = {}
    total = 0
    for rule in rules:
        part = _part(rule)
        for name in part.names:
            _measure(name, parts, sizes)
        total += part.values + sum(sizes.get(name, 0) for name in part.names)
    return total


def _measure(name: str, parts: Mapping[str, _Part], sizes: dict[str, int]) -> None:
    """Note the size of a shared rule, and of all that it leads to, innermost first."""
    waiting, opened = [name], set[str]()
    while waiting:
        top = waiting[-1]
        if top in sizes or top not in parts:
            waiting.pop()
        elif top not in opened:
            opened.add(top)
            waiting += [n for n in parts[top].names if n not in sizes and n not in opened]
        else:
            part = parts[top]
            sizes[top] = part.values + sum(sizes.get(n, 0) for n in part.names)
            waiting.pop()


def _part(rule: Any) -> _Part:
    values, names, stack = 0, list[str](), [rule]
    while stack:
        value = stack.pop()
        values += 1
        if isinstance(value, dict):
            name = value.get("$ref") if len(value) == 1 else None
            if isinstance(name, str):
                names.append(name)
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return _Part(values, names)
