"""Questions about the chain of a ref: is this commit in it, and who last changed a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from livecfg.errors import MissingObjectError, RefusedError
from livecfg.trust.commits import parse_commit
from livecfg.trust.identify import Signed, identify
from livecfg.trust.policy import load_policy
from livecfg.trust.tree import lookup

if TYPE_CHECKING:
    from livecfg.origin import Origin
    from livecfg.revision import Commit, Objects

MAX_STEPS = 100_000


def is_ancestor(objects: Objects, commit: str, tip: str) -> bool:
    """Tell whether `commit` (an id or at least 7 digits of one) is `tip` or stands on its first-parent chain."""
    if len(commit) < 7:
        return False
    object_id = tip
    for _ in range(MAX_STEPS):
        if object_id.startswith(commit):
            return True
        try:
            parents = parse_commit(object_id, objects.read(object_id, "commit")).parents
        except MissingObjectError:
            return False
        if not parents:
            return False
        object_id = parents[0]
    return False


def last_change(objects: Objects, tip: str, origin: Origin) -> Origin:
    """Complete an Origin with the newest commit of the chain that changed its file, and who signed that."""
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
        signers=_signers(objects, commit),
        committed_at=commit.committer_time,
    )


def _signers(objects: Objects, commit: Commit) -> tuple[str, ...]:
    try:
        signed = identify(commit, load_policy(objects, commit.tree).signers)
    except RefusedError:  # a commit that was skipped then, and whose change somebody adopted later
        return ()
    return (signed.person,) if isinstance(signed, Signed) else ()
