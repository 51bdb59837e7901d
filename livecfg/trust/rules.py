"""Whether policy allows what a commit changes: every path by every rule that matches it, with enough people behind it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.trust.approvals import Evidence, Identities
from livecfg.trust.changes import is_disable, weight_rise
from livecfg.trust.commits import trailers
from livecfg.trust.identify import Signed
from livecfg.trust.paths import POLICY_PATH, is_root_path, matches
from livecfg.trust.policy import PathRule, Policy, load_policy
from livecfg.trust.tree import diff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from livecfg.revision import Commit, Objects
    from livecfg.trust.approvals import Seen, Voucher
    from livecfg.trust.policy import BreakGlass
    from livecfg.trust.root import TrustedRoot
    from livecfg.trust.tree import Change

BREAK_GLASS = "Livecfg-Break-Glass"
MAX_PENDING = 1000
"""How many commits may have changed a path since it was last good: each is judged again with every later one."""
MAX_LOOKS = 5_000_000
"""How often commits may be looked at since the last good one, once for each path and rule that asks: a minute of work."""
MAX_FAULTS = 100
"""After how many faults a commit is not looked at any further: it is refused anyway, and nobody reads more."""
_TOLD = 3
_PIN_RULE, _NEW_ROOT, _GLASS = "trusted-root", "new-root", "break-glass"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule held against one path: who stands behind the change, how many that counts as, how many it takes."""

    path: str
    rule: PathRule
    behind: tuple[str, ...]
    count: int
    why_not: str = ""

    @property
    def holds(self) -> bool:
        """Whether the rule is satisfied."""
        return not self.why_not and self.count >= self.rule.threshold


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy says of one commit: its findings, the faults that refuse it, and the reason when it broke the glass."""

    findings: tuple[Finding, ...]
    faults: tuple[Refusal, ...]
    broke_glass: str = ""

    @property
    def vouchers(self) -> tuple[str, ...]:
        """Everybody who stood behind some path."""
        return tuple(sorted({person for finding in self.findings for person in finding.behind}))


class Judge:
    """Judges one commit against the last good tree; `policy` None: before the first commit, where the pin alone counts."""

    def __init__(self, evidence: Evidence, root: TrustedRoot, policy: Policy | None, good_tree: str | None) -> None:
        self.evidence = evidence
        self.objects: Objects = evidence.trees.objects
        self.root = root
        self.policy = policy
        self.good_tree = good_tree

    def judge(self, commit: Commit, moment: float) -> Verdict:
        """Hold every path that differs from the last good tree against its rules, by keys that are valid at `moment`.

        Raises:
            TreeFaultError: the tree of the commit, or of the last good one, is malformed.
            FetchError: an object is missing; nothing is decided.

        """
        delta = diff(self.objects, self.good_tree, commit.tree)
        reason = self._broken_glass(commit, moment)
        findings: list[Finding] = []
        faults: list[Refusal] = []
        for path, change in sorted(delta.items()):
            if len(faults) >= MAX_FAULTS:
                faults.append(replace(faults[-1], message=f"{faults[-1].message}; what follows it was not looked at"))
                return Verdict(tuple(findings), tuple(faults))
            found = self._findings(path, change, moment, broken=bool(reason))
            findings += found
            faults += [self._fault(commit, finding) for finding in found if not finding.holds]
            if not found:
                faults.append(self._denied(commit, path))
            elif not reason and all(finding.holds for finding in found):
                faults += self._over_limits(commit, path, change)
        changed = [path for path in sorted(delta) if is_root_path(path)]
        # Parsed only when the root role signed it: nobody else may keep the parsers busy, or stop the walk by what is missing.
        if self.policy is None or (changed and all(f.holds for f in findings if is_root_path(f.path))):
            more, refusals = self._judge_policy(commit, changed, moment)
            findings += more
            faults += refusals
        broken = reason if any(finding.rule.id == _GLASS for finding in findings) else ""
        return Verdict(tuple(findings), tuple(faults), broken)

    # --- one path -----------------------------------------------------------------------------------------------------

    def _findings(self, path: str, change: Change, moment: float, *, broken: bool) -> list[Finding]:
        """Hold a path against its rules. Its documents are parsed only when enough people stand behind them for some rules."""
        held = [self._hold(path, rule, moment) for rule in self._rules(path, broken=broken)]
        wide, narrow = [f for f in held if not f.rule.only], [f for f in held if f.rule.only]
        allowed = any(findings and all(finding.holds for finding in findings) for findings in (wide, narrow))
        return narrow if narrow and allowed and is_disable(self.objects, path, change) else wide

    def _rules(self, path: str, *, broken: bool) -> tuple[PathRule, ...]:
        if self.policy is None:
            return (PathRule(id=_PIN_RULE, paths=["**"], allow=sorted(self.root.people), threshold=self.root.threshold),)
        if broken and not is_root_path(path):
            assert self.policy.file.break_glass is not None  # noqa: S101 - that is what broke
            return (glass_rule(self.policy.file.break_glass, self.policy.rules_for(path)),)
        return self.policy.rules_for(path)

    def _hold(self, path: str, rule: PathRule, moment: float) -> Finding:
        """Count the people behind a path for one rule; the merged sides are looked at only where they could matter."""
        if self.evidence.looks > MAX_LOOKS:
            return Finding(
                path, rule, (), 0, "too much was merged and changed since the last good commit: take it back, in one commit"
            )
        makers = self.evidence.makers(path, self.good_tree)
        if len(makers) > MAX_PENDING:
            return Finding(path, rule, (), 0, f"over {MAX_PENDING:,} commits changed it since it was last good: revert it first")
        authors = self.evidence.authors(path, moment) if rule.four_eyes else set()
        if authors is None:
            return Finding(path, rule, (), 0, "it wants four eyes, and somebody who changed the path is not known")
        finding = Finding(path, rule, (), 0)
        for merged in (False, True):
            behind = self._behind(makers, path, rule, moment, merged=merged)
            counted = {one for person, one in behind.items() if one not in authors and self._allows(rule, person)}
            finding = Finding(path, rule, tuple(sorted(behind)), len(counted))
            if finding.holds:
                break
        return finding

    def _behind(self, makers: list[Seen], path: str, rule: PathRule, moment: float, *, merged: bool) -> dict[str, str]:
        """Give who stands behind each of the commits that made a path what it is, and as whom each of them counts."""
        everybody: dict[str, str] | None = None
        for maker in makers:
            found = self.evidence.vouchers(maker, path, self.good_tree, moment, merged=merged)
            vouchers = [voucher for voucher in found if _counts(rule, voucher)]
            # A forge's merge: else the host, with anybody's word, could land a branch that its people only signed.
            if not any(v.explicit and self._allows(rule, v.signed.person) for v in vouchers):
                vouchers = [v for v in vouchers if not v.hosted]
            people = {v.signed.person: v.signed.authority or v.signed.person for v in vouchers}
            everybody = people if everybody is None else {p: one for p, one in everybody.items() if p in people}
            if not everybody:
                break
        return everybody or {}

    def _allows(self, rule: PathRule, person: str) -> bool:
        return person in rule.allow if self.policy is None else self.policy.allows(rule.allow, person)

    def _over_limits(self, commit: Commit, path: str, change: Change) -> list[Refusal]:
        limits = [limit for limit in self.policy.file.limits if matches(limit.paths, path)] if self.policy is not None else []
        if not limits:
            return []
        rise = weight_rise(self.objects, path, change)
        return [
            Refusal(
                Code.PATH_DENIED,
                f"a weight rises by {rise:g}, the limit {limit.id!r} allows {limit.max_weight_step:g} in one commit",
                commit=commit.id,
                path=path,
                rule=limit.id,
                advice="go there in smaller steps",
            )
            for limit in limits
            if rise > limit.max_weight_step
        ]

    # --- the policy itself --------------------------------------------------------------------------------------------

    def _judge_policy(self, commit: Commit, changed: list[str], moment: float) -> tuple[list[Finding], list[Refusal]]:
        """A changed policy must be well-formed, of this repository, lock nobody out, and a new root must agree with itself."""
        try:
            new = load_policy(self.objects, commit.tree)
            self.check_repository(new)
            self._check_reach(new, commit)
        except RefusedError as error:
            return [], list(error.refusals)
        if self.policy is not None and new.root_identity() == self.policy.root_identity():
            return [], []
        people, threshold = new.file.root.people, new.file.root.threshold
        rule = PathRule(id=_NEW_ROOT, paths=["**"], allow=people, threshold=threshold)
        judge = Judge(self.evidence.under(Identities(new.signers, new.file.forges)), self.root, new, self.good_tree)
        findings = [judge._hold(path, rule, moment) for path in changed]
        return findings, [judge._fault(commit, finding) for finding in findings if not finding.holds]

    def check_repository(self, new: Policy) -> None:
        """Refuse a policy of another repository, or one that asks for less than what is pinned.

        Raises:
            RefusedError: it is.

        """
        if new.file.repo_id != self.root.repo_id:
            message = f"repo_id is not the pinned one ({self.root.repo_id}): another repository"
            raise RefusedError(Refusal(Code.WRONG_REPOSITORY, message, path=POLICY_PATH, advice="repo_id never changes"))
        if new.file.root.threshold < self.root.threshold:
            message = f"the root threshold falls below the pinned {self.root.threshold}"
            raise RefusedError(Refusal(Code.POLICY, message, path=POLICY_PATH, advice="raise root.threshold"))

    def _check_reach(self, new: Policy, commit: Commit) -> None:
        """Refuse a policy under which an existing path matches no rule: nobody could change it any more."""
        for path in diff(self.objects, None, commit.tree, most=sys.maxsize):
            if all(rule.only for rule in new.rules_for(path)):
                message = f"no rule would match {path}: nobody could change it any more"
                raise RefusedError(Refusal(Code.POLICY, message, path=POLICY_PATH, advice="add a rule for it"))

    # --- words --------------------------------------------------------------------------------------------------------

    def _broken_glass(self, commit: Commit, moment: float) -> str:
        """Give the reason in `Livecfg-Break-Glass: <reason>`, where policy knows a glass to break and its people say it.

        Somebody else's word must not turn a change that waits for a second person into one that does not.
        """
        if self.policy is None or self.policy.file.break_glass is None:
            return ""
        signed = self.evidence.identities.at(commit, moment)
        if not isinstance(signed, Signed) or not self.policy.allows(self.policy.file.break_glass.allow, signed.person):
            return ""
        return next((value for key, value in trailers(commit.message) if key == BREAK_GLASS), "")

    def _denied(self, commit: Commit, path: str) -> Refusal:
        message = f"no rule of {POLICY_PATH} allows changing it"
        advice = f"add a rule for it, by the root people ({_names(self._root_people())})"
        return Refusal(Code.PATH_DENIED, message, path=path, commit=commit.id, advice=advice)

    def _root_people(self) -> Iterable[str]:
        return self.policy.file.root.people if self.policy is not None else sorted(self.root.people)

    def _fault(self, commit: Commit, finding: Finding) -> Refusal:
        """Say who is missing: a path whose signers are not allowed at all, or not enough of them."""
        rule, signer = finding.rule, ", ".join(finding.behind)
        everybody = frozenset(rule.allow) if self.policy is None else self.policy.people(rule.allow)
        needs = f"the rule {rule.id!r} needs {rule.threshold} of its people and has {finding.count}"
        why = finding.why_not or f"{signer or 'nobody known'} vouches for it; {needs}{_demands(rule)}"
        others = sorted(everybody - set(finding.behind))
        # An adoption of another commit is no help. Where too much was looked at already, no more is.
        makers = [] if finding.why_not else [seen.commit.id for seen in self.evidence.makers(finding.path, self.good_tree)]
        advice = (
            f"{rule.threshold - finding.count} more of {_names(others) or 'nobody: change the policy'}: "
            + ", ".join(f"`livecfg adopt {made[:10]}`" for made in makers[:_TOLD] or [commit.id])
            + (", …" if len(makers) > _TOLD else "")
        )
        code = Code.THRESHOLD if finding.count else Code.PATH_DENIED
        if is_root_path(finding.path):
            code = Code.ROOT_REQUIRED
        return Refusal(code, why, commit=commit.id, path=finding.path, rule=rule.id, signer=signer, advice=advice)


def glass_rule(glass: BreakGlass, rules: Iterable[PathRule]) -> PathRule:
    """Give the one rule that stands for `rules` where the glass is broken.

    Where one of them binds signatures to the ref, so does this: what somebody broke the glass for on another branch is no word
    for this one.
    """
    bound = any(rule.bind_ref for rule in rules)
    return PathRule(id=_GLASS, paths=["**"], allow=glass.allow, threshold=glass.threshold, bind_ref=bound)


def applicable(policy: Policy, objects: Objects, path: str, change: Change) -> tuple[PathRule, ...]:
    """Give the rules that must hold for one change; one with `only` stands in for the others where the change is of its kind."""
    rules = policy.rules_for(path)
    narrow = tuple(rule for rule in rules if rule.only)
    if narrow and is_disable(objects, path, change):
        return narrow
    return tuple(rule for rule in rules if not rule.only)


def _counts(rule: PathRule, voucher: Voucher) -> bool:
    """Whether a signature is one that the rule takes."""
    signed = voucher.signed
    return (
        (voucher.bound or not rule.bind_ref) and (signed.touch or not rule.require_touch) and (signed.pin or not rule.require_pin)
    )


def _demands(rule: PathRule) -> str:
    wants: Mapping[str, bool] = {
        "authors do not count": rule.four_eyes,
        "only signatures with a Livecfg-Ref trailer count": rule.bind_ref,
        "only touched security keys count": rule.require_touch,
        "only security keys with a PIN count": rule.require_pin,
    }
    return "".join(f"; {text}" for text, wanted in wants.items() if wanted)


def _names(people: Iterable[str]) -> str:
    names = list(people)
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
