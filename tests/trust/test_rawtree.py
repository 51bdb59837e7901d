"""Trees that are split, compared and checked only where they differ, against code that looks at every byte of both."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.trust.rawtree import RawTree, _common_beginning, _common_end
from livecfg.trust.tree import MAX_DEPTH, Change, Entry, KeptTrees, SplitObjects, TreeFaultError, check, diff, lookup

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.revision import Kind

Row = tuple[bytes, bytes, bytes]


# --- the plain way ----------------------------------------------------------------------------------------------------


def plainly(raw: bytes, id_bytes: int) -> dict[str, Entry]:
    """Every entry of a tree, one after the other."""
    found: dict[str, Entry] = {}
    at = 0
    while at < len(raw):
        space = raw.find(b" ", at, at + 7)
        nul = raw.find(b"\0", max(space, at))
        end = nul + 1 + id_bytes
        name = raw[space + 1 : nul].decode("utf-8", "surrogateescape")
        if space < 0 or nul < 0 or end > len(raw) or name in found:
            raise TreeFaultError("malformed, or a name twice")
        found[name] = Entry(raw[at:space].decode("latin-1"), raw[nul + 1 : end].hex())
        at = end
    return found


def plain_diff(objects: Trees, old: str | None, new: str | None, prefix: str = "") -> dict[str, Change]:
    """The difference of two trees, both split whole."""
    assert prefix.count("/") < MAX_DEPTH
    before = plainly(objects.read(old), objects.id_bytes) if old and old != new else {}
    after = plainly(objects.read(new), objects.id_bytes) if new and old != new else {}
    changes: dict[str, Change] = {}
    for name in sorted(before.keys() | after.keys()):
        was, now, path = before.get(name), after.get(name), prefix + name
        if was == now:
            continue
        was_tree, now_tree = was if was and was.is_tree else None, now if now and now.is_tree else None
        try:
            below = {}
            if was_tree or now_tree:
                below = plain_diff(objects, was_tree and was_tree.id, now_tree and now_tree.id, path + "/")
        except TreeFaultError:
            changes[path] = (was, now)
            continue
        changes |= below
        if (was and not was_tree) or (now and not now_tree):
            changes[path] = (None if was_tree else was, None if now_tree else now)
    return changes


class Trees:
    """Trees by id; every id that nobody gave a tree is that of the empty one."""

    def __init__(self, id_bytes: int) -> None:
        self.id_bytes = id_bytes
        self.known: dict[str, bytes] = {}

    def read(self, object_id: str, kind: Kind = "tree") -> bytes:
        return self.known.get(object_id, b"") if kind == "tree" else b"x"

    def add(self, raw: bytes) -> str:
        name = (hashlib.sha1(raw, usedforsecurity=False) if self.id_bytes == 20 else hashlib.sha256(raw)).hexdigest()
        self.known[name] = raw
        return name


def outcome(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except TreeFaultError as error:
        return f"refused: {error}"


# --- trees that people make, and trees that attackers make ---------------------------------------------------------------

NAMES = [b"a", b"A", b"a-", b"a.b", b"a0", b"b", b"base.yaml", b"BASE.yaml", b"c", b"config", b"z", b"m" * 30]
ODD = [b"", b".git", b"a b", b"a/", b"100644 b", b"\xff\xfe", b"\xc3\xa4", b"x" * 200]
# ids that look like entries, are all alike, or repeat what stands around them
LOOKS = [b"100644 b\x00", b"40000 a\x00", b" a\x00", b" base.yaml\x00", b"\x00", b" ", b"1", b"ab"]


def filled(piece: bytes, id_bytes: int, shift: int) -> bytes:
    return ((piece * id_bytes)[shift:] + b"\x07" * id_bytes)[:id_bytes]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, bytes, bytes]:
    """Length of ids, an old tree and a new one that is made of it by a few changes of entries, or of bytes."""
    id_bytes = draw(st.sampled_from([20, 32]))
    ids = st.builds(filled, st.sampled_from(LOOKS), st.just(id_bytes), st.integers(0, 8))
    hostile = draw(st.booleans())
    modes = st.sampled_from([b"100644", b"40000"] + ([b"160000", b"120000", b"", b"1"] if hostile else []))
    names = st.sampled_from(NAMES + (ODD if hostile else []))
    row = st.tuples(modes, names, ids)
    rows = draw(st.lists(row, max_size=14, unique_by=lambda r: r[1] if not hostile else r))
    changed = list(rows)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(changed)))
        gone = draw(st.integers(0, 2))
        changed[place : place + gone] = draw(st.lists(row, max_size=2))
    old, new = (written(each, canonical=not (hostile and draw(st.booleans()))) for each in (rows, changed))
    if hostile:
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(new)))
            new = new[:place] + draw(st.sampled_from([*LOOKS, b"", old[:30], new[-25:]])) + new[place + draw(st.integers(0, 3)) :]
    return id_bytes, old, new


def written(rows: list[Row], *, canonical: bool) -> bytes:
    ordered = sorted(rows, key=lambda r: r[1] + (b"/" if r[0] == b"40000" else b"")) if canonical else rows
    return b"".join(mode + b" " + name + b"\0" + below for mode, name, below in ordered)


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_a_tree_that_follows_another_is_what_it_is_by_itself(pair: tuple[int, bytes, bytes]) -> None:
    id_bytes, old, new = pair
    wanted = outcome(lambda: list(plainly(new, id_bytes).items()))
    alone = outcome(lambda: RawTree.split(new, id_bytes))
    if isinstance(wanted, str):
        assert isinstance(alone, str)
        old_tree = outcome(lambda: RawTree.split(old, id_bytes))
        assert isinstance(old_tree, str) or outcome(lambda: old_tree.follow(new)) == alone
        return
    before = outcome(lambda: RawTree.split(old, id_bytes))
    for tree in (alone,) if isinstance(before, str) else (alone, before.follow(new)):
        assert list(tree) == wanted
        assert tree.is_canonical == alone.is_canonical
        assert {name: tree.get(name) for name in dict(wanted)} == dict(wanted)
        texts = [name.decode("utf-8", "surrogateescape") for name in NAMES + ODD]
        assert all(tree.get(name) == dict(wanted).get(name) for name in texts)
        assert not tree.is_canonical or all(tree._scanned(name) == tree._halved(name) for name in NAMES + ODD)
        assert isinstance(before, str) or before.beside(tree) == before.beside(RawTree.split(new, id_bytes))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=3), st.binary(max_size=3), st.integers(0, 60))
def test_what_two_trees_have_in_common_is_what_a_look_at_each_byte_finds(
    start: bytes, end: bytes, old: bytes, new: bytes, times: int
) -> None:
    one, other = start * times + old + end * times, start * times + new + end * times
    pairs = list(zip(one, other, strict=False))
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
    assert _common_beginning(one, other) == same
    for most in (0, len(pairs) - same, len(pairs)):
        back = list(zip(one[::-1], other[::-1], strict=False))[:most]
        assert _common_end(one, other, most) == next((at for at, (a, b) in enumerate(back) if a != b), most)


@settings(max_examples=200, deadline=None)
@given(pairs(), pairs())
def test_the_difference_and_the_hygiene_do_not_depend_on_what_was_seen_before(
    pair: tuple[int, bytes, bytes], inner: tuple[int, bytes, bytes]
) -> None:
    id_bytes, old, new = pair
    objects = Trees(id_bytes)
    for shift, raw in enumerate(inner[1:]):  # what some of the folders hold, which hold no folders of that kind themselves
        objects.known[filled(b"ab", id_bytes, shift).hex()] = raw.replace(b"ab" * 8, b"\1" * 16)
    first, second = objects.add(old), objects.add(new)
    wanted = outcome(lambda: plain_diff(objects, first, second))
    found = outcome(lambda: diff(objects, first, second))
    assert isinstance(found, str) == isinstance(wanted, str)
    kept = SplitObjects(objects, KeptTrees())
    if outcome(lambda: check(kept, first, None)) is None:  # what was good: its trees are checked, and what follows leans on that
        assert outcome(lambda: diff(kept, first, second)) == found
        assert outcome(lambda: check(kept, second, first)) == outcome(lambda: check(objects, second, first))
        assert outcome(lambda: check(kept, second, first)) == outcome(lambda: check(SplitObjects(objects), second, None))
    if not isinstance(wanted, str):
        assert list(found.items()) == list(wanted.items())
        assert list(outcome(lambda: diff(kept, first, second)).items()) == list(wanted.items())
        for path in wanted:
            assert outcome(partial(lookup, kept, second, path)) == outcome(partial(lookup, objects, second, path))


@pytest.mark.parametrize("id_bytes", [20, 32])
def test_what_looks_like_an_entry_inside_an_id_is_none(id_bytes: int) -> None:
    inside = b"100644 base.yaml\0"
    below = inside + b"\x01" * (id_bytes - len(inside))
    raw = b"100644 a\0" + below + b"100644 b\0" + b"\x02" * id_bytes
    tree = RawTree.split(raw, id_bytes)
    assert tree.get("base.yaml") is None
    follower = tree.follow(raw.replace(b"\x02", b"\x03"))
    assert [name for name, _ in follower] == ["a", "b"]


@pytest.mark.parametrize("names", [b"A a", b"a b B", b"A B a b", b"a base.yaml BASE.yaml"])
def test_a_twin_is_seen_wherever_it_stands(names: bytes) -> None:
    objects = Trees(20)
    wanted = sorted(names.split(b" "))
    good = objects.add(b"100644 a\0" + b"\1" * 20 + b"100644 b\0" + b"\1" * 20)
    for old_ids in (b"\1", b"\2"):  # what stays, or all in between is other
        bad = objects.add(b"".join(b"100644 %s\0" % name + old_ids * 20 for name in wanted))
        kept = SplitObjects(objects)
        check(kept, good, None)
        with pytest.raises(TreeFaultError, match="only in upper and lower case"):
            check(kept, bad, good)


def test_a_hostile_tree_of_many_bytes_is_refused_at_once() -> None:
    for raw in (b" " * 4_000_000, b"1 1" * 1_000_000, b"100644 a" * 500_000, b"\0" * 4_000_000):
        with pytest.raises(TreeFaultError):
            RawTree.split(raw, 20)


def test_trees_are_kept_within_bounds() -> None:
    kept = KeptTrees()
    for n in range(3000):
        kept.keep(str(n), RawTree.split(b"100644 a\0" + b"%020d" % n + b"40000 b\0" + b"%020d" % n, 20))
    assert kept.get("2999") is not None
    wide = RawTree.split(b"".join(b"100644 n%07d\0" % n + b"%020d" % n for n in range(60_000)), 20)
    for n in range(4):
        kept.keep(f"wide{n}", wide)
    assert kept.get("2999") is None
    assert kept.get("wide0") is None
    assert kept.get("wide3") is wide
