"""Who still has to approve a branch: its merge is judged as applications would, before anybody makes it.

What the people who merge add is theirs to add; here nobody merges, so that what holds now holds whoever does it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from livecfg.errors import LivecfgError
from livecfg.refusal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.cli.clone import Clone
    from livecfg.trust.policy import Policy
    from livecfg.trust.rules import Verdict


def lacking(clone: Clone, branch: str, target: str, policy: Policy) -> list[dict[str, Any]]:
    """Give what each rule lacks, for which paths, if the commit `branch` were merged into `target`, a full ref, by nobody.

    Raises:
        LivecfgError: the two have no history in common, or a shallow clone does not hold what is needed to know.
        TreeFaultError: a tree is malformed.

    """
    missing: dict[tuple[str, int, int, tuple[str, ...], tuple[str, ...], str], list[str]] = defaultdict(list)
    verdict = _verdict(clone, branch, target, policy)
    for finding in verdict.findings:
        if not finding.holds:
            others = tuple(sorted(policy.people(finding.rule.allow) - set(finding.behind)))
            row = (finding.rule.id, finding.rule.threshold, finding.count, finding.behind, others, finding.why_not)
            missing[row].append(finding.path)
    lacks = {finding.path for finding in verdict.findings if not finding.holds}
    for fault in verdict.faults:  # no rule allows it, a limit, a policy that does not hold: people do not help
        if fault.path not in lacks:
            missing[fault.rule, 0, 0, (), (), fault.message].append(fault.path)
    names = ("rule", "needs", "has", "behind", "others", "why_not")
    return [dict(zip(names, row, strict=True)) | {"paths": paths} for row, paths in missing.items()]


def told(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Say it, a line for each rule."""
    from livecfg.cli.effective import listed

    for row in rows:
        behind = ", ".join(map(printable, row["behind"])) or "nobody"
        missing = (
            f"{row['needs'] - row['has']} more of {listed(row['others'])}" if row["others"] else "nobody else may approve it"
        )
        paths = listed(map(printable, row["paths"]))
        rule = f"rule {printable(row['rule'])}: " if row["rule"] else ""
        if row["why_not"]:
            yield f"would be refused: {rule}{printable(row['why_not'])}: {paths}"
        else:
            yield f"still missing: {rule}has {row['has']} of {row['needs']} ({behind}); {missing}: {paths}"


def _verdict(clone: Clone, branch: str, target: str, policy: Policy) -> Verdict:
    from dulwich.graph import find_merge_base

    from livecfg.cli.judge import root_of
    from livecfg.trust.approvals import Evidence, Identities, Seen
    from livecfg.trust.rules import Judge

    tip = clone.resolve(target)
    bases = [found.decode() for found in find_merge_base(clone.repo, [tip.encode(), branch.encode()])]  # type: ignore[list-item]
    if not bases:
        raise LivecfgError(f"{branch[:10]} has no history in common with {target.removeprefix('refs/heads/')}")
    base = clone.commit(bases[0])
    merge = replace(clone.commit(branch), id="", parents=(base.id, branch), signature=None, message="", payload=b"")
    evidence = Evidence(clone, Identities(policy.signers, policy.file.forges), f"{policy.file.repo_id} {target}")
    evidence.trees.know(merge)
    evidence.note(Seen(merge, frozenset()))
    return Judge(evidence, root_of(clone, tip, clone), policy, base.tree).judge(merge, time.time())
