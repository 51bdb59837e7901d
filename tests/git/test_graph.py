from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError
from livecfg.git import graph
from livecfg.git.graph import changed_entries, entries_of_tree, links_of_commit, time_of_commit
from livecfg.git.pack import object_id

if TYPE_CHECKING:
    from livecfg.git.pack import Content
    from livecfg.revision import Kind


def tree(entries: dict[bytes, tuple[bytes, bytes]]) -> bytes:
    ordered = sorted(entries.items(), key=lambda e: e[0] + (b"/" if e[1][0] == b"40000" else b""))
    return b"".join(mode + b" " + name + b"\0" + below for name, (mode, below) in ordered)


@pytest.mark.parametrize("id_length", [40, 64])
def test_the_quick_difference_of_trees_is_the_difference_of_their_entries(id_length: int) -> None:
    rng = random.Random(9)
    # ids from few bytes, so that equal runs, digits, blanks and NULs occur inside them
    alphabet = [b"\0", b"1", b" ", b"0", b"a", b"\xff"]

    def some_id() -> bytes:
        return b"".join(rng.choices(alphabet, k=id_length // 2))

    for _ in range(3000):
        entries = {b"n%d" % n: (rng.choice([b"100644", b"40000"]), some_id()) for n in rng.sample(range(30), rng.randrange(12))}
        changed = dict(entries)
        for name in rng.sample(sorted(changed), min(len(changed), rng.randrange(3))):
            if rng.random() < 0.4:
                del changed[name]
            else:
                changed[name] = (rng.choice([b"100644", b"40000", changed[name][0]]), some_id())
        if rng.random() < 0.5:
            changed[b"n%d" % rng.randrange(30)] = (b"100644", some_id())
        new, old = tree(changed), tree(entries)
        before = {name: (mode, below) for mode, name, below in entries_of_tree(old, id_length)}
        wanted = sorted(
            (mode, below, before[name][1] if mode == b"40000" and before.get(name, (b"",))[0] == b"40000" else "")
            for mode, name, below in entries_of_tree(new, id_length)
            if before.get(name) != (mode, below)
        )
        assert sorted(changed_entries(new, old, id_length)) == wanted


@pytest.mark.parametrize("content", [b"x", b"100644 a\0short", b"100644 a\0" + b"i" * 20 + b"tail", b"100644a\0" + b"i" * 20])
def test_bytes_that_are_no_tree_are_a_fetch_error(content: bytes) -> None:
    with pytest.raises(FetchError):
        entries_of_tree(content)
    with pytest.raises(FetchError):
        changed_entries(content, b"", 40)


def test_attack_23_a_row_of_trees_is_not_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    objects: dict[str, Content] = {}

    def add(kind: Kind, content: bytes) -> str:
        name = object_id(kind, content)
        objects[name] = (kind, content)
        return name

    blob = bytes.fromhex(add("blob", b"a"))
    trees = [add("tree", b"".join(b"100644 %d-%d\0" % (t, n) + blob for n in range(9))) for t in range(8)]
    tip = ""
    for one in trees:
        for other in trees:
            for each in (one, other):
                who = f"a <a> {len(objects)} +0000"
                parent = f"parent {tip}\n" if tip else ""
                tip = add("commit", f"tree {each}\n{parent}author {who}\ncommitter {who}\n\nx\n".encode())
    calls: list[bytes] = []

    def counted(new: bytes, old: bytes, id_length: int) -> list[tuple[bytes, str, str]]:
        calls.append(new)
        return changed_entries(new, old, id_length)

    monkeypatch.setattr(graph, "changed_entries", counted)
    graph.check_closed(objects, tip, lambda _: False, objects.__getitem__)
    assert len(calls) <= 3 * len(trees)
    del objects[blob.hex()]
    with pytest.raises(FetchError, match="left out blob"):
        graph.check_closed(objects, tip, lambda _: False, objects.__getitem__)


def test_links_and_time_are_read_from_the_headers_only() -> None:
    commit = (
        b"tree "
        + b"a" * 40
        + b"\nparent "
        + b"b" * 40
        + b"\nauthor x <y> 1 +0000\ncommitter x <y> 5 +0000\n\nparent "
        + b"c" * 40
    )
    assert links_of_commit(commit) == ("a" * 40, "b" * 40)
    assert time_of_commit(commit + b"\ncommitter x <y> 9 +0000\n") == 5
    with pytest.raises(FetchError):
        links_of_commit(b"author x")


@pytest.mark.parametrize(
    "raw", [b"1 " * 100_000, b"100644 a" * 25_000, b"1 a\0" + b"1 " * 100_000], ids=["blanks", "names", "cut off"]
)
def test_attack_23_a_tree_without_a_single_entry_is_refused_at_once(raw: bytes) -> None:
    began = time.process_time()
    with pytest.raises(FetchError, match="malformed"):
        entries_of_tree(raw)
    with pytest.raises(FetchError, match="malformed"):
        changed_entries(raw, tree({b"a": (b"100644", bytes(20))}), 40)
    assert time.process_time() - began < 2, "it was tried again at each byte: minutes, in which no other thread runs"
