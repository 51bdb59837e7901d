"""Checkpoints: the root people say that a commit, with everything below it, may be where a new client begins.

It saves a new client the old history, and nothing else: whoever has a last good commit never looks at one. It counts only with
the threshold of the root that the application *pins*, by the pinned keys, whatever the repository says of itself.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.statement import read_statement
from livecfg.trust.tree import TreeFaultError, diff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livecfg.revision import Objects
    from livecfg.trust.root import TrustedRoot

NAMESPACE = "livecfg-checkpoint@v1"
REF = "refs/livecfg/checkpoint"
_Count = Annotated[int, Field(ge=0, lt=1 << 40)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Checkpoint(BaseModel, frozen=True, extra="forbid", strict=True):
    """What one checkpoint says; `manifest` is `manifest_of` the commit's tree, `time` the T of the walk, in Unix seconds."""

    repo_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    ref: Annotated[str, Field(pattern=r"^refs/heads/[^\x00-\x20]{1,200}$")]
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    payload_sha256: _Sha256
    manifest: _Sha256
    position: _Count
    time: _Count
    expires: _Count


def read_checkpoint(data: bytes, root: TrustedRoot, ref: str, now: float) -> Checkpoint:
    """Read a checkpoint of one ref for a client with this pinned root.

    Raises:
        RefusedError: it is malformed, expired, of another repository or ref, or too few of the pinned people signed it.

    """
    content, people = read_statement(data, NAMESPACE, root.signers, now)
    try:
        found = Checkpoint.model_validate(content)
    except ValidationError:
        raise _refused("it does not have the fields of one") from None
    if (found.repo_id, found.ref) != (root.repo_id, ref):
        raise _refused("it is of another repository or ref", Code.WRONG_REPOSITORY)
    if len(people) < root.threshold:
        missing = ", ".join(sorted(root.people - people))
        raise _refused(f"{len(people)} of the pinned root people signed it and {root.threshold} must", Code.THRESHOLD, missing)
    if now > found.expires:
        raise _refused(f"it expired {now - found.expires:.0f} s ago")
    if root.object_format and (root.object_format == "sha256") != (len(found.commit) == 64):
        raise _refused(f"its commit is not of a {root.object_format} repository", Code.WRONG_REPOSITORY)
    return found


def beginning(
    root: TrustedRoot, found: Iterable[bytes], ref: str, now: float, complain: Callable[[str], object] = str
) -> TrustedRoot:
    """Give the pinned root with its walk beginning at the newest checkpoint that counts; as it is where none does.

    Why one does not count goes to `complain`. An anchor that the application pins is never given up for an older one.
    """
    for data in found:
        try:
            checkpoint = read_checkpoint(data, root, ref, now)
        except RefusedError as error:
            complain(str(error))
            continue
        if not root.anchor_commit or root.anchor_position < checkpoint.position:
            root = replace(
                root,
                anchor_commit=checkpoint.commit,
                anchor_payload_sha256=checkpoint.payload_sha256,
                anchor_position=checkpoint.position,
                anchor_time=checkpoint.time,
                anchor_manifest=checkpoint.manifest,
            )
    return root


def manifest_of(objects: Objects, tree: str) -> str:
    """Give the SHA-256 over mode, path and SHA-256 of every file of a tree: its content, whatever hash the repository uses.

    Raises:
        RefusedError: the tree is malformed.
        FetchError: an object is missing.

    """
    whole = hashlib.sha256()
    try:
        for path, (_, entry) in sorted(diff(objects, None, tree, most=sys.maxsize).items()):
            assert entry is not None  # noqa: S101 - compared with nothing, everything is there
            content = hashlib.sha256(objects.read(entry.id, "blob")).hexdigest()
            whole.update(f"{entry.mode} {content} {path}\n".encode())
    except TreeFaultError as error:
        raise _refused(f"its tree cannot be read: {error}") from None
    return whole.hexdigest()


def _refused(why: str, code: Code = Code.BAD_SIGNATURE, missing: str = "") -> RefusedError:
    advice = f"`livecfg checkpoint` by {missing}" if missing else "the root people sign a new one: `livecfg checkpoint`"
    return RefusedError(Refusal(code, f"a checkpoint that does not count: {why}", advice=advice))


__all__ = ["NAMESPACE", "REF", "Checkpoint", "beginning", "manifest_of", "read_checkpoint"]
