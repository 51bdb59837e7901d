"""A reader of Gherkin, as far as the public suites of flagd and OpenFeature use it; what it does not know fails."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Table = list[list[str]]
KEYWORDS = {"Given", "When", "Then", "And", "But"}
CASTS: dict[str, Callable[[str], Any]] = {
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
    "string": str,
    "integer": int,
    "float": float,
    "double": float,
    "object": lambda text: json.loads(text.replace('\\"', '"')),
}


def cast(kind: str, text: str) -> Any:
    """Give the value that a cell or a quoted word of a suite means."""
    return CASTS[kind.lower()](text)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario, or one row of an outline: the tags of its feature and examples too, the steps of the background first."""

    name: str
    tags: frozenset[str]
    steps: tuple[tuple[str, Table], ...]

    def says(self, pattern: str) -> bool:
        """Tell whether a step has the pattern in it."""
        return any(re.search(pattern, text) for text, _ in self.steps)


@dataclass(slots=True)
class _Block:
    """What stands below one headline: a background, a scenario or an outline."""

    name: str
    tags: frozenset[str]
    steps: list[tuple[str, Table]] = field(default_factory=list)
    examples: list[tuple[frozenset[str], Table]] = field(default_factory=list)


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in line[1 : line.rindex("|")].split("|")]


def _blocks(text: str) -> Iterator[_Block]:
    """Give the background, which may be empty, then each scenario."""
    block, shared, waiting = _Block("", frozenset()), frozenset[str](), frozenset[str]()
    rows: Table = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if line.startswith("#"):
            continue
        if line.startswith("@"):
            waiting |= frozenset(line.split("#")[0].split())
        elif word == "Feature:":
            shared, waiting = waiting, frozenset()
        elif word in {"Scenario:", "Scenario"}:
            yield block
            block, waiting = _Block(line.partition(":")[2].strip(), shared | waiting), frozenset()
        elif word == "Examples:":
            block.examples.append((block.tags | waiting, rows := []))
            waiting = frozenset()
        elif word in KEYWORDS:
            block.steps.append((rest, rows := []))
        elif line.startswith("|") and line.count("|") > 1:
            rows.append(_row(line))
    yield block


def scenarios(text: str, feature: str) -> Iterator[Scenario]:
    """Give the scenarios of a feature, each row of an outline as its own; a name of no column stays as it is, in angles."""
    background, *blocks = _blocks(text)
    for block in blocks:
        steps = [*background.steps, *block.steps]
        if not block.examples:
            yield Scenario(f"{feature}: {block.name}", block.tags, tuple(steps))
        for tags, (head, *rows) in block.examples:
            for number, row in enumerate(rows, 1):
                cells = dict(zip(head, row, strict=True))

                def filled(step: str, cells: dict[str, str] = cells) -> str:
                    return re.sub(r"<(.*?)>", lambda m: cells.get(m[1], m[0]), step)

                name = f"{feature}: {block.name} {number} ({', '.join(row)[:60]})"
                yield Scenario(name, tags, tuple((filled(step), table) for step, table in steps))


def suite(folder: Path) -> list[Scenario]:
    """Give all scenarios of a folder."""
    found = [s for path in sorted(folder.glob("*.feature")) for s in scenarios(path.read_text("utf-8"), path.stem)]
    if not found:
        message = f"{folder} has no scenarios"
        raise FileNotFoundError(message)
    return found


def perform(actor: object, steps: tuple[tuple[str, Table], ...], words: list[tuple[str, str]]) -> None:
    """Call the method of `actor` that `words` name for each step, with what its pattern caught; an unknown step is an error."""
    for text, table in steps:
        found = next(((act, m) for pattern, act in words if (m := re.fullmatch(pattern, text, re.IGNORECASE))), None)
        assert found is not None, f"a step that nobody knows: {text}"
        getattr(actor, found[0])(*found[1].groups(), *([table] if table else []))


def unplayable(scenario: Scenario, flags: dict[str, Any]) -> str | None:
    """Say what the public files themselves lack for a scenario: a column of its table, or its flag."""
    if scenario.says(r"<[\w ]+>"):
        return "names a column that its table lacks"
    missing = [m[1] for text, _ in scenario.steps if (m := re.search(r'-flag with key "(.*?)"', text)) and m[1] not in flags]
    wanted = scenario.says("FLAG_NOT_FOUND|PROVIDER_|missing-flag")
    return f"{missing[0]} is in none of the public flag files" if missing and not wanted else None
