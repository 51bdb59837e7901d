"""SECURITY.md names a test for every promise and every attack, and every test it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.trust.test_attacks import ATTACKS

TOP = Path(__file__).parents[1]
PAGE = (TOP / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(\w+)(?:\[([^\]`]+)\])?`", PAGE)


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((TOP / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_test_that_the_page_names_is_there() -> None:
    assert len(NAMED) > 80
    assert [f"{path}::{name}" for path, name, _ in NAMED if name not in functions_of(path)] == []


def test_every_attack_has_its_rows_on_the_page() -> None:
    rows = {int(number): text for number, text in re.findall(r"^\| (\d+) \| (.*)$", PAGE, re.MULTILINE)}
    assert sorted(rows) == list(range(1, 26))
    for number, text in rows.items():
        own = {name for name in ATTACKS if name.partition(" ")[0] == str(number)}
        assert own
        assert {name for name in own if f"test_attack[{name}]" not in text} == set(), number


def test_every_removed_check_that_the_page_names_is_a_row() -> None:
    assert [row for _, name, row in NAMED if name == "test_attack" and row not in ATTACKS] == []


def test_every_promise_names_its_test() -> None:
    rows = re.findall(r"^\| (?!promise|-)(.*) \|$", PAGE.partition("## Attacks")[0], re.MULTILINE)
    assert len(rows) >= 9
    assert [row for row in rows if "`tests/" not in row] == []
