"""verify(): the walk from the last good commit to the tip of a ref. A reviewer ticks the lettered steps off.

The verdict depends on the anchor and the chain alone, never on how often a client pulls: verifying a chain in two halves
equals verifying it whole. A commit that does not hold is skipped, not fatal: a later one that reverts or adopts its change
heals the branch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NewType

from livecfg.errors import RefusedError, RollbackError
from livecfg.refusal import Code, Refusal
from livecfg.revision import Candidate, Commit, Objects, Revision
from livecfg.trust.commits import parse_commit, trailers
from livecfg.trust.identify import Signed, identify
from livecfg.trust.policy import POLICY_PATH, SIGNERS_PATH, PathRule, Policy, is_root_path, load_policy
from livecfg.trust.tree import TreeFaultError, check, diff, lookup

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from livecfg.trust.allowed_signers import Signer
    from livecfg.trust.root import TrustedRoot

BACKWARDS_S, AHEAD_S = 600, 300


@dataclass(frozen=True, slots=True)
class WalkLimits:
    """How many commits one walk may look at."""

    commits: int = 100_000


@dataclass(frozen=True, slots=True)
class Good:
    """The last authorised commit: its id, payload, place in the chain, the highest committer time so far, its tree."""

    commit: str
    payload_sha256: str
    position: int
    time: int
    tree: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """Where trust stands: the pinned root, the ref, and the last good commit; None before the first."""

    root: TrustedRoot
    ref: str
    good: Good | None = None

    @classmethod
    def start(cls, root: TrustedRoot, ref: str) -> Trusted:
        """Begin at the anchor, or before the first commit."""
        return cls(root, ref)

    def as_state(self) -> dict[str, Any]:
        """Give what is remembered on disk."""
        assert self.good is not None  # noqa: S101 - only what was applied is remembered
        good = self.good
        return {
            "ref": self.ref,
            "root": self.root.digest,
            "commit": good.commit,
            "payload_sha256": good.payload_sha256,
            "position": good.position,
            "time": good.time,
            "tree": good.tree,
        }

    @classmethod
    def from_state(cls, root: TrustedRoot, ref: str, state: Mapping[str, Any]) -> Trusted:
        """Take up what was remembered.

        Raises:
            ValueError: it is of another root or ref, or malformed.

        """
        good = Good(*(state[k] for k in ("commit", "payload_sha256", "position", "time", "tree")))
        if state.get("ref") != ref or state.get("root") != root.digest or not isinstance(good.position, int):
            raise ValueError("the remembered state is of another root or ref")
        return cls(root, ref, good)


@dataclass(frozen=True, slots=True)
class AuthorisedCommit:
    """A commit that policy allows: its revision, and the people who vouched for what it changes."""

    revision: Revision
    commit: Commit
    signers: tuple[str, ...]

    @property
    def tree(self) -> str:
        """The id of its tree."""
        return self.commit.tree


VerifiedCommit = NewType("VerifiedCommit", AuthorisedCommit)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk found: the newest authorised commit (None: nothing newer), where trust stands now, what was skipped and why."""

    good: VerifiedCommit | None
    trusted: Trusted
    skipped: tuple[Refusal, ...] = ()


def verify(candidate: Candidate, trusted: Trusted, now: float, limits: WalkLimits = WalkLimits()) -> Verification:
    """Walk from the last good commit to the tip and find the newest commit that policy allows.

    Raises:
        RollbackError: the chain ends without the last good commit.
        RefusedError: the chain is longer than `limits`, or the repository is not the pinned one.
        FetchError: an object is missing; nothing is decided.

    """
    chain = _chain(candidate, trusted, limits)  # first: a rollback is told even where the last good objects are gone
    walk = _Walk(candidate, trusted)
    for commit in chain:
        if not walk.step(commit, now):
            break
    good = None if walk.found is None else _verified(walk.found)
    return Verification(good, walk.trusted, tuple(walk.skipped))


def _verified(commit: AuthorisedCommit) -> VerifiedCommit:
    return VerifiedCommit(commit)  # the one place: callers have proved it


