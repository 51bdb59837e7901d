"""Edits of one key: what else stands in the file stays, byte for byte."""

from __future__ import annotations

import pytest

from livecfg.cli.edit import set_in_text, unset_in_text
from livecfg.cli.output import CommandError
from livecfg.document import read


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("", "a.b", "1", "a:\n  b: 1\n"),
        ("# only a comment\n", "a", "1", "# only a comment\na: 1\n"),
        ("# c\n{}\n", "a", "1", "# c\na: 1\n"),
        ("a: 1\n", "b", "x y", 'a: 1\nb: "x y"\n'),
        ("a:\n  b: 1 # x\nc: 2\n", "a.d", "3", "a:\n  b: 1 # x\n  d: 3\nc: 2\n"),
        ("a: 'old'  # c\n", "a", "true", "a: true  # c\n"),
        ('a: "x"\n', "a", "'y: z'", 'a: "y: z"\n'),
        ("a: {b: 1, c: 2}\n", "a.b", "9", "a: {b: 9, c: 2}\n"),
        ("a:\n  b: 1\n", "a.b", "[1, 2]", "a:\n  b: [1, 2]\n"),
    ],
)
def test_one_key_of_a_text_is_set_in_place(before: str, key: str, value: str, after: str) -> None:
    assert set_in_text(before, key, value, "a.yaml") == after


def test_a_structural_edit_keeps_comments_too() -> None:
    after = set_in_text("# top\na: 1  # one\nb:\n  - x  # item\n", "a.c.d", "2", "a.yaml")
    assert read(after.encode(), "a.yaml").value == {"a": {"c": {"d": 2}}, "b": ["x"]}
    assert "# top" in after
    assert "# item" in after


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("a:\nb: 2\n", "1", "a: 1\nb: 2\n"),
        ("a:   # why\nb: 2\n", "1", "a: 1   # why\nb: 2\n"),
        ("a: |\n  x\n  y\n\n# of b\nb: 2\n", "1", "a: 1\n\n# of b\nb: 2\n"),
        ("a: >-\n  x\n  y\nb: 2\n", "new text", 'a: "new text"\nb: 2\n'),
        ("a: |\n  last\n", "1", "a: 1\n"),
        ("é: ü\na: old\n", "new", "é: ü\na: new\n"),
    ],
)
def test_block_text_and_empty_values_are_replaced_in_place(before: str, value: str, after: str) -> None:
    assert set_in_text(before, "a", value, "a.yaml") == after


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("key", "value"), [("a", "2"), ("c", "3"), ("b.d", "4"), ("a.x", "5")])
def test_line_ends_stay_what_they_are(end: str, key: str, value: str) -> None:
    before = f"# top{end}a: 1  # one{end}b:{end}  c: 2{end}"
    after = set_in_text(before, key, value, "a.yaml")
    assert after.count(end) == after.count("\n")
    assert after.count("\r") == after.count("\r\n")
    assert "# top" in after


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("a: 1\n# of b\nb: 2\n", "a", "# of b\nb: 2\n"),
        ("a:\n  b: 1  # x\n  c: 2\nd: 3\n", "a.b", "a:\n  c: 2\nd: 3\n"),
        ("a:\n  b: 1\nd: 3\n", "a.b", "d: 3\n"),
        ("a: |\n  x\n  y\nd: 3\n", "a", "d: 3\n"),
        ("a:\n  - 1\n  - {x: 2}\n# of d\nd: 3\n", "a", "# of d\nd: 3\n"),
        ("a: {b: 1, c: 2}\n", "a.b", "a: {c: 2}\n"),
        ("# only\na: 1\n", "a", "# only\n"),
    ],
)
def test_a_key_is_taken_out_with_the_mappings_it_leaves_empty(before: str, key: str, after: str) -> None:
    assert unset_in_text(before, key, "a.yaml") == after


def test_json_is_edited_too() -> None:
    assert set_in_text('{"a": 1}', "b.c", "true", "a.json") == '{\n  "a": 1,\n  "b": {\n    "c": true\n  }\n}\n'
    assert unset_in_text('{"a": 1, "b": {"c": 2}}', "b.c", "a.json") == '{\n  "a": 1\n}\n'


@pytest.mark.parametrize("value", [".nan", "-.inf", "1e400", "[1, {a: .inf}]"])
@pytest.mark.parametrize("path", ["a.yaml", "a.json"])
def test_no_number_is_set_that_json_does_not_have(value: str, path: str) -> None:
    with pytest.raises(CommandError, match=r"a\.b: expected finite numbers"):
        set_in_text("{}", "a.b", value, path)
    assert "1e400" in set_in_text("{}", "a.b", "'1e400'", path)
