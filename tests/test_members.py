"""A document that is read where it differs from the last version is what it is when all of it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.document import DocumentLimits, read
from livecfg.errors import RefusedError
from livecfg.members import Edit, Members, edited, read_members

LIMITS = DocumentLimits(size_bytes=4096, depth=6, nodes=400)
SPACE = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])
VALUE = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        "null",
        '""',
        '"a"',
        '"ł"',
        '"\\\\"',
        '"}\\""',
        "[]",
        "{}",
        '{"a": [1, {"b": 2}]}',
        '"\\ud83d\\ude00"',
    ]
)
PIECE = st.sampled_from(
    [
        *('"', "\\", "{", "}", "[", "]", ",", ":", " ", "0", "1", "e", "\n", '"k3"', '"k3": 1', ', "new": {"a": 1}', '"x": 2, '),
        *(
            '}, "other": {',
            '}, "flags": {"z": 1',
            '"\\ud800"',
            "NaN",
            '{"a": 1, "a": 2}',
            "[[[[[[]]]]]]",
            "99999999999999999999999",
        ),
    ]
)


def text_of(entries: list[tuple[str, str, str]], before: str, after: str) -> str:
    """A document of some entries, with what stands before and after their mapping."""
    inner = ",".join(f'{space}"{key}"{space}:{space}{value}{space}' for key, value, space in entries)
    return f'{{{before}"flags": {{{inner}}}{after}}}'


@st.composite
def versions(draw: st.DrawFn) -> tuple[str, str]:
    """A document of many entries, and what a few edits of its text make of it, well-formed or not."""
    entries = [(f"k{n}", "1", "") for n in range(34)]
    for place in draw(st.lists(st.integers(0, 33), max_size=6)):
        entries[place] = (f"k{place}", draw(VALUE), draw(SPACE))
    before, after = draw(st.sampled_from([("", ""), ('"m": {"a": 1}, ', ""), ("", ' , "m": [1, 2] '), (" ", "\n")]))
    old = new = text_of(entries, before, after)
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            place = draw(st.integers(0, 33))
            gone = draw(st.integers(0, 2))
            fresh = draw(st.lists(st.tuples(st.sampled_from(["k1", "k20", "n1", "n2"]), VALUE, SPACE), max_size=2))
            entries[place : place + gone] = fresh
            new = text_of(entries, before, after)
        else:
            at = draw(st.integers(0, len(new)))
            new = new[:at] + draw(st.one_of(PIECE, st.just(""))) + new[at + draw(st.integers(0, 9)) :]
    return old, new


def whole(text: str) -> tuple[Any, Members | None] | None:
    """What reading all of it gives."""
    try:
        document, members = read_members(text.encode("utf-8", "surrogatepass"), "f.json", "flags", LIMITS)
    except RefusedError:
        return None
    assert document == read(document.data, "f.json", LIMITS)
    return document.value, members


def next_version(old: str, new: str) -> Edit | None:
    found = whole(old)
    assert found is not None
    assert found[1] is not None
    return edited(found[1], new.encode("utf-8", "surrogatepass"), "f.json", LIMITS)


@settings(max_examples=600, deadline=None)
@given(versions())
def test_what_an_edit_gives_is_what_reading_all_gives(versions: tuple[str, str]) -> None:
    old, new = versions
    if whole(old) is None:  # more than the limits allow
        return
    edit = next_version(old, new)
    if edit is None:
        return
    found = whole(new)
    assert found is not None, "an edit was taken that the strict parser refuses"
    value, members = found
    if members is not None:
        assert edit.members == members
    flags = json.loads(old)["flags"]
    assert list(value["flags"]) == edit.members.keys
    made = {key: edit.fresh[key] if key in edit.fresh else flags[key] for key in edit.members.keys}
    assert json.dumps({**edit.members.rest, "flags": made}, sort_keys=True) == json.dumps(value, sort_keys=True)


PLAIN = text_of([(f"k{n}", '{"a": 1}', " ") for n in range(40)], "", "")


@pytest.mark.parametrize(
    ("was", "now", "fresh"),
    [
        ('"k7" : {"a": 1}', '"k7" : {"a": 2}', {"k7": {"a": 2}}),
        ('"k7" : {"a": 1} , "k8"', '"k8"', {"k8": {"a": 1}}),
        (' "k0" : {"a": 1} ,', "", {"k1": {"a": 1}}),
        ('"k39" : {"a": 1}', '"k39" : {"a": 1}, "n": 3', {"k39": {"a": 1}, "n": 3}),
        (' "k0" :', ' "n": "ł", "k0" :', {"n": "ł", "k0": {"a": 1}}),
        ('"k7" : {"a": 1} , "k8" : {"a": 1}', '"k8" : {"a": 1} , "k7" : {"a": 1}', {"k8": {"a": 1}, "k7": {"a": 1}}),
        ('"k7" :', '"k7":', {"k7": {"a": 1}}),
    ],
)
def test_only_what_differs_is_read(was: str, now: str, fresh: dict[str, Any]) -> None:
    assert PLAIN.count(was) == 1
    new = PLAIN.replace(was, now)
    edit = next_version(PLAIN, new)
    assert edit is not None
    assert edit.fresh == fresh
    found = whole(new)
    assert found is not None
    assert edit.members == found[1]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('"k7" : {"a": 1}', '"k8" : {"a": 1}'),  # twice
        ('"k7" : {"a": 1}', '"k7" : {"a": 1, "a": 2}'),
        ('"k7" : {"a": 1}', '"k7" : [[[[[[1]]]]]]'),
        ('"k7" : {"a": 1}', '"k7" : NaN'),
        ('"k7" : {"a": 1}', '"k7" : "\\ud800"'),
        ('"k7" : {"a": 1}', '"k7" : [' + "1," * 400 + "1]"),
        ('"k7" : {"a": 1}', '"k7" : {"a": 1}}, "more": {"b": 1'),
        ('"k7" : {"a": 1}', '"k7" : {"a": 1} "b": 1'),
        ('"k7" : {"a": 1}', '"k7" : "' + "x" * 4096 + '"'),
        ('"k7" : {"a": 1}', '"k7" : "'),  # its text ends at the next key
        ('{"flags"', '{"flagz"'),
        ("}}", "}}}"),
    ],
)
def test_what_is_refused_or_is_not_plain_is_left_to_the_reader_of_all(was: str, now: str) -> None:
    assert PLAIN.count(was) == 1
    assert next_version(PLAIN, PLAIN.replace(was, now)) is None


@pytest.mark.parametrize("indent", [None, 2])
def test_the_last_entry_may_go_and_come(indent: int | None) -> None:
    entries = {f"k{n}": n for n in range(40)}
    long, short = (json.dumps({"flags": e}, indent=indent) for e in (entries, dict(list(entries.items())[:-1])))
    for old, new, fresh in ((long, short, {"k38": 38}), (short, long, {"k38": 38, "k39": 39})):
        edit = next_version(old, new)
        assert edit is not None
        assert edit.fresh == fresh


def test_another_limit_reads_all_again() -> None:
    found = whole(PLAIN)
    assert found is not None
    assert found[1] is not None
    assert edited(found[1], PLAIN.encode(), "f.json", DocumentLimits()) is None
