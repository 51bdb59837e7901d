"""`livecfg check` and `livecfg verify`: the same functions that every process runs, before it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, envelope, fail, output_option, show_findings, style
from livecfg.refusal import Refusal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from livecfg.revision import Objects


@click.command("check")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=".")
@click.option(
    "--model", default="", help="The application's model, module:Model; without it only the files' own form is checked."
)
@click.option("--service", default="", help="Only this service.")
@click.option("--env", default="", help="Only this environment.")
@output_option("json", "github")
def check(directory: Path, model: str, service: str, env: str, output: str) -> None:
    """Check the files of a configuration repository as they are now: syntax, manifest, policy, layers, flags, splits, model."""
    from livecfg.cli.effective import model_named, working_tree

    began = time.perf_counter()
    objects, tree_id = working_tree(directory)
    findings, scopes = find_faults(objects, tree_id, model_named(model), service, env)
    if output == "json":
        envelope("check", {"scopes": scopes}, ok=not findings, findings=findings)
    else:
        show_findings(findings, output)
    if output == "text":
        took = f"in {time.perf_counter() - began:.2f} s"
        if findings:
            code = findings[0].code.value
            click.echo(f"{len(findings)} error{'s' * (len(findings) > 1)} {took} · `livecfg explain {code}` tells more")
        else:
            click.echo(f"{style('ok', fg='green')}: {', '.join(scopes) or 'no service has a file yet'} {took}")
    raise SystemExit(int(Exit.FINDINGS if findings else Exit.OK))


def find_faults(
    objects: Objects, tree: str, model: type[BaseModel], service: str = "", env: str = ""
) -> tuple[list[Refusal], list[str]]:
    """Give every fault of a tree, each once, and the `service/env` that were looked at."""
    from livecfg.cli.effective import processes_in, snapshot_of
    from livecfg.errors import RefusedError
    from livecfg.refusal import Code
    from livecfg.trust.policy import load_policy
    from livecfg.trust.tree import TreeFaultError
    from livecfg.trust.tree import check as check_tree

    found: dict[Refusal, None] = {}
    scopes: list[str] = []
    try:
        check_tree(objects, tree, None)
        load_policy(objects, tree)
    except TreeFaultError as error:
        found[Refusal(Code.TREE_HYGIENE, str(error))] = None
    except RefusedError as error:
        found |= dict.fromkeys(error.refusals)
    try:
        processes = processes_in(objects, tree, service, env)
    except RefusedError as error:
        return [*found, *error.refusals], scopes
    for process in processes:
        scopes.append(f"{process.service}/{process.env}")
        try:
            snapshot_of(objects, tree, process, model)
        except RefusedError as error:
            found |= dict.fromkeys(error.refusals)
    return list(found), scopes


@click.command("verify")
@click.argument("revisions", default="HEAD", metavar="[RANGE]")
@click.option(
    "--trusted-root", type=click.Path(path_type=Path, dir_okay=False), help="Default: trusted_root.yaml beside the repository."
)
@click.option("--ref", default="main", show_default=True, help="The branch that the chain belongs to.")
@output_option("json")
def verify(revisions: str, trusted_root: Path | None, ref: str, output: str) -> None:
    """Verify signatures and policy of every commit of RANGE (A..B or B), offline. Exit 1: one of them is not authorised."""
    from livecfg.errors import RefusedError
    from livecfg.revision import Candidate
    from livecfg.trust.root import TrustedRoot
    from livecfg.trust.verify import Trusted
    from livecfg.trust.verify import verify as walk

    clone = Clone()
    first, dots, last = revisions.partition("..")
    tip = clone.resolve(last or "HEAD" if dots else first)
    shown = {c.id for c in clone.chain(tip, clone.resolve(first) if dots else "")}
    path = trusted_root or clone.root.parent / "trusted_root.yaml"
    try:
        root = TrustedRoot.parse(path.read_bytes(), str(path))
    except OSError as error:
        fail(f"cannot read the trusted root {path}: {error.strerror}; give --trusted-root, the file `livecfg init` wrote")
    try:
        result = walk(Candidate(ref, tip, clone), Trusted.start(root, ref), time.time())
        refusals, good = result.skipped, result.good
    except RefusedError as error:
        refusals, good = error.refusals, None
    findings = [r for r in refusals if r.commit in shown or not r.commit]
    newest = good.revision.commit if good is not None else ""
    if output == "json":
        rows = [{"commit": c, "ok": not any(r.commit == c for r in findings)} for c in sorted(shown)]
        envelope("verify", {"authorised": newest, "commits": rows}, ok=newest == tip, findings=findings)
    else:
        show_findings(findings)
        for r in findings:
            click.echo(f"  in commit {r.commit[:10]}" + (f", by {r.signer}" if r.signer else ""))
        state = style("ok", fg="green") if newest == tip else style("not authorised", fg="red")
        click.echo(f"{state}: {len(shown)} commits; the newest authorised one is {newest[:10] or 'none'}, the tip is {tip[:10]}")
    raise SystemExit(int(Exit.OK if newest == tip else Exit.FINDINGS))
