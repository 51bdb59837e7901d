"""Suspension: while `suspend/<service>.yaml` or `suspend/<service>/<env>.yaml` is there, a service takes nothing new over.

A signed file like any other: who may suspend what is a path rule. A revision waits whole while its difference to what is in use
touches what this process loads; what goes through closed windows goes through here as well: a change that a `fast` rule covers
(a kill), and paths that a rollback gives back. Taking the file away, or its own `until`, ends it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, Field

from livecfg.document import read
from livecfg.errors import MissingObjectError
from livecfg.layers import Manifest
from livecfg.refusal import Code, printable
from livecfg.trust.commits import parse_commit, read_commit
from livecfg.trust.tree import lookup
from livecfg.trust.windows import MAX_STEPS, Waiting, slow_paths
from livecfg.validation import validate

if TYPE_CHECKING:
    from livecfg.layers import Process
    from livecfg.revision import Objects

FOLDER = "suspend"
_MANIFEST = "livecfg.yaml"


class Suspension(BaseModel, frozen=True, extra="forbid"):
    """One file: why, and until when; without an end it lasts until the file is taken away."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    until: AwareDatetime | None = None

    @property
    def ends(self) -> float:
        """Unix seconds."""
        return self.until.timestamp() if self.until is not None else math.inf


def path_of(service: str, env: str = "") -> str:
    """Give the path of the file that suspends a service, in one environment or in all of them."""
    return f"{FOLDER}/{service}/{env}.yaml" if env else f"{FOLDER}/{service}.yaml"


def suspended(objects: Objects, tree: str, process: Process, now: float) -> Suspension | None:
    """Give the suspension of a process in a tree that lasts longest; None when it is not suspended at `now`.

    Raises:
        RefusedError: a file is malformed.
        FetchError: an object is missing.

    """
    found = []
    for path in (path_of(process.service), path_of(process.service, process.env)):
        entry = lookup(objects, tree, path)
        if entry is not None and not entry.is_tree:
            found.append(validate(Suspension, read(objects.read(entry.id, "blob"), path), Code.SUSPENSION))
    lasting = [one for one in found if now < one.ends]
    return max(lasting, key=lambda one: one.ends, default=None)


def suspends(objects: Objects, in_use: str, commit: str, process: Process, now: float) -> Waiting | None:
    """Say what the revision `commit` waits for by its own suspension, when `in_use` is what runs.

    Raises:
        RefusedError: a file of suspension, the policy or the manifest is malformed.
        FetchError: an object is missing.

    """
    tree = read_commit(objects, commit).tree
    suspension = suspended(objects, tree, process, now)
    if suspension is None:
        return None
    templates = _templates(objects, tree)
    touched = tuple(path for path in slow_paths(objects, in_use, commit) if _loads(process, templates, path))
    if not touched:
        return None
    why = f"since {process.service}/{process.env} is suspended: {printable(suspension.reason)}"
    return Waiting(commit, why, suspension.ends, touched)


def where_it_began(objects: Objects, commit: str, process: Process, now: float) -> str:
    """Give the commit of the chain that suspended the process, where it still is suspended at `commit`; else `commit` itself.

    Raises:
        RefusedError, FetchError: as above.

    """
    began = commit
    for _ in range(MAX_STEPS):
        try:
            here = parse_commit(commit, objects.read(commit, "commit"))
        except (
            MissingObjectError
        ):  # a history that was fetched from a checkpoint on: the oldest commit at hand is the best answer
            break
        if suspended(objects, here.tree, process, now) is None:
            break
        began = commit
        if not here.parents:
            break
        commit = here.parents[0]
    return began


def _templates(objects: Objects, tree: str) -> list[str]:
    entry = lookup(objects, tree, _MANIFEST)
    if entry is None:
        return []
    manifest = validate(Manifest, read(objects.read(entry.id, "blob"), _MANIFEST), Code.MANIFEST)
    return [
        *manifest.layers,
        *manifest.flags,
        *manifest.splits,
        *manifest.experiments,
        *manifest.segments,
        *manifest.files.values(),
    ]


def _loads(process: Process, templates: list[str], path: str) -> bool:
    """Whether one of the manifest's templates names a path for this process."""
    for template in templates:
        wanted = process.expand(template)
        if wanted is not None and (path == wanted or ("*" in wanted and path.startswith(wanted.rpartition("/")[0] + "/"))):
            return True
    return False
