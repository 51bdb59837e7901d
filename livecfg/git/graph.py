"""Walks over raw objects: what a commit or tree names, whether everything it names is there, and which commits are new.

Nothing here judges what a tree may contain (trust/tree.py does); entries are read leniently and only for their ids.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from livecfg.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from livecfg.git.pack import Content
    from livecfg.revision import Objects

_LINK = re.compile(rb"(?:tree|parent) ([0-9a-f]{64}|[0-9a-f]{40})\n")
_TIME = re.compile(rb"^committer .*> (-?\d{1,15}) [-+]\d+$", re.MULTILINE)
# What is no entry takes all that is left: one failure, and no second try at each byte further on.
_ENTRY = {n: re.compile(rb"([0-7]{1,6}) ([^\0]++)\0(.{%d})|.+" % n, re.DOTALL) for n in (20, 32)}
MAX_COMPARED = 2
_REMEMBERED_BYTES = 64 * 1024
GITLINK, FOLDER = b"160000", b"40000"


def links_of_commit(content: bytes) -> tuple[str, ...]:
    """The tree and the parents a commit names, the tree first."""
    found, position = [], 0
    while match := _LINK.match(content, position):
        found.append(match[1].decode())
        position = match.end()
    if not found:
        raise FetchError("a commit names no tree")
    return tuple(found)


def time_of_commit(content: bytes) -> int:
    """The committer's time; 0 when it cannot be read."""
    match = _TIME.search(content, 0, content.find(b"\n\n") + 1 or len(content))
    return int(match[1]) if match else 0


