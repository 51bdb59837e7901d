"""`livecfg verify`: who stands behind each commit, by the same walk that every process runs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, envelope, output_option, show_findings, style


@click.command("verify")
@click.argument("revisions", default="HEAD", metavar="[RANGE]")
@click.option(
    "--trusted-root", type=click.Path(path_type=Path, dir_okay=False), help="Default: trusted_root.yaml beside the repository."
)
@click.option("--ref", default="main", show_default=True, help="The branch that the chain belongs to.")
@output_option("json")
def verify(revisions: str, trusted_root: Path | None, ref: str, output: str) -> None:
    """Verify signatures and policy of every commit of RANGE (A..B or B), offline. Exit 1: one of them is not authorised."""
    from livecfg.cli.judge import read_root
    from livecfg.errors import RefusedError
    from livecfg.revision import Candidate
    from livecfg.trust.verify import Trusted
    from livecfg.trust.verify import verify as walk

    clone = Clone()
    first, dots, last = revisions.partition("..")
    tip = clone.resolve(last or "HEAD" if dots else first)
    shown = {c.id for c in clone.chain(tip, clone.resolve(first) if dots else "")}
    root = read_root(clone, trusted_root)
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
