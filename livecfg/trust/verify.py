"""verify(): the walk from the last good commit to the tip of a ref. A reviewer ticks the lettered steps off.

The verdict depends on the anchor and the chain alone, never on how often a client pulls: verifying a chain in two halves
equals verifying it whole. A commit that does not hold is skipped, not fatal: a later one that reverts, adopts or approves its
change heals the branch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NewType

from livecfg.errors import RefusedError, RollbackError
from livecfg.refusal import Code, Refusal
from livecfg.revision import Candidate, Commit, Objects, Revision
from livecfg.trust.approvals import Evidence, Identities, Seen, adopted
from livecfg.trust.checkpoint import manifest_of
from livecfg.trust.commits import parse_commit, split_commit
from livecfg.trust.forge import why_not_clean
from livecfg.trust.identify import Signed, identify
from livecfg.trust.paths import POLICY_PATH, is_root_path
from livecfg.trust.policy import load_policy
from livecfg.trust.root import Good, Trusted
from livecfg.trust.rules import MAX_LOOKS, Judge, Verdict
from livecfg.trust.tree import SplitObjects, TreeFaultError, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.trust.root import TrustedRoot

BACKWARDS_S, AHEAD_S = 600, 300
MAX_TOLD = 1000
"""So many refusals of skipped commits are kept: whoever can push could make any number of them."""


@dataclass(frozen=True, slots=True)
class WalkLimits:
    """How many commits one walk may look at, and how many bytes they may have: all are kept until the last one is judged.

    Bytes that are not kept (of a commit over 64 KiB) count as well: they are read and hashed again by each walk.
    """

    commits: int = 100_000
    commit_bytes: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AuthorisedCommit:
    """A commit that policy allows: its revision, the people who vouched for what it changes, and why if they broke the glass."""

    revision: Revision
    commit: Commit
    signers: tuple[str, ...]
    root: TrustedRoot
    broke_glass: str = ""

    @property
    def tree(self) -> str:
        """The id of its tree."""
        return self.commit.tree


VerifiedCommit = NewType("VerifiedCommit", AuthorisedCommit)


_NOTHING = Verdict((), ())


@dataclass(frozen=True, slots=True)
class Judged:
    """One commit of the chain as the walk judged it: who signed, what each rule found, why it was refused if it was."""

    commit: Commit
    position: int
    signed: Signed | Refusal
    authorised: bool
    refusals: tuple[Refusal, ...] = ()
    verdict: Verdict = _NOTHING

    @property
    def vouchers(self) -> tuple[str, ...]:
        """The people who vouched for what it changes; for a commit that changes nothing, who signed it."""
        return self.verdict.vouchers or ((self.signed.person,) if isinstance(self.signed, Signed) else ())


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk found: the newest authorised commit (None: nothing newer), where trust stands now, what was skipped and why.

    `skipped` holds the newest thousand refusals, `broke_glass` the authorised commits of the walk that set the path rules aside;
    `ahead` is the commit that waits for its own time, where there is one.
    """

    good: VerifiedCommit | None
    trusted: Trusted
    skipped: tuple[Refusal, ...] = ()
    broke_glass: tuple[AuthorisedCommit, ...] = ()
    ahead: Commit | None = None


def verify(candidate: Candidate, trusted: Trusted, now: float, limits: WalkLimits = WalkLimits()) -> Verification:
    """Walk from the last good commit to the tip and find the newest commit that policy allows.

    Raises:
        RollbackError: the chain ends without the last good commit.
        RefusedError: the chain is longer than `limits`, or the repository is not the pinned one.
        FetchError: an object is missing; nothing is decided.

    """
    chain = _chain(candidate, trusted, limits)  # first: a rollback is told even where the last good objects are gone
    walk = _Walk(candidate, trusted)
    skipped: deque[Refusal] = deque(maxlen=MAX_TOLD)
    glass: list[AuthorisedCommit] = []
    ahead = None
    for commit in chain:
        judged = walk.step(commit, now)
        if judged is None:
            ahead = commit
            break
        skipped += judged.refusals
        if judged.verdict.broke_glass and judged.authorised and walk.found is not None:
            glass.append(walk.found)
    good = None if walk.found is None else _verified(walk.found)
    return Verification(good, walk.trusted, tuple(skipped), tuple(glass), ahead)


