"""`livecfg log`: the history of the branch or of one key, with author and signer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.clone import Clone
from livecfg.cli.look import scope_options
from livecfg.cli.output import envelope, output_option, style
from livecfg.refusal import printable

if TYPE_CHECKING:
    from livecfg.revision import Commit
    from livecfg.trust.verify import Judged


@click.command("log")
@click.argument("key", default="")
@scope_options
@click.option("-n", "--number", type=click.IntRange(min=0), default=20, show_default=True, help="How many.")
@output_option("json")
def log(key: str, service: str, env: str, rev: str, number: int, output: str) -> None:
    """History of the branch, or of one KEY: what it was, since when, by whom, signed by whom, and what policy said of it."""
    from livecfg.cli.judge import history

    clone = Clone()
    tip = clone.resolve(rev)
    rows = _key_rows(clone, tip, key, service, env) if key else ((commit, None) for commit in clone.chain(tip))
    judged = history(clone, tip)
    shown = [_row(commit, judged.get(commit.id)) | ({"value": value} if key else {}) for commit, value in islice(rows, number)]
    if output == "json":
        envelope("log", shown)
        return
    for row in shown:
        signed = f"signed {row['signer']}" if row["signer"] else style("not signed by anybody known", fg="red")
        state = "" if row["authorised"] else f", {style('skipped', fg='red')}"
        value = f"  = {json.dumps(row['value'])}" if key else ""
        by = f"{printable(row['author'])}, {signed}{state}{value}"
        click.echo(f"{row['commit'][:10]}  {_moment(row['time'])}  {by}  {printable(row['subject'])}")


def _row(commit: Commit, judged: Judged | None) -> dict[str, Any]:
    """What is known of a commit; nothing of one that the walk did not reach."""
    signer = getattr(judged.signed, "person", "") if judged is not None else ""
    row = {"commit": commit.id, "time": commit.committer_time, "author": commit.author, "signer": signer}
    return row | {"authorised": judged is not None and judged.authorised, "subject": commit.subject}


def _key_rows(clone: Clone, tip: str, key: str, service: str, env: str) -> Any:
    """Give (commit, value) for each commit that gave the key another value; newest first."""
    from livecfg.cli.effective import one_process, same, snapshot_of, value_at
    from livecfg.errors import RefusedError

    process = one_process(clone, clone.commit(tip).tree, service, env)
    values: dict[str, Any] = {}

    def value(commit: Commit) -> Any:
        if commit.tree not in values:
            try:
                values[commit.tree] = value_at(snapshot_of(clone, commit.tree, process), key)
            except (KeyError, RefusedError):
                values[commit.tree] = None
        return values[commit.tree]

    for commit in clone.chain(tip):
        before = value(clone.commit(commit.parents[0])) if commit.parents else None
        if not same(value(commit), before):
            yield commit, value(commit)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