def resume(objects: Objects, trusted: Trusted) -> VerifiedCommit:
    """Give the remembered good commit again, re-hashed from the mirror, without a walk.

    Raises:
        FetchError, ValueError: its objects are missing or are not what was remembered.

    """
    good = trusted.good
    if good is None:
        raise ValueError("nothing is remembered")
    commit = parse_commit(good.commit, objects.read(good.commit, "commit"))
    if commit.payload_sha256 != good.payload_sha256 or commit.tree != good.tree:
        raise ValueError("the mirror holds another commit than the remembered one")
    signed = identify(commit, load_policy(objects, commit.tree).signers)
    revision = Revision(trusted.ref, good.commit, good.payload_sha256, good.position)
    return _verified(AuthorisedCommit(revision, commit, (signed.person,) if isinstance(signed, Signed) else ()))


def _chain(candidate: Candidate, trusted: Trusted, limits: WalkLimits) -> list[Commit]:
    """First parents from the tip down to the last good commit, oldest first."""
    stop = trusted.good.commit if trusted.good is not None else trusted.root.anchor_commit
    chain: list[Commit] = []
    object_id = candidate.tip
    while object_id != stop or (trusted.good is None and stop):
        if len(chain) >= limits.commits:
            message = f"more than {limits.commits:,} commits since the last good one"
            raise RefusedError(
                Refusal(Code.WALK_LIMIT, message, commit=candidate.tip, advice="raise the limit or pin a newer anchor")
            )
        commit = parse_commit(object_id, candidate.objects.read(object_id, "commit"))
        chain.append(commit)
        if object_id == stop:
            break
        if not commit.parents:
            if stop:
                raise RollbackError(_rollback(candidate, stop))
            break
        object_id = commit.parents[0]
    return chain[::-1]


