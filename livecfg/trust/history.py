"""Questions about the chain of a ref: is this commit in it, and who last changed a file."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from livecfg.errors import FetchError, MissingObjectError, RefusedError
from livecfg.revision import Candidate
from livecfg.trust.commits import parse_commit
from livecfg.trust.tree import lookup
from livecfg.trust.verify import judgements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.origin import Origin
    from livecfg.revision import Objects
    from livecfg.trust.verify import Trusted

MAX_STEPS = 100_000
_REMEMBERED = 16


class Ancestry:
    """Tells whether a commit is in the chain of a tip, again and again: where it was not found is not walked twice."""

    def __init__(self) -> None:
        self._lacking: dict[str, str] = {}

    def holds(self, objects: Objects, commit: str, tip: str) -> bool:
        """Tell whether `commit` (an id or at least 7 digits of one) is `tip` or stands on its first-parent chain."""
        if len(commit) < 7:
            return False
        lacking = self._lacking.get(commit)
        try:
            for object_id in first_parents(objects, tip):
                if object_id == lacking:
                    break
                if object_id.startswith(commit):
                    return True
        except MissingObjectError:  # a shallow mirror: what is below may come
            return False
        if len(self._lacking) >= _REMEMBERED:
            self._lacking.clear()
        self._lacking[commit] = tip
        return False

    def named(self, objects: Objects, name: str, tip: str) -> tuple[str, ...]:
        """Give the commits of a tip's chain whose id begins with `name` (at least 7 digits), as far as the chain is here."""
        if not self.holds(objects, name, tip):
            return ()
        if len(name) == len(tip):
            return (name,)
        found = []
        with suppress(MissingObjectError):
            for object_id in first_parents(objects, tip):
                if object_id.startswith(name):
                    found.append(object_id)  # noqa: PERF401 - what was found above the end of a shallow mirror counts
        return tuple(found)


def first_parents(objects: Objects, tip: str) -> Iterator[str]:
    """Give the ids of a tip and of its first parents.

    Raises:
        MissingObjectError: the mirror is shallow.

    """
    object_id = tip
    for _ in range(MAX_STEPS):
        yield object_id
        parents = parse_commit(object_id, objects.read(object_id, "commit")).parents
        if not parents:
            return
        object_id = parents[0]


def last_change(objects: Objects, tip: str, origin: Origin, start: Trusted | None = None) -> Origin:
    """Complete an Origin with the newest commit of the chain that changed its file, and who stands behind that change.

    `signers` are those whom policy counted when the change became good: it takes the walk from `start`, some 0.5 ms a commit.
    They are empty without `start`, where the change is older than it, and where policy has not allowed the change.
    """
    commit = parse_commit(tip, objects.read(tip, "commit"))
    entry = lookup(objects, commit.tree, origin.path)
    for _ in range(MAX_STEPS):
        if not commit.parents:
            break
        try:
            parent = parse_commit(commit.parents[0], objects.read(commit.parents[0], "commit"))
            if lookup(objects, parent.tree, origin.path) != entry:
                break
        except MissingObjectError:  # a shallow mirror: the oldest commit at hand is the best answer
            break
        commit = parent
    return replace(
        origin,
        commit=commit.id,
        subject=commit.subject,
        author=commit.author,
        signers=_landed_by(objects, tip, origin.path, start) if start is not None else (),
        committed_at=commit.committer_time,
    )


def _landed_by(objects: Objects, tip: str, path: str, start: Trusted) -> tuple[str, ...]:
    """Who stood behind the last authorised change of a path, by the policy that judged it."""
    people: tuple[str, ...] = ()
    tree = ""
    try:
        for judged in judgements(Candidate(start.ref, tip, objects), start, math.inf):
            findings = [finding for finding in judged.verdict.findings if finding.path == path]
            tree = judged.commit.tree if judged.authorised else tree
            if judged.authorised and findings:
                people = tuple(sorted({person for finding in findings for person in finding.behind}))
    except (RefusedError, FetchError):  # a chain that does not begin where trust does, or a shallow mirror
        return ()
    now = parse_commit(tip, objects.read(tip, "commit")).tree
    return people if tree and lookup(objects, tree, path) == lookup(objects, now, path) else ()