class Walks:
    """Verifies as `verify` does, a tip that turned out to hold nothing good only once: it may stand there for long."""

    def __init__(self) -> None:
        self._settled: tuple[str, Trusted, Verification | RefusedError] | None = None

    def verify(self, candidate: Candidate, trusted: Trusted, now: float) -> Verification:
        """Walk, unless the last walk was this one and time changes nothing of it.

        Raises:
            RollbackError, RefusedError, FetchError: as `verify` does.

        """
        if self._settled is not None and self._settled[:2] == (candidate.tip, trusted):
            found = self._settled[2]
            if isinstance(found, RefusedError):
                raise found.with_traceback(None)  # else it would grow with every raise
            return found
        self._settled = None
        try:
            walk = verify(candidate, trusted, now)
        except RefusedError as error:
            self._settled = (candidate.tip, trusted, error)
            raise
        if walk.good is None and walk.ahead is None:
            self._settled = (candidate.tip, trusted, walk)
        return walk


def judgements(candidate: Candidate, trusted: Trusted, now: float, limits: WalkLimits = WalkLimits()) -> Iterator[Judged]:
    """Give what `verify` finds of each commit, oldest first, up to one that lies ahead of `now`.

    Raises:
        RollbackError, RefusedError, FetchError: as `verify` does.

    """
    walk = _Walk(candidate, trusted)
    for commit in _chain(candidate, trusted, limits):
        judged = walk.step(commit, now)
        if judged is None:
            return
        yield judged


def _verified(commit: AuthorisedCommit) -> VerifiedCommit:
    return VerifiedCommit(commit)  # the one place: callers have proved it


def resume(objects: Objects, trusted: Trusted, good: Good | None = None) -> VerifiedCommit:
    """Give a remembered good commit again (default: the last), re-hashed from the mirror, without a walk.

    Raises:
        FetchError, ValueError: its objects are missing or are not what was remembered.

    """
    good = good or trusted.good
    if good is None:
        raise ValueError("nothing is remembered")
    _check_format(trusted.root, good.commit)
    commit = parse_commit(good.commit, objects.read(good.commit, "commit"))
    if commit.payload_sha256 != good.payload_sha256 or commit.tree != good.tree:
        raise ValueError("the mirror holds another commit than the remembered one")
    signed = identify(commit, load_policy(objects, commit.tree).signers)
    revision = Revision(trusted.ref, good.commit, good.payload_sha256, good.position)
    return _verified(AuthorisedCommit(revision, commit, (signed.person,) if isinstance(signed, Signed) else (), trusted.root))


def _chain(candidate: Candidate, trusted: Trusted, limits: WalkLimits) -> list[Commit]:
    """First parents from the tip down to the last good commit, oldest first."""
    _check_format(trusted.root, candidate.tip)
    stop = trusted.good.commit if trusted.good is not None else trusted.root.anchor_commit
    chain: list[Commit] = []
    object_id, size = candidate.tip, 0
    while object_id != stop or (trusted.good is None and stop):
        if len(chain) >= limits.commits or size > limits.commit_bytes:
            raise RefusedError(_too_long(candidate, stop, limits))
        raw = candidate.objects.read(object_id, "commit")
        size += len(raw)
        commit = split_commit(candidate.objects, object_id, raw)
        chain.append(commit)
        if object_id == stop:
            break
        if not commit.parents:
            if stop:
                raise RollbackError(_rollback(candidate, stop))
            break
        object_id = commit.parents[0]
    return chain[::-1]


def _check_format(root: TrustedRoot, object_id: str) -> None:
    """Refuse a repository of another object format than the pinned one: SHA-1 where SHA-256 was promised is a downgrade."""
    found = "sha1" if len(object_id) == 40 else "sha256"
    if root.object_format and found != root.object_format:
        message = f"the repository names objects by {found}, the trusted root wants {root.object_format}"
        raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, advice="point the source at the pinned repository"))