def _rollback(candidate: Candidate, good: str) -> Refusal:
    message = f"the ref no longer contains the last good commit {good[:10]} (force push, rollback or foxtrot merge)"
    advice = "restore the branch: push a commit on top of the last good one"
    return Refusal(Code.ROLLBACK, message, commit=candidate.tip, advice=advice)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A commit since g: who stands behind it by signature, whom it adopts, and what it changed against its first parent."""

    commit: Commit
    signer: str | Refusal
    adopts: frozenset[str]
    changed: Container[str]


class _Everything:
    """Holds every path."""

    def __contains__(self, path: object) -> bool:
        return True


_EVERYTHING = _Everything()


class _Walk:
    """One walk: g and P(g), and the commits since g."""

    def __init__(self, candidate: Candidate, trusted: Trusted) -> None:
        self.objects = candidate.objects
        self.trusted = trusted
        self.found: AuthorisedCommit | None = None
        self.skipped: list[Refusal] = []
        self.since: list[_Seen] = []
        self.position = trusted.good.position if trusted.good is not None else -1
        self.policy = load_policy(self.objects, trusted.good.tree) if trusted.good is not None else None

    def step(self, commit: Commit, now: float) -> bool:
        """Judge one commit; False stops the walk until a later time."""
        self.position += 1
        good, root = self.trusted.good, self.trusted.root
        if good is None and root.anchor_commit:
            return self._anchor(commit)
        latest = good.time if good is not None else 0
        parent = self._tree_of(commit.parents[0]) if commit.parents else None
        try:
            signer = self._signer(commit, latest)  # a, b: canonical headers; signature → key → person
            changed = self._changed(parent, commit.tree)
            self.since.append(_Seen(commit, signer, _adopted(commit), changed))
            if not isinstance(signer, str):
                raise RefusedError(signer)
            if commit.committer_time < latest - BACKWARDS_S:  # c: no going back in time
                message = "its committer time is before that of an earlier commit by more than 10 minutes"
                raise _refused(Code.COMMIT_TIME, commit, message, signer, "check the clock and commit again")
            vouchers = self._judge(commit)  # d, e: every path by every rule
            check(self.objects, commit.tree, good.tree if good is not None else None)  # f: hygiene
        except RefusedError as error:
            self.skipped += [replace(r, commit=commit.id) for r in error.refusals]
            return True
        except TreeFaultError as error:
            advice = "remove what is named in a further commit"
            self.skipped.append(Refusal(Code.TREE_HYGIENE, str(error), commit=commit.id, advice=advice))
            return True
        if commit.committer_time > now + AHEAD_S:
            return False
        self._accept(commit, vouchers or (signer,))
        return True

    def _changed(self, parent: str | None, tree: str) -> Container[str]:
        """What a commit changed; everything, when its tree or its parent's breaks the rules of trees: else it could not heal."""
        try:
            return diff(self.objects, parent, tree)
        except TreeFaultError:
            return _EVERYTHING

    def _anchor(self, commit: Commit) -> bool:
        root = self.trusted.root
        if commit.payload_sha256 != root.anchor_payload_sha256:
            message = "the anchor commit is not the pinned one: its payload has another SHA-256"
            raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, commit=commit.id))
        self._check_repository(load_policy(self.objects, commit.tree))
        self._accept(commit, tuple(sorted(root.people)))
        return True

    def _accept(self, commit: Commit, vouchers: tuple[str, ...]) -> None:
        """Make it the last good one: g := c."""
        latest = self.trusted.good.time if self.trusted.good is not None else 0
        good = Good(commit.id, commit.payload_sha256, self.position, max(latest, commit.committer_time), commit.tree)
        if self.policy is None or self._changes_policy():
            self.policy = load_policy(self.objects, commit.tree)
        self.trusted = replace(self.trusted, good=good)
        self.since.clear()
        self.found = AuthorisedCommit(
            Revision(self.trusted.ref, good.commit, good.payload_sha256, good.position), commit, vouchers
        )

    def _changes_policy(self) -> bool:
        return any(path in seen.changed for seen in self.since for path in (POLICY_PATH, SIGNERS_PATH)) or not self.since

    def _tree_of(self, object_id: str) -> str:
        return parse_commit(object_id, self.objects.read(object_id, "commit")).tree

    def _signer(self, commit: Commit, latest: int) -> str | Refusal:
        signers = self.policy.signers if self.policy is not None else self.trusted.root.signers
        return _person_at(commit, signers, max(latest, commit.committer_time))

    # --- d, e ---------------------------------------------------------------------------------------------------------

    def _judge(self, commit: Commit) -> tuple[str, ...]:
        """Check that every path that differs from g satisfies its rules; give everybody who vouched."""
        good = self.trusted.good
        delta = diff(self.objects, good.tree if good is not None else None, commit.tree)
        vouched: set[str] = set()
        faults: list[Refusal] = []
        for path, (was, _) in sorted(delta.items()):
            makers = self._makers(path, was)
            behind = self._behind(makers)
            vouched |= behind
            faults += self._path_faults(commit, path, behind, makers)
        if any(is_root_path(path) for path in delta) or good is None:
            faults += self._policy_faults(commit)
        if faults:
            raise RefusedError(*faults)
        return tuple(sorted(vouched))

    def _makers(self, path: str, was: object) -> list[_Seen]:
        """M(p): the commits that changed p since its entry was last g's."""
        makers: list[_Seen] = []
        for seen in self.since:
            if path in seen.changed:
                makers.append(seen)
            if self._entry(seen.commit.tree, path) == was:
                makers.clear()
        return makers

    def _entry(self, tree: str, path: str) -> object:
        try:
            return lookup(self.objects, tree, path)
        except TreeFaultError:
            return _EVERYTHING  # not what g has

    def _behind(self, makers: list[_Seen], signers: Mapping[bytes, Signer] | None = None) -> set[str]:
        """The people who stand behind each of these commits: signed it, or adopted it in a later commit they signed."""
        everybody: set[str] | None = None
        for maker in makers:
            people = {
                person
                for seen in self.since
                if (seen is maker or maker.commit.id in seen.adopts) and isinstance(person := self._person(seen, signers), str)
            }
            everybody = people if everybody is None else everybody & people
        return everybody or set()

    def _person(self, seen: _Seen, signers: Mapping[bytes, Signer] | None) -> str | Refusal:
        if signers is None:
            return seen.signer
        return _person_at(seen.commit, signers, seen.commit.committer_time)

    def _path_faults(self, commit: Commit, path: str, behind: set[str], makers: list[_Seen]) -> list[Refusal]:
        if self.policy is None:
            rules: tuple[PathRule, ...] = (self._pin_rule(),)
        else:
            rules = self.policy.rules_for(path)
        signer = ", ".join(sorted(behind))
        if not rules:
            message = f"no rule of {POLICY_PATH} allows changing it"
            advice = f"add a rule for it, by the root people ({', '.join(self._root_people())})"
            return [Refusal(Code.PATH_DENIED, message, path=path, commit=commit.id, signer=signer, advice=advice)]
        faults = []
        for rule in rules:
            allowed = self.policy.people(rule) if self.policy is not None else self.trusted.root.people
            authors = {seen.signer for seen in makers if isinstance(seen.signer, str)} if rule.four_eyes else set()
            have = sorted((behind & allowed) - authors)
            if len(have) < rule.threshold:
                faults.append(_missing(commit, path, rule, have, sorted(allowed - authors), signer))
        return faults

    def _pin_rule(self) -> PathRule:
        root = self.trusted.root
        return PathRule(id="trusted root", paths=["**"], allow=sorted(root.people), threshold=root.threshold)

    def _root_people(self) -> list[str]:
        return self.policy.file.root.people if self.policy is not None else sorted(self.trusted.root.people)

    def _policy_faults(self, commit: Commit) -> list[Refusal]:
        """Judge a change of the policy itself: well-formed, of this repository, no lock-out, a new root agrees with itself."""
        try:
            new = load_policy(self.objects, commit.tree)
            self._check_repository(new)
            self._check_reach(new, commit)
        except RefusedError as error:
            return list(error.refusals)
        if self.policy is not None and new.root_identity() == self.policy.root_identity():
            return []
        makers = [seen for seen in self.since if POLICY_PATH in seen.changed or SIGNERS_PATH in seen.changed]
        behind = self._behind(makers, new.signers) & set(new.file.root.people)
        if len(behind) >= new.file.root.threshold:
            return []
        rule = PathRule(id="new root", paths=["**"], allow=new.file.root.people, threshold=new.file.root.threshold)
        return [_missing(commit, POLICY_PATH, rule, sorted(behind), sorted(new.file.root.people), ", ".join(sorted(behind)))]

    def _check_repository(self, new: Policy) -> None:
        root = self.trusted.root
        if new.file.repo_id != root.repo_id:
            message = f"repo_id is not the pinned one ({root.repo_id}): another repository"
            raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, path=POLICY_PATH, advice="repo_id never changes"))
        if new.file.root.threshold < root.threshold:
            message = f"the root threshold falls below the pinned {root.threshold}"
            raise RefusedError(Refusal(Code.POLICY, message, path=POLICY_PATH, advice="raise root.threshold"))

    def _check_reach(self, new: Policy, commit: Commit) -> None:
        """Refuse a policy under which an existing path matches no rule: nobody could change it any more."""
        for path in diff(self.objects, None, commit.tree):
            if not new.rules_for(path):
                message = f"no rule would match {path}: nobody could change it any more"
                raise RefusedError(Refusal(Code.POLICY, message, path=POLICY_PATH, advice="add a rule for it"))


