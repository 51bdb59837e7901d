"""What applications say of a clone's commits, and would say of one that nothing names yet: their own walk, over its history."""

from __future__ import annotations

import base64
import struct
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livecfg.cli.output import CommandError, Exit, fail, talk
from livecfg.errors import MissingObjectError, RefusedError
from livecfg.refusal import Code, Refusal, printable
from livecfg.revision import Candidate
from livecfg.trust.policy import load_policy
from livecfg.trust.root import Trusted, TrustedRoot
from livecfg.trust.tree import TreeFaultError, diff
from livecfg.trust.verify import full_ref, judgements

if TYPE_CHECKING:
    from livecfg.cli.clone import Clone
    from livecfg.cli.draft import Made
    from livecfg.revision import Commit, Objects
    from livecfg.trust.policy import Policy
    from livecfg.trust.verify import Judged

_WAITS = frozenset({Code.THRESHOLD, Code.ROOT_REQUIRED, Code.PENDING})
"""Codes of a commit that is well made and needs more people: it may be committed, and waits."""


def judge(clone: Clone, made: Made, branch: str) -> tuple[Refusal, ...]:
    """Give what the commit waits for: nothing when policy allows it as it is.

    On another branch than the one applications follow, a commit is a proposal: what it lacks there is what it waits for.

    Raises:
        CommandError: applications would skip it, whoever else agrees; with every refusal.

    """
    check_way_round(clone, _below(clone, made), branch)
    chain = _walk(clone, made)
    if not only_waits(made, chain, proposal=branch != followed(clone)):
        raise CommandError("applications would skip this commit, so it was not made", Exit.REFUSED, chain[-1].refusals)
    return chain[-1].refusals


def only_waits(objects: Objects, chain: list[Judged], *, proposal: bool = False) -> bool:
    """Whether the last commit of a judged chain is authorised, or lacks nothing but more people."""
    policy = next((load_policy(objects, judged.commit.tree) for judged in reversed(chain) if judged.authorised), None)
    return all(_waits(r, chain[-1], policy, proposal=proposal) for r in chain[-1].refusals)


def _waits(refusal: Refusal, mine: Judged, policy: Policy | None, *, proposal: bool) -> bool:
    if refusal.code in _WAITS or (proposal and refusal.code is Code.PATH_DENIED):
        return True
    person = getattr(mine.signed, "person", "")
    return any(  # with four eyes the author never counts: the first commit of a change always waits for others
        f.rule.four_eyes and not f.why_not and policy is not None and policy.allows(f.rule.allow, person)
        for f in mine.verdict.findings
        if (f.path, f.rule.id) == (refusal.path, refusal.rule)
    )


def judge_adoption(clone: Clone, made: Made, adopted: str) -> tuple[Refusal, ...]:
    """Give what the branch still waits for after a commit that adopts another one.

    Raises:
        CommandError: the adoption changes nothing, since its signer does not count for what it adopts.

    """
    check_way_round(clone, _below(clone, made), clone.branch())
    chain = _walk(clone, made)
    mine, before = chain[-1], {_ground(r) for r in chain[-2].refusals}
    skipped = any(judged.commit.id == adopted and not judged.authorised for judged in chain)
    paths = _changed(clone, adopted)
    denied = any(r.code not in _WAITS and (r.path in paths or not r.path) for r in mine.refusals)
    if skipped and mine.refusals and (denied or {_ground(r) for r in mine.refusals} >= before):
        raise CommandError(f"your adoption of {adopted[:10]} would not count, so it was not made", Exit.REFUSED, mine.refusals)
    return mine.refusals


def _below(clone: Clone, made: Made) -> str:
    return next(iter(clone.commit(made.id, made).parents), "")