def _too_long(candidate: Candidate, stop: str, limits: WalkLimits) -> Refusal:
    """Nothing that is pushed on top shortens the chain, so the advice is for whoever may move the branch."""
    message = f"more than {limits.commits:,} commits, or {limits.commit_bytes:,} bytes of them, since "
    message += f"the last good one ({stop[:10]})" if stop else "the first one"
    newer = "pin a newer anchor (`livecfg root export --anchor`) or sign a checkpoint (`livecfg checkpoint`)"
    back = f"put the branch back to {stop[:10]} at the Git host and commit on top of it; for a new start, {newer}"
    return Refusal(Code.WALK_LIMIT, message, commit=candidate.tip, advice=back if stop else newer)


def _rollback(candidate: Candidate, good: str) -> Refusal:
    message = f"the ref no longer contains the last good commit {good[:10]} (force push, rollback or foxtrot merge)"
    advice = "restore the branch: push a commit on top of the last good one"
    return Refusal(Code.ROLLBACK, message, commit=candidate.tip, advice=advice)


_PINNED = "compare the URL and the trusted root that the application ships; `livecfg root export --anchor` writes a new one"


class _Walk:
    """One walk: g and P(g), and the commits since g."""

    def __init__(self, candidate: Candidate, trusted: Trusted) -> None:
        self.objects = candidate.objects if isinstance(candidate.objects, SplitObjects) else SplitObjects(candidate.objects)
        self.trusted = trusted
        self.found: AuthorisedCommit | None = None
        self.position = trusted.good.position if trusted.good is not None else -1
        self.policy = load_policy(self.objects, trusted.good.tree) if trusted.good is not None else None
        self.evidence = self._fresh_evidence()
        if trusted.good is not None:
            self.evidence.trees.know_tree(trusted.good.commit, trusted.good.tree)  # as it was when it was judged

    def step(self, commit: Commit, now: float) -> Judged | None:
        """Judge one commit; None stops the walk until a later time."""
        self.position += 1
        self.evidence.trees.know(commit)
        good, root = self.trusted.good, self.trusted.root
        if good is None and root.anchor_commit:
            return self._anchor(commit)
        latest = good.time if good is not None else 0
        moment = max(latest, commit.committer_time)
        signed = self.evidence.identities.at(commit, moment)  # a, b: canonical headers; signature → key → person
        verdict = _NOTHING
        unsigned = self._unsigned(commit, signed, moment)
        hosted = isinstance(signed, Refusal) and unsigned is None
        self.evidence.note(Seen(commit, adopted(commit), hosted))
        try:
            if unsigned is not None:
                raise RefusedError(unsigned)
            if commit.committer_time < latest - BACKWARDS_S:  # c: no going back in time
                raise RefusedError(_backwards(commit, signed))
            judge = Judge(self.evidence, root, self.policy, good.tree if good is not None else None)
            verdict = judge.judge(commit, moment)  # d, e: every path by every rule
            if verdict.faults:
                raise RefusedError(*verdict.faults)
            check(self.objects, commit.tree, good.tree if good is not None else None)  # f: hygiene
        except RefusedError as error:
            refusals = tuple(replace(r, commit=commit.id) for r in error.refusals)
            return Judged(commit, self.position, signed, authorised=False, refusals=refusals, verdict=verdict)
        except TreeFaultError as error:
            advice = "remove what is named in a further commit"
            refusal = Refusal(Code.TREE_HYGIENE, str(error), commit=commit.id, path=error.path, advice=advice)
            return Judged(commit, self.position, signed, authorised=False, refusals=(refusal,), verdict=verdict)
        if commit.committer_time > now + AHEAD_S:
            return None
        judged = Judged(commit, self.position, signed, authorised=True, verdict=verdict)
        self._accept(judged)
        return judged

    def _unsigned(self, commit: Commit, signed: Signed | Refusal, moment: float) -> Refusal | None:
        """Refuse a commit that no person signed, unless it is a forge's merge on the word of its merged side (`merge: clean`)."""
        if isinstance(signed, Signed):
            return None
        clean = self.policy is not None and self.policy.file.merge == "clean"
        if not clean or len(commit.parents) != 2 or commit.flaw or not self.evidence.identities.forge(commit):
            return signed
        if self.evidence.looks > MAX_LOOKS:
            return replace(signed, message=f"{signed.message}, and too much was merged to look at one more merge by the forge")
        side, theirs = self.evidence.side(commit), self.evidence.trees.tree_of(commit.parents[1])
        try:
            why = why_not_clean(self.objects, commit, side, theirs)
        except TreeFaultError as error:
            why = str(error)
        if not why and not self.evidence.is_approved(commit, moment):
            why = "nobody on the merged side approved it"
        if not why:
            return None
        advice = "`livecfg approve BRANCH` before it is merged, or a person adopts the merge (`livecfg adopt`)"
        return Refusal(Code.MERGE, f"a merge by the forge: {why}", commit=commit.id, advice=advice)

    def _anchor(self, commit: Commit) -> Judged:
        root = self.trusted.root
        if commit.payload_sha256 != root.anchor_payload_sha256:
            message = "the anchor commit is not the pinned one: its payload has another SHA-256"
            raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, commit=commit.id, advice=_PINNED))
        if root.anchor_manifest and manifest_of(self.objects, commit.tree) != root.anchor_manifest:
            message = "the files of the checkpoint's commit are not those that were signed: other content under the same ids"
            raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, commit=commit.id, advice="find out who made them"))
        policy = load_policy(self.objects, commit.tree)
        Judge(self.evidence, root, None, None).check_repository(policy)
        if not root.anchor_manifest and not root.carried_by(policy.file.root.people, policy.signers):
            message = "the policy of the anchor commit has other root people or keys than the pinned ones"
            raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, commit=commit.id, path=POLICY_PATH, advice=_PINNED))
        self.position = root.anchor_position
        judged = Judged(commit, self.position, Signed(", ".join(sorted(root.people)), ""), authorised=True)
        self._accept(judged)
        return judged

    def _accept(self, judged: Judged) -> None:
        """Make it the last good one: g := c."""
        commit = judged.commit
        latest = self.trusted.good.time if self.trusted.good is not None else self.trusted.root.anchor_time
        good = Good(commit.id, commit.payload_sha256, self.position, max(latest, commit.committer_time), commit.tree)
        if self.policy is None or any(is_root_path(finding.path) for finding in judged.verdict.findings):
            self.policy = load_policy(self.objects, commit.tree)
        looked_up = self.evidence.trees
        self.evidence = self._fresh_evidence()
        self.evidence.trees.know(commit)
        self.evidence.trees.know_entries(looked_up, commit.tree)
        self.trusted = replace(self.trusted, good=good)
        revision = Revision(self.trusted.ref, good.commit, good.payload_sha256, good.position)
        self.found = AuthorisedCommit(revision, commit, judged.vouchers, self.trusted.root, judged.verdict.broke_glass)

    def _fresh_evidence(self) -> Evidence:
        root = self.trusted.root
        statement = f"{root.repo_id} {full_ref(self.trusted.ref)}"
        if self.policy is None:
            return Evidence(self.objects, Identities(root.signers), statement)
        return Evidence(self.objects, Identities(self.policy.signers, self.policy.file.forges), statement)


def _backwards(commit: Commit, signed: Signed | Refusal) -> Refusal:
    message = "its committer time is before that of an earlier commit by more than 10 minutes"
    signer = signed.person if isinstance(signed, Signed) else ""
    return Refusal(Code.COMMIT_TIME, message, commit=commit.id, signer=signer, advice="check the clock and commit again")


def full_ref(ref: str) -> str:
    """Give a branch name as `refs/heads/…`."""
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


__all__ = [
    "AuthorisedCommit",
    "Good",
    "Judged",
    "Trusted",
    "Verification",
    "VerifiedCommit",
    "WalkLimits",
    "Walks",
    "full_ref",
    "judgements",
    "resume",
    "verify",
]
