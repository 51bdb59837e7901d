"""`livecfg verify`: who stands behind each commit, by the same walk that every process runs; also as a pre-receive hook."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import CommandError, Exit, envelope, fail, output_option, show_findings, style, talk

if TYPE_CHECKING:
    from livecfg.trust.root import TrustedRoot
    from livecfg.trust.verify import Judged

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command("verify")
@click.argument("revisions", default="HEAD", metavar="[RANGE]")
@click.option("--trusted-root", type=_PATH, help="Default: as `init` noted, else trusted_root.yaml beside the repository.")
@click.option("--ref", default="", help="The branch that applications follow; default: as `init` noted, the remote's, or main.")
@click.option("--pre-receive", is_flag=True, help="Judge a push: `OLD NEW REF` lines on stdin, as git gives them to the hook.")
@output_option("json")
def verify(revisions: str, trusted_root: Path | None, ref: str, pre_receive: bool, output: str) -> None:
    """Verify signatures and policy of every commit of RANGE (A..B or B), offline. Exit 1: its last one is not authorised.

    Exit 3: applications would refuse the branch: it is another repository, or was merged the wrong way round.
    """
    from livecfg.cli.judge import as_of_now, check_way_round, followed, read_root

    clone = Clone()
    root, ref = read_root(clone, trusted_root), followed(clone, ref)
    if pre_receive:
        _receive(clone, root, ref)
        return
    first, dots, last = revisions.partition("..")
    tip = clone.resolve(last or "HEAD" if dots else first)
    shown = [c.id for c in clone.chain(tip, clone.resolve(first) if dots else "")][::-1]
    judged = _judged(clone, tip, root, ref)
    if clone.repo.refs.follow(b"HEAD") == ([b"HEAD", ref.encode()], tip.encode()):  # type: ignore[arg-type]  # dulwich's NewType
        check_way_round(clone, tip, ref)  # of a proposal nothing is expected that its merge does not give it
    newest = next((j.commit.id for j in reversed(judged.values()) if j.authorised), "")
    refused = [judged[commit] for commit in shown if commit in judged and judged[commit].refusals]
    findings = [r for one in refused for r in as_of_now(judged, one)]
    if output == "json":
        envelope(
            "verify", {"authorised": newest, "commits": [_row(judged, c) for c in shown]}, ok=newest == tip, findings=findings
        )
    else:
        show_findings(findings)
        for r in findings:
            click.echo(f"  in commit {r.commit[:10]}" + (f", by {r.signer}" if r.signer else ""))
        state = style("ok", fg="green") if newest == tip else style("not authorised", fg="red")
        click.echo(f"{state}: {len(shown)} commits; the newest authorised one is {newest[:10] or 'none'}, the tip is {tip[:10]}")
    raise SystemExit(int(Exit.OK if newest == tip else Exit.FINDINGS))


def _judged(clone: Clone, tip: str, root: TrustedRoot, ref: str) -> dict[str, Judged]:
    """Judge the chain, by commit id.

    Raises:
        RefusedError: it is not the pinned repository, or does not contain the anchor.

    """
    from livecfg.revision import Candidate
    from livecfg.trust.root import Trusted
    from livecfg.trust.verify import judgements

    trusted = Trusted.start(root, ref.removeprefix("refs/heads/"))
    return {j.commit.id: j for j in judgements(Candidate(trusted.ref, tip, clone), trusted, time.time())}


def _row(judged: dict[str, Judged], commit: str) -> dict[str, Any]:
    one = judged.get(commit)
    if one is None:
        return {"commit": commit, "ok": False, "signer": "", "vouchers": [], "refusals": []}
    refusals = [r.as_dict() for r in one.refusals]
    signer = getattr(one.signed, "person", "")
    return {"commit": commit, "ok": one.authorised, "signer": signer, "vouchers": list(one.vouchers), "refusals": refusals}


def _receive(clone: Clone, root: TrustedRoot, ref: str) -> None:
    """Refuse a push that applications would skip or call a rollback; what only waits for more people may land.

    Raises:
        CommandError, RefusedError: the push is refused.

    """
    from livecfg.cli.judge import only_waits, tell_waiting

    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        if len(words) != 3:
            fail(f"expected lines of the form OLD NEW REF on stdin, as git gives them to a pre-receive hook, got {line[:200]!r}")
        old, new, name = words
        if name != ref:
            continue
        if set(new) == {"0"}:
            fail(f"{name} is what applications follow: it may not be deleted", Exit.REFUSED)
        if set(old) != {"0"} and old not in {c.id for c in clone.chain(new)}:
            fail(f"{name} would no longer contain {old[:10]}: revert on top of it instead (LC320)", Exit.REFUSED)
        judged = _judged(clone, new, root, ref)
        if new not in judged:
            fail(f"{new[:10]} or a commit below it is dated in the future", Exit.REFUSED)
        if not only_waits(clone, list(judged.values())):
            raise CommandError(f"applications would skip {new[:10]}", Exit.REFUSED, judged[new].refusals)
        tell_waiting(judged[new].refusals)
        talk(f"{name}: {new[:10]} {'waits' if judged[new].refusals else 'is authorised'}")
