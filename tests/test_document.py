"""The strict reader: what it accepts, what it refuses and where it says the fault is."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.document import Document, DocumentLimits, Tagged, is_shallow, read
from livecfg.errors import RefusedError
from livecfg.refusal import Code

YAML = b"""# a comment
payment:
  timeout_ms: 5
  retries: [1, {a: b, c: 0x1f}]
  nested:
    - x: 1
      y: "no"
    - 2.5
on: true
"""


def fault(data: bytes, path: str = "a.yaml", **limits: int) -> tuple[Code, int, int]:
    with pytest.raises(RefusedError) as caught:
        read(data, path, DocumentLimits(**limits))
    (refusal,) = caught.value.refusals
    assert refusal.path == path
    return refusal.code, refusal.line, refusal.column


def test_a_document_knows_where_every_key_and_value_stands() -> None:
    document = read(YAML, "a.yaml")
    assert document.key_position(("payment", "timeout_ms")) == (3, 3)
    assert document.position(("payment", "timeout_ms")) == (3, 15)
    assert document.position(("payment", "retries", 1, "c")) == (4, 26)
    assert document.key_position(("payment", "nested", 0, "y")) == (7, 7)
    assert document.position(("payment", "nested", 1)) == (8, 7)
    assert document.key_position(("on",)) == (9, 1)


def test_the_position_of_what_is_not_there_is_that_of_its_nearest_ancestor() -> None:
    assert read(YAML, "a.yaml").position(("payment", "timeout_ms", "deeper", 3)) == (3, 15)


def test_json_knows_its_positions_too() -> None:
    document = read(b'{"a": [1, {"b": "x, {\\""}],\n "c": {"d": null}}', "a.json")
    assert document.value == {"a": [1, {"b": 'x, {"'}], "c": {"d": None}}
    assert document.key_position(("a", 1, "b")) == (1, 12)
    assert document.position(("a", 1, "b")) == (1, 17)
    assert document.key_position(("c", "d")) == (2, 8)


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    text = b"{a: 1, b: 0o17, c: 0x1F, d: 1.5e3, e: .inf, f: ~, g: True, h: 1:30, i: 2026-01-01, j: '010', k: -7, l: '', 3: x}"
    assert read(text, "a.yaml").value == {
        "a": 1, "b": 15, "c": 31, "d": 1500.0, "e": math.inf, "f": None, "g": True,
        "h": "1:30", "i": "2026-01-01", "j": "010", "k": -7, "l": "", "3": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: yes", (Code.YAML_FEATURE, 1, 4)),
        (b"a:\n  - x\n  - OFF", (Code.YAML_FEATURE, 3, 5)),
        (b"a: 1\nb: 2\na: 3", (Code.DUPLICATE_KEY, 3, 1)),
        (b"a: &x 1", (Code.YAML_FEATURE, 1, 4)),
        (b"a: &x [1]", (Code.YAML_FEATURE, 1, 4)),
        (b"a: *x", (Code.YAML_FEATURE, 1, 4)),
        (b"<<: {a: 1}", (Code.YAML_FEATURE, 1, 1)),
        (b"a: 010", (Code.YAML_FEATURE, 1, 4)),
        (b"a: !!python/object:os.system x", (Code.YAML_FEATURE, 1, 4)),
        (b"a: !unset", (Code.YAML_FEATURE, 1, 4)),
        (b"---\na: 1\n---\nb: 2", (Code.YAML_FEATURE, 3, 1)),
        (b"%YAML 1.2\n---\na: 1", (Code.YAML_FEATURE, 1, 1)),
        (b"? [a]\n: b", (Code.YAML_FEATURE, 1, 3)),
        (b"a: [", (Code.SYNTAX, 1, 5)),
        (b"a: b: c", (Code.SYNTAX, 1, 5)),
        (b"a: \x01", (Code.SYNTAX, 1, 1)),
        (b"a: 1\nb: \xff", (Code.SYNTAX, 2, 4)),
        (b"\xef\xbb\xbfa: 1", (Code.SYNTAX, 1, 1)),
        (b"a: 99999999999999999999999", (Code.DOCUMENT_LIMIT, 1, 4)),
        (b"[" * 40 + b"]" * 40, (Code.DOCUMENT_LIMIT, 1, 33)),
    ],
)
def test_yaml_that_readers_understand_differently_is_refused_where_it_stands(
    data: bytes, expected: tuple[Code, int, int]
) -> None:
    got = fault(data)
    assert got[0] == expected[0]
    if expected[0] is not Code.SYNTAX:  # where a syntax error is found is the YAML library's own choice
        assert got == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1,\n "a": 2}', (Code.DUPLICATE_KEY, 2, 2)),
        (b'{"a": NaN}', (Code.SYNTAX, 1, 7)),
        (b'{"a": -Infinity}', (Code.SYNTAX, 1, 7)),
        (b'{"a": 99999999999999999999999}', (Code.DOCUMENT_LIMIT, 1, 7)),
        (b'{"a": "\\ud800"}', (Code.SYNTAX, 1, 1)),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (Code.DOCUMENT_LIMIT, 1, 38)),
        (b"{", (Code.SYNTAX, 1, 2)),
        (b"", (Code.SYNTAX, 1, 1)),
        (b'{"a": 99999999999999999999999K0}', (Code.SYNTAX, 1, 30)),
        (b'{"a": [NaN, {"b": "x"b}]}', (Code.SYNTAX, 1, 22)),
        (b"99999999999999999999999]", (Code.SYNTAX, 1, 24)),
    ],
)
def test_json_beyond_the_standard_is_refused(data: bytes, expected: tuple[Code, int, int]) -> None:
    assert fault(data, "a.json") == expected


def test_size_is_refused_before_anything_is_parsed() -> None:
    assert fault(b"a: [" * 10, size_bytes=39) == (Code.DOCUMENT_LIMIT, 1, 1)


def test_too_many_values_are_refused() -> None:
    assert fault(b"[" + b"1, " * 100 + b"1]", nodes=50)[0] is Code.DOCUMENT_LIMIT
    assert fault(b"[" + b"1, " * 100 + b"1]", "a.json", nodes=50)[0] is Code.DOCUMENT_LIMIT


@pytest.mark.parametrize("text", ["[" * 99, '\\"' + "[" * 99, "{" * 33 + "\\\\", '\n"]'])
def test_brackets_inside_a_json_text_nest_nothing(text: str) -> None:
    assert read(json.dumps([text, [[text]]]).encode(), "a.json").value == [text, [[text]]]
    assert read(json.dumps(text).encode(), "a.json").value == text
    assert fault(json.dumps([text, [[text, [1]]]]).encode(), "a.json", depth=3)[0] is Code.DOCUMENT_LIMIT


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 400_000, b'\\"' * 400_000, b'"\\' * 400_000])
def test_a_json_text_of_quotes_takes_no_longer_than_any_other(text: bytes) -> None:
    assert fault(b"[" * 40 + text, "a.json", depth=32)[0] is Code.DOCUMENT_LIMIT  # by looking again at each quote: hours
    assert fault(b"[" * 20 + b"[]," * 20 + text, "a.json", depth=32)[0] is Code.SYNTAX


def nested(text: str) -> int:
    """How deep a parser gets in a text before it meets what cannot follow."""
    depth = deepest = at = 0
    while at < len(text):
        letter = text[at]
        if letter == '"':
            at += 1
            while at < len(text) and text[at] != '"':
                at += 2 if text[at] == "\\" else 1
        elif letter == "\\":
            break
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(letter, 0)
        deepest = max(deepest, depth)
        if depth < 0:
            break
        at += 1
    return deepest


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from('"\\[]{}a'), max_size=40), st.integers(0, 4))
def test_what_is_called_shallow_takes_no_parser_deeper(text: str, most: int) -> None:
    assert not is_shallow(text, most) or nested(text) <= most


@given(
    st.recursive(
        st.text('"\\[]{}aé', max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\{[', max_size=2), inner, max_size=3),
        max_leaves=9,
    )
)
def test_well_formed_json_is_shallow_up_to_its_depth(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert [is_shallow(text, most) for most in range(nested(text) + 2)] == [False] * nested(text) + [True] * 2


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(20))
    assert fault(bomb) == (Code.YAML_FEATURE, 1, 4)


def test_a_tag_the_caller_named_is_given_as_it_is() -> None:
    assert read(b"a: !unset", "a.yaml", tags=frozenset({"!unset"})).value == {"a": Tagged("!unset", "")}


def test_an_empty_document_is_null() -> None:
    assert read(b"# nothing\n", "a.yaml").value is None


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


def leaves(value: Any, loc: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [loc, *(inner for key, item in items for inner in leaves(item, (*loc, key)))]


@settings(max_examples=300, deadline=None)
@given(plain)
def test_json_is_read_as_the_standard_library_reads_it_and_each_position_points_at_its_value(value: Any) -> None:
    data = json.dumps(value, indent=1).encode()
    document = read(data, "a.json")
    assert document.value == value
    assert all(points_at_it(document, loc) for loc in leaves(value))


def points_at_it(document: Document, loc: tuple[str | int, ...]) -> bool:
    line, column = document.position(loc)
    value = document.value
    for part in loc:
        value = value[part]
    rest = "\n".join(document.data.decode().split("\n")[line - 1 :])[column - 1 :]
    return bool(json.JSONDecoder().raw_decode(rest)[0] == value)


@settings(max_examples=300, deadline=None)
@given(plain)
def test_yaml_written_by_another_writer_is_read_back(value: Any) -> None:
    data = yaml.safe_dump(value, default_style='"', allow_unicode=False).encode()
    if b"!!" in data or b"\\u" in data or b"\\U" in data:  # a tagged scalar, or an escape: other tests
        data = json.dumps(value, ensure_ascii=False).encode()
        if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 or ord(c) >= 0xFFFE for c in data.decode()):
            return
        data = data.replace(b"\xc2\x85", b"").replace(b"\xe2\x80\xa8", b"").replace(b"\xe2\x80\xa9", b"")
    try:
        assert read(data, "a.yaml").value == json.loads(data)
    except json.JSONDecodeError:
        assert read(data, "a.yaml") is not None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.yaml", "a.json"]))
def test_reading_garbage_raises_nothing_but_a_refusal(data: bytes, path: str) -> None:
    try:
        document = read(data, path)
    except RefusedError as error:
        assert error.refusals[0].line >= 1  # noqa: PT017 - either outcome is right, each with its own claim
    else:
        assert all(document.position(loc).line >= 1 for loc in leaves(document.value))


@pytest.mark.parametrize("text", ["[" + ",".join(["1"] * 199_000) + "]", "[" + ",\n".join(["12345"] * 140_000) + "]"])
def test_every_position_in_a_long_json_text_is_found_in_one_pass(text: str) -> None:
    document = read(text.encode(), "a.json")
    started = time.process_time()
    last = len(document.value) - 1
    *_, end = text.split("\n")
    assert document.position((last,)) == (text.count("\n") + 1, len(end) - len(str(document.value[-1])))
    assert time.process_time() - started < 10