def check_way_round(clone: Clone, tip: str, branch: str) -> None:
    """Refuse a branch that holds what its remote has only beside its own chain: a `git pull` that merged instead of rebasing.

    Each of its commits is in order; but whoever runs what the remote has would take the push for a rollback, and stay there.

    Raises:
        CommandError: it is so.

    """
    if not tip or branch != followed(clone):
        return
    name = branch.removeprefix("refs/heads/")
    remote = f"{clone.config(('branch', name), 'remote') or 'origin'}/{name}"
    theirs = _seen(clone, remote)
    if theirs and _is_beside(clone, tip, theirs):
        message = f"{name} was merged the wrong way round: {remote} is not on its first-parent chain"
        advice = f"before you push: `git rebase -S {remote}`, which signs your commits again on top of {theirs[:10]}"
        found = (Refusal(Code.ROLLBACK, message, commit=tip, advice=advice),)
        raise CommandError("applications that run what the remote has would refuse this branch", Exit.REFUSED, found)


def _seen(clone: Clone, remote: str) -> str:
    """The commit that a remote's branch had when it was last looked at; empty: never."""
    name: Any = f"refs/remotes/{remote}".encode()
    try:
        return clone.repo.refs[name].decode()
    except KeyError:
        return ""


def _is_beside(clone: Clone, tip: str, wanted: str) -> bool:
    """Whether a commit is an ancestor of the tip, but not by first parents."""
    chain: dict[str, tuple[str, ...]] = {}
    try:
        for commit in clone.chain(tip):
            chain[commit.id] = commit.parents
            if commit.id == wanted:
                return False
    except MissingObjectError:  # a shallow clone: what lies below is not known
        pass
    seen, ahead = set(chain), [parent for parents in chain.values() for parent in parents[1:]]
    while ahead:
        commit_id = ahead.pop()
        if commit_id == wanted:
            return True
        if commit_id not in seen:
            seen.add(commit_id)
            with suppress(MissingObjectError):
                ahead += clone.commit(commit_id).parents
    return False


def _ground(refusal: Refusal) -> tuple[object, ...]:
    """What is missing for a path, whichever commit says so: the rule, and in the advice how many more of whom."""
    return refusal.path, refusal.rule, refusal.advice.partition(": `livecfg adopt")[0]


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


def _walk(clone: Clone, made: Made) -> list[Judged]:
    """Judge the history and the new commit on top of it, which comes last."""
    try:
        trusted = start_of(clone, made.id, made)
        chain = list(judgements(Candidate(trusted.ref, made.id, made), trusted, time.time()))
    except RefusedError as error:
        raise CommandError("applications would refuse this branch", Exit.REFUSED, error.refusals) from None
    if not chain or chain[-1].commit.id != made.id:
        where = chain[-1].commit.id[:10] if chain else "the first commit"
        fail(f"a commit after {where} is dated in the future: nothing behind it counts before its time comes", Exit.REFUSED)
    return chain


def history(clone: Clone, tip: str) -> dict[str, Judged]:
    """Give what applications find of each commit of the chain, by its id; what they could not reach is not in it."""
    found: dict[str, Judged] = {}
    try:
        trusted = start_of(clone, tip, clone)
        for judged in judgements(Candidate(trusted.ref, tip, clone), trusted, time.time()):
            found[judged.commit.id] = judged
    except (RefusedError, MissingObjectError):  # not a repository of ours, or a shallow one: nothing is known of the rest
        pass
    return found


def as_of_now(judged: dict[str, Judged], one: Judged) -> tuple[Refusal, ...]:
    """Give the refusals of one commit of a judged history with the advice that holds today: it may have been heeded since."""
    later = [other for other in judged.values() if other.position > one.position]
    healed = next((other for other in later if other.authorised), None)
    if healed is not None:
        return tuple(
            replace(r, advice=f"nothing to do: since {healed.commit.id[:10]} the branch holds again") for r in one.refusals
        )
    newest = {(r.path, r.rule): r.advice for r in later[-1].refusals} if later else {}
    return tuple(replace(r, advice=newest.get((r.path, r.rule), r.advice)) for r in one.refusals)


# --- what a clone says of itself ------------------------------------------------------------------------------------------