def _split(content: bytes, id_length: int) -> list[tuple[bytes, bytes, bytes]]:
    """(mode, name, raw id) of each entry."""
    found: list[tuple[bytes, bytes, bytes]] = _ENTRY[id_length // 2].findall(content)
    if found and not found[-1][0]:
        raise FetchError("a tree object is malformed")
    return found


def entries_of_tree(content: bytes, id_length: int = 40) -> list[tuple[bytes, bytes, str]]:
    """(mode, name, id) of each entry.

    Raises:
        FetchError: the bytes are no tree.

    """
    return [(mode, name, below.hex()) for mode, name, below in _split(content, id_length)]


def _differing(new: bytes, old: bytes, id_length: int) -> tuple[bytes, bytes]:
    """Both trees without the whole entries that they begin and end with alike."""
    same = _common(lambda n: new[:n] == old[:n], min(len(new), len(old)))
    # Of the bytes both begin with, those that make whole entries; a cut-off entry has no mode.
    whole = _ENTRY[id_length // 2].findall(new[:same])
    start = sum(len(mode) + len(name) + 2 + id_length // 2 for mode, name, _ in whole if mode)
    new, old = new[start:], old[start:]
    tail = _common(lambda n: not n or new[-n:] == old[-n:], min(len(new), len(old)))
    new_end, old_end = _boundary(new, len(new) - tail, id_length), _boundary(old, len(old) - tail, id_length)
    while len(new) - new_end != len(old) - old_end:  # inside an entry of one of them: go on to a common boundary
        if len(new) - new_end > len(old) - old_end:
            new_end = _boundary(new, new_end + 1, id_length)
        else:
            old_end = _boundary(old, old_end + 1, id_length)
    return new[:new_end], old[:old_end]


def _common(alike: Callable[[int], bool], most: int) -> int:
    """The biggest number up to `most` for which `alike` holds, by halving; comparing slices is one call into C."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if alike(middle) else (low, middle - 1)
    return low


def _boundary(content: bytes, least: int, id_length: int) -> int:
    """The first end of an entry at or after `least`."""
    pattern, at = _ENTRY[id_length // 2], 0
    while at < least:
        match = pattern.match(content, at)
        if match is None or match[1] is None:
            raise FetchError("a tree object is malformed")
        at = match.end()
    return at


def changed_entries(new: bytes, old: bytes, id_length: int) -> list[tuple[bytes, str, str]]:
    """(mode, id, id of the folder it replaces or "") of each entry of tree `new` that tree `old` does not have like that.

    What both begin and end with is cut off first: a change in a folder of thousands should not cost a pass over all of them.

    Raises:
        FetchError: one of them is no tree.

    """
    small = len(new) + len(old) <= _REMEMBERED_BYTES  # a hub asks three times in a row: it copies, checks and packs
    return list((_changed_again if small else _changed)(new, old, id_length))


def _changed(new: bytes, old: bytes, id_length: int) -> tuple[tuple[bytes, str, str], ...]:
    new, old = _differing(new, old, id_length)
    new_entries, old_entries = set(_split(new, id_length)), set(_split(old, id_length))
    replaced = {name: below for mode, name, below in old_entries - new_entries if mode == FOLDER}
    return tuple(
        (mode, below.hex(), replaced[name].hex() if mode == FOLDER and name in replaced else "")
        for mode, name, below in sorted(new_entries - old_entries)
    )


_changed_again = lru_cache(maxsize=16)(_changed)


def ids_of_tree(content: bytes, id_length: int = 40) -> tuple[str, ...]:
    """The ids a tree names, without submodules, whose commits live elsewhere."""
    return tuple(name for mode, _, name in entries_of_tree(content, id_length) if mode != GITLINK)


def links(kind: str, content: bytes, id_length: int) -> tuple[str, ...]:
    """Everything an object names and cannot be complete without."""
    if kind == "commit":
        return links_of_commit(content)
    return ids_of_tree(content, id_length) if kind == "tree" else ()


def bottom_up(objects: Mapping[str, Content]) -> list[str]:
    """The names in an order in which every object comes after all it names.

    Written in this order, an object that is there is there with everything below it, whenever the writer dies.
    """
    done: list[str] = []
    entered: set[str] = set()
    for start in objects:
        work = [(start, False)]
        while work:
            name, leave = work.pop()
            if leave:
                done.append(name)
            elif name in objects and name not in entered:
                entered.add(name)
                work.append((name, True))
                work.extend((below, False) for below in links(*objects[name], len(name)))
    return done


def check_closed(objects: Mapping[str, Content], tip: str, has: Callable[[str], bool], read: Callable[[str], Content]) -> None:
    """Check that `tip` and all it names are among the new objects or already kept (where they are complete).

    A remote that leaves objects out would otherwise leave a mirror that claims to have them. A new tree is compared with the
    one it replaces, read by `read`, so the cost follows the change and not the width of the folders.

    Raises:
        FetchError: something is missing.

    """
    known: set[tuple[str, str, str]] = set()  # with what it replaces: a tree checked only against another may owe the rest
    compared: Counter[str] = Counter()
    work: list[tuple[str, str, str]] = [(tip, "commit", "")]
    while work:
        name, expected, before = work.pop()
        compared[name] += bool(before)
        if compared[name] > MAX_COMPARED:  # checked whole, once: a row of trees could else be compared each with each
            before = ""
        if (name, expected, before) in known:
            continue
        known.add((name, expected, before))
        new = objects.get(name)
        if new is None:
            if not has(name):
                raise FetchError(f"the remote left out {expected} {name}")
            continue
        kind, content = new
        if expected != kind:
            if expected == "blob":
                continue  # Git takes such a push; whoever reads it refuses it, and taking it back heals
            raise FetchError(f"the remote names {kind} {name} where a {expected} belongs")
        if kind == "commit":
            tree, *parents = links_of_commit(content)
            work.append((tree, "tree", _tree_of(parents[0], objects, has, read) if parents else ""))
            work.extend((parent, "commit", "") for parent in parents)
        elif kind == "tree":
            old = objects.get(before) or (read(before) if before else ("tree", b""))
            for mode, below, replaced in changed_entries(content, old[1] if old[0] == "tree" else b"", len(name)):
                wanted = "tree" if mode == FOLDER else "blob"
                if mode != GITLINK and (below, wanted, replaced) not in known:
                    work.append((below, wanted, replaced))


def _tree_of(commit: str, objects: Mapping[str, Content], has: Callable[[str], bool], read: Callable[[str], Content]) -> str:
    """The tree of a commit that is new or kept; empty when it is neither, which the walk will find out."""
    found = objects.get(commit) or (read(commit) if has(commit) else None)
    return links_of_commit(found[1])[0] if found is not None and found[0] == "commit" else ""


def new_commits(objects: Objects, have: str, tip: str, most: int) -> list[tuple[str, bytes]]:
    """Commits that `tip` reaches and `have` (may be empty) does not, parents before children.

    Walks by time as git does, so the cost follows what is new; with clocks that lie a commit too many may be named, never
    one too few.

    Raises:
        FetchError: there are more than `most`, or an object is missing.

    """
    seen: dict[str, bytes] = {}
    old: set[str] = {have} if have else set()
    queue: list[tuple[int, str]] = []
    waiting: set[str] = set()
    order: list[str] = []

    def push(name: str) -> None:
        if name not in seen:
            seen[name] = objects.read(name, "commit")
            heapq.heappush(queue, (-time_of_commit(seen[name]), name))
            waiting.add(name)

    push(tip)
    if have:
        push(have)
    while waiting - old:
        _, name = heapq.heappop(queue)
        waiting.discard(name)
        parents = links_of_commit(seen[name])[1:]
        if name in old:
            old.update(parents)
        else:
            order.append(name)
        for parent in parents:
            push(parent)
        if len(order) > most:
            raise FetchError(f"there are over {most} commits between {have[:10] or 'the beginning'} and {tip[:10]}")
    found = {name for name in order if name not in old}
    return [(name, seen[name]) for name in _parents_first(tip, found, seen)]


def _parents_first(tip: str, found: set[str], contents: dict[str, bytes]) -> list[str]:
    """The found commits in an order in which every commit comes after its parents."""
    done: list[str] = []
    state: set[str] = set()
    work = [(tip, False)]
    while work:
        name, leave = work.pop()
        if leave:
            done.append(name)
        elif name in found and name not in state:
            state.add(name)
            work.append((name, True))
            work.extend((parent, False) for parent in links_of_commit(contents[name])[1:])
    return done