def _person_at(commit: Commit, signers: Mapping[bytes, Signer], moment: float) -> str | Refusal:
    signed = identify(commit, signers)
    if isinstance(signed, Refusal):
        return signed
    return signed.fault_at(commit, moment) or signed.person


def _adopted(commit: Commit) -> frozenset[str]:
    return frozenset(value for key, value in trailers(commit.message) if key == "Livecfg-Adopt")


def _refused(code: Code, commit: Commit, message: str, signer: str, advice: str) -> RefusedError:
    return RefusedError(Refusal(code, message, commit=commit.id, signer=signer, advice=advice))


def _missing(commit: Commit, path: str, rule: PathRule, have: list[str], allowed: list[str], signer: str) -> Refusal:
    """Say who is missing: a path whose signers are not allowed at all, or not enough of them."""
    others = [person for person in allowed if person not in have]
    names = ", ".join(others[:8]) + (", …" if len(others) > 8 else "")
    left = rule.threshold - len(have)
    needs = f"the rule {rule.id!r} needs {rule.threshold} of its people and has {len(have)}"
    who = f"{signer or 'nobody known'} vouches for it; {needs}"
    advice = f"{left} more of {names or 'nobody: change the policy'}: `livecfg adopt {commit.id[:10]}`"
    code = Code.ROOT_REQUIRED if is_root_path(path) else Code.THRESHOLD if have else Code.PATH_DENIED
    return Refusal(code, who, commit=commit.id, path=path, rule=rule.id, signer=signer, advice=advice)


__all__ = ["AuthorisedCommit", "Good", "Trusted", "Verification", "VerifiedCommit", "WalkLimits", "resume", "verify"]
