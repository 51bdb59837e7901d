"""What applications would say of a commit that nothing names yet: the same `verify`, over the clone's whole history."""

from __future__ import annotations

import base64
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.cli.output import CommandError, Exit, fail, talk
from livecfg.errors import MissingObjectError, RefusedError
from livecfg.refusal import Code, Refusal, printable
from livecfg.revision import Candidate
from livecfg.trust.policy import load_policy
from livecfg.trust.root import TrustedRoot
from livecfg.trust.tree import TreeFaultError, diff
from livecfg.trust.verify import Trusted, verify

if TYPE_CHECKING:
    from livecfg.cli.clone import Clone
    from livecfg.cli.draft import Made
    from livecfg.trust.verify import Verification

_WAITS = frozenset({Code.THRESHOLD, Code.ROOT_REQUIRED, Code.PENDING})
"""Codes of a commit that is well made and needs more people: it may be committed, and waits."""


def judge(clone: Clone, made: Made, ref: str) -> tuple[Refusal, ...]:
    """Give what the commit waits for: nothing when policy allows it as it is.

    Raises:
        CommandError: applications would skip it, whoever else agrees; with every refusal.

    """
    walk = _walk(clone, made, ref)
    mine = [r for r in walk.skipped if r.commit == made.id]
    if any(r.code not in _WAITS for r in mine):
        raise CommandError("applications would skip this commit, so it was not made", Exit.REFUSED, mine)
    return tuple(mine)


def judge_adoption(clone: Clone, made: Made, ref: str, adopted: str) -> tuple[Refusal, ...]:
    """Give what the branch still waits for after a commit that adopts another one.

    Raises:
        CommandError: the adoption changes nothing, since its signer does not count for what it adopts.

    """
    walk = _walk(clone, made, ref)
    mine = [r for r in walk.skipped if r.commit == made.id]
    parent = clone.commit(made.id, made).parents[0]
    before = {_ground(r) for r in walk.skipped if r.commit == parent}
    paths = _changed(clone, adopted)
    denied = any(r.code not in _WAITS and (r.path in paths or not r.path) for r in mine)
    if adopted in {r.commit for r in walk.skipped} and mine and (denied or {_ground(r) for r in mine} >= before):
        raise CommandError(f"your adoption of {adopted[:10]} would not count, so it was not made", Exit.REFUSED, mine)
    return tuple(mine)


def _ground(refusal: Refusal) -> tuple[object, ...]:
    """What is missing for a path, whichever commit says so: the rule, and in the advice how many more of whom."""
    return refusal.path, refusal.rule, refusal.advice.replace(refusal.commit[:10], "")


def _changed(clone: Clone, commit_id: str) -> frozenset[str]:
    commit = clone.commit(commit_id)
    try:
        return frozenset(diff(clone, clone.commit(commit.parents[0]).tree if commit.parents else None, commit.tree))
    except TreeFaultError:
        return frozenset()


def tell_waiting(refusals: tuple[Refusal, ...]) -> None:
    """Say on stderr who else is needed."""
    for refusal in refusals:
        talk(f"waits: {refusal.path}  {refusal.code.value}  {printable(refusal.message)} ({printable(refusal.advice)})")


def _walk(clone: Clone, made: Made, ref: str) -> Verification:
    root = root_of(clone, made)
    candidate = Candidate(ref.removeprefix("refs/heads/"), made.id, made)
    try:
        return verify(candidate, Trusted.start(root, candidate.ref), time.time())
    except RefusedError as error:
        raise CommandError("applications would refuse this branch", Exit.REFUSED, error.refusals) from None


# --- the trusted root of a clone ------------------------------------------------------------------------------------------


def root_of(clone: Clone, made: Made) -> TrustedRoot:
    """Give the root to judge a new commit by.

    It is the file `init` wrote, when that is at hand and of this repository; else what the first commit of the branch says of
    itself; else (a shallow clone) what the policy of HEAD says.
    """
    try:
        first = made.id
        while parents := clone.commit(first, made).parents:
            first = parents[0]
        tree = clone.commit(first, made).tree
        policy = load_policy(made, tree)
    except (MissingObjectError, RefusedError):
        parent = clone.head()
        return TrustedRoot.parse(root_text(clone, parent, anchor=True).encode(), "HEAD's policy")
    path = root_path(clone)
    if path.exists():
        root = TrustedRoot.parse(path.read_bytes(), str(path))
        if root.repo_id == policy.file.repo_id:
            return root
    return TrustedRoot.parse(_text(made, tree).encode(), "the first commit's policy")


def root_path(clone: Clone, given: Path | None = None) -> Path:
    """Where the trusted root file of a clone is: as given, as `init` noted in Git's configuration, or beside the clone."""
    noted = clone.config(("livecfg",), "trustedroot")
    return given or (Path(noted).expanduser() if noted else clone.root.parent / "trusted_root.yaml")


def read_root(clone: Clone, given: Path | None) -> TrustedRoot:
    """Read the trusted root file of a clone; ends the command where there is none."""
    path = root_path(clone, given)
    try:
        return TrustedRoot.parse(path.read_bytes(), str(path))
    except OSError as error:
        fail(f"cannot read the trusted root {path}: {error.strerror}; give --trusted-root, the file `livecfg init` wrote")


def root_text(clone: Clone, commit_id: str, *, anchor: bool) -> str:
    """Write the trusted root file of a commit's policy; with an anchor, its history up to there is trusted as it is."""
    commit = clone.commit(commit_id)
    text = _text(clone, commit.tree)
    if anchor:
        kind = "sha1" if len(commit_id) == 40 else "sha256"
        text += f'anchor:\n  commit: "{kind}:{commit_id}"\n  payload_sha256: "{commit.payload_sha256}"\n'
    return text


def _text(objects: Clone | Made, tree: str) -> str:
    policy = load_policy(objects, tree)
    people: dict[str, list[str]] = {person: [] for person in policy.file.root.people}
    for signer in policy.signers.values():
        if signer.person in people:
            (size,) = struct.unpack(">I", signer.key[:4])
            people[signer.person].append(f"{signer.key[4 : 4 + size].decode()} {base64.b64encode(signer.key).decode()}")
    rows = "".join(f"  {person}: [{', '.join(lines)}]\n" for person, lines in people.items())
    root = policy.file.root
    return f'version: 1\nrepo_id: "{policy.file.repo_id}"\nthreshold: {root.threshold}\npeople:\n{rows}'