def followed(clone: Clone, given: str = "") -> str:
    """Give the full name of the branch that applications follow.

    It is as given, as `init` noted in Git's configuration, what the remote calls its main branch, `main`, or HEAD's.
    """
    refs = clone.repo.refs
    known = given or clone.config(("livecfg",), "ref")
    if not known:
        origin = refs.get_symrefs().get(b"refs/remotes/origin/HEAD", b"")  # type: ignore[call-overload]  # dulwich's NewType
        known = origin.decode().removeprefix("refs/remotes/origin/")
    if not known:
        known = "main" if b"refs/heads/main" in refs.allkeys() else refs.follow(b"HEAD")[0][-1].decode()  # type: ignore[arg-type]
    return full_ref(known)


def start_of(clone: Clone, tip: str, objects: Objects) -> Trusted:
    """Give where the walk over the history of `tip` begins."""
    return Trusted.start(root_of(clone, tip, objects), followed(clone).removeprefix("refs/heads/"))


def root_of(clone: Clone, tip: str, objects: Objects) -> TrustedRoot:
    """Give the root to judge the chain of `tip` by.

    It is the file `init` wrote, when that is at hand and of this repository; else what the first commit of the branch says of
    itself; else (a shallow clone) what the policy of HEAD says.
    """
    try:
        known = root_at_hand(clone, tip, objects)
        if known is not None:
            _first(clone, tip, objects, known.anchor_commit)  # else the walk would look for what is not here
            return known
        first = _first(clone, tip, objects)
        return TrustedRoot.parse(_text(load_policy(objects, first.tree)).encode(), "the first commit's policy")
    except (MissingObjectError, RefusedError):
        return TrustedRoot.parse(root_text(clone, clone.tip(), anchor=True).encode(), "HEAD's policy")


def root_at_hand(clone: Clone, tip: str, objects: Objects) -> TrustedRoot | None:
    """Give the root of the file that `init` wrote, where it is there and of the repository of `tip`.

    Raises:
        RefusedError: the file is none.

    """
    path = root_path(clone)
    root = TrustedRoot.parse(path.read_bytes(), str(path)) if path.exists() else None
    return root if root is not None and root.repo_id == _repo_id(objects, clone.commit(tip, objects).tree) else None


def _first(clone: Clone, tip: str, objects: Objects, anchor: str = "") -> Commit:
    """Give the commit at which the chain of `tip` begins: the anchor, or one without parents.

    Raises:
        MissingObjectError: a shallow clone does not hold it.

    """
    commit = clone.commit(tip, objects)
    while commit.parents and commit.id != anchor:
        commit = clone.commit(commit.parents[0], objects)
    return commit


def _repo_id(objects: Objects, tree: str) -> str:
    try:
        return load_policy(objects, tree).file.repo_id
    except RefusedError:
        return ""


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
    text = _text(load_policy(clone, commit.tree))
    if not anchor:
        return text
    position, latest = -1, 0
    try:
        for seen in clone.chain(commit_id):
            position, latest = position + 1, max(latest, seen.committer_time)
    except MissingObjectError:
        pass  # a shallow clone: what lies below its oldest commit is not known
    kind = "sha1" if len(commit_id) == 40 else "sha256"
    return text + (
        f'anchor:\n  commit: "{kind}:{commit_id}"\n  payload_sha256: "{commit.payload_sha256}"\n'
        f"  position: {max(position, 0)}\n  time: {latest}\n"
    )


def _text(policy: Policy) -> str:
    people: dict[str, list[str]] = {person: [] for person in policy.file.root.people}
    for signer in policy.signers.values():
        if signer.person in people:
            (size,) = struct.unpack(">I", signer.key[:4])
            people[signer.person].append(f"{signer.key[4 : 4 + size].decode()} {base64.b64encode(signer.key).decode()}")
    rows = "".join(f"  {person}: [{', '.join(lines)}]\n" for person, lines in people.items())
    root = policy.file.root
    return f'version: 1\nrepo_id: "{policy.file.repo_id}"\nthreshold: {root.threshold}\npeople:\n{rows}'
