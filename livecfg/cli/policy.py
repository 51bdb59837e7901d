"""`livecfg policy show|test|explain`: who may change what, whether that is as meant, and what it said of a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, envelope, fail, output_option, style
from livecfg.refusal import Code, Refusal, printable

if TYPE_CHECKING:
    from livecfg.revision import Objects
    from livecfg.trust.policy import Policy
    from livecfg.trust.policy_tests import Outcome
    from livecfg.trust.rules import Finding
    from livecfg.trust.verify import Judged


@click.group("policy")
def policy() -> None:
    """Show and test the policy; explain what it says of a commit."""


@policy.command("show")
@click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag.")
@output_option("json")
def show(rev: str, output: str) -> None:
    """Print who may change what, by the policy of a revision."""
    from livecfg.trust.policy import load_policy

    clone = Clone()
    found = load_policy(clone, clone.commit(clone.resolve(rev)).tree)
    file = found.file
    if output == "json":
        rules = [rule.model_dump(mode="json") | {"people": sorted(found.people(rule.allow))} for rule in file.rules]
        envelope("policy show", file.model_dump(mode="json") | {"rules": rules, "people": sorted(found.keyholders)})
        return
    click.echo(f"repository  {file.repo_id}")
    rows = [("root", [".livecfg/**", "livecfg.yaml"], file.root.threshold, file.root.people, "")]
    rows += [(r.id, r.paths, r.threshold, sorted(found.people(r.allow)), _conditions(r)) for r in file.rules]
    width = max(len(row[0]) for row in rows)
    for name, paths, threshold, people, conditions in rows:
        click.echo(
            f"{style(printable(name).ljust(width), bold=True)}  {threshold} of {', '.join(people) or 'nobody'}{conditions}"
        )
        click.echo(f"{' ' * width}    for {', '.join(paths)}")
    if file.protected.envs or file.protected.keys:
        click.echo(f"protected   {', '.join([*file.protected.envs, *file.protected.keys])}")


def _conditions(rule: Any) -> str:
    return "".join(
        f", {name.replace('_', ' ')}"
        for name in ("four_eyes", "bind_ref", "require_touch", "require_pin", "fast")
        if getattr(rule, name)
    ) + (f", only {rule.only}" if rule.only else "")


# --- table tests ----------------------------------------------------------------------------------------------------------


@policy.command("test")
@click.option("-v", "--verbose", is_flag=True, help="Show what each rule found.")
@output_option("json", "github")
def test(verbose: bool, output: str) -> None:
    """Run the cases of .livecfg/policy_tests.yaml against the policy here. Exit 1: one of them is not as expected."""
    from pathlib import Path

    from livecfg.cli.files import files_here
    from livecfg.cli.output import show_findings
    from livecfg.trust.policy import load_policy
    from livecfg.trust.policy_tests import TESTS_PATH

    objects, tree = files_here(Path.cwd())
    outcomes = run_tests(objects, tree, load_policy(objects, tree))
    if outcomes is None:
        fail(f"there is no {TESTS_PATH}: it says who changes what, and whether that is allowed", Exit.FINDINGS)
    findings = test_faults(outcomes)
    rows = [
        {"name": o.case.name, "line": o.line, "ok": not o.why, "why": o.why, "rules": [_as_data(f) for f in o.findings]}
        for o in outcomes
    ]
    if output == "json":
        envelope("policy test", rows, ok=not findings, findings=findings)
    elif output == "github":
        show_findings(findings, output)
    for outcome in outcomes if output == "text" else []:
        state = style("fails", fg="red") if outcome.why else style("ok", fg="green")
        why = f": {printable(outcome.why)}" if outcome.why else ""
        click.echo(f"{state}  {TESTS_PATH}:{outcome.line}  {printable(outcome.case.name)}{why}")
        for finding in outcome.findings if verbose else ():
            click.echo(f"    {_told(finding)}")
    raise SystemExit(int(Exit.FINDINGS if findings else Exit.OK))


def run_tests(objects: Objects, tree: str, found: Policy) -> list[Outcome] | None:
    """Run the table tests of a tree; None when it has none.

    Raises:
        RefusedError: their file is malformed.

    """
    from livecfg.trust.policy_tests import TESTS_PATH, run_policy_tests
    from livecfg.trust.tree import lookup

    entry = lookup(objects, tree, TESTS_PATH)
    return run_policy_tests(found, objects.read(entry.id, "blob")) if entry is not None else None


def test_faults(outcomes: list[Outcome]) -> list[Refusal]:
    """Give the cases that failed as findings."""
    from livecfg.trust.policy_tests import TESTS_PATH

    advice = "change the policy, or what the case expects"
    return [
        Refusal(Code.POLICY, f"{o.case.name}: {o.why}", path=TESTS_PATH, line=o.line, column=1, advice=advice)
        for o in outcomes
        if o.why
    ]


# --- one commit -----------------------------------------------------------------------------------------------------------


@policy.command("explain")
@click.argument("revision", metavar="COMMIT", default="HEAD")
@output_option("json")
def explain(revision: str, output: str) -> None:
    """Say step by step why policy allowed or refused COMMIT, and who adopted it since. Exit 1: it is not authorised."""
    from livecfg.cli.judge import as_of_now, history
    from livecfg.trust.approvals import adopted

    clone = Clone()
    commit = clone.resolve(revision)
    judged = history(clone, clone.tip())
    if commit not in judged:
        judged = history(clone, commit)
    one = judged.get(commit) or fail(f"{commit[:10]} is not on the chain that applications walk: only what has landed is judged")
    since = [later for later in judged.values() if commit in adopted(later.commit)]
    healed = next((j for j in judged.values() if j.position > one.position and j.authorised), None)
    refusals = as_of_now(judged, one)
    if output == "json":
        data = {"commit": commit, "authorised": one.authorised, "signer": getattr(one.signed, "person", "")}
        data |= {"rules": [_as_data(f) for f in one.verdict.findings], "adopted_by": [j.commit.id for j in since]}
        data |= {"healed_by": healed.commit.id if healed is not None and not one.authorised else ""}
        envelope("policy explain", data, ok=one.authorised, findings=refusals)
    else:
        _tell(one, refusals, since, healed)
    raise SystemExit(int(Exit.OK if one.authorised else Exit.FINDINGS))


def _tell(one: Judged, refusals: tuple[Refusal, ...], since: list[Judged], healed: Judged | None) -> None:
    state = style("authorised", fg="green") if one.authorised else style("skipped", fg="red")
    click.echo(f'{one.commit.id[:10]} "{printable(one.commit.subject)}": {state}')
    person, fingerprint = getattr(one.signed, "person", ""), getattr(one.signed, "fingerprint", "")
    click.echo(f"  signed by {person} {fingerprint}".rstrip() if person else "  signed by nobody known")
    for finding in one.verdict.findings:
        click.echo(f"  {_told(finding)}")
    for refusal in refusals:
        click.echo(f"  {style('refused', fg='red')} {refusal}")
    if one.verdict.broke_glass:
        click.echo(f"  the glass was broken: {printable(one.verdict.broke_glass)}")
    for later in since:
        click.echo(f"  adopted in {later.commit.id[:10]} by {getattr(later.signed, 'person', 'nobody known')}")
    if healed is not None and not one.authorised:
        click.echo(f"  since {healed.commit.id[:10]} the branch holds again")


def _told(finding: Finding) -> str:
    mark = style("holds", fg="green") if finding.holds else style("lacks", fg="red")
    behind = ", ".join(map(printable, finding.behind)) or "nobody"
    why = f"; {finding.why_not}" if finding.why_not else ""
    needs = f"needs {finding.rule.threshold}, has {finding.count} ({behind})"
    return f"{mark}  {printable(finding.path)}  rule {finding.rule.id}: {needs}{why}"


def _as_data(finding: Finding) -> dict[str, Any]:
    return {
        "path": printable(finding.path),
        "rule": finding.rule.id,
        "needs": finding.rule.threshold,
        "has": finding.count,
        "behind": list(finding.behind),
        "holds": finding.holds,
        "why_not": finding.why_not,
    }
