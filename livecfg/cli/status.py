"""`livecfg status`: what the processes of this host serve."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from livecfg.cli.output import Exit, ago, envelope, output_option, style
from livecfg.refusal import printable


@click.command("status")
@click.option("--home", default="", help="Where the mirrors are; default: LIVECFG_HOME.")
@output_option("json")
def status(home: str, output: str) -> None:
    """Show what the processes of this host serve: revision, age, source, refusals, overrides. Exit 1: one is not READY."""
    from livecfg.environment import read_environment
    from livecfg.git.reports import Reports

    folder = Path(home) if home else read_environment(os.environ).home
    reports = []
    for kept in map(Reports, sorted(folder.glob("*/processes"))):
        found = kept.read()
        reports += [report for boot, data in found.items() if kept.is_alive(boot) and (report := _read(data))]
    well = all(r["condition"] == "READY" for r in reports)
    if output == "json":
        envelope("status", reports, ok=well)
    elif not reports:
        click.echo(f"no process of this host reports under {folder}")
    for r in reports if output == "text" else []:
        commit = (r.get("applied") or {}).get("commit", "")
        since = f", since {ago(r['applied_at'])}" if r.get("applied_at") else ""
        role = "fetches for the host" if r.get("fetcher") else "follows the mirror"
        color = {"READY": "green", "REFUSED": "red", "STALE": "yellow"}.get(r["condition"])
        state = f"{style(r['condition'], fg=color)} {commit[:10]}{since}"
        click.echo(f"{r['service']}/{r['env']} pid {r['pid']}: {state}; {role}; {r['source']}")
        for text in [r["reason"], *r["overrides"], *r["drift"]]:
            if text:
                click.echo(f"    {printable(text)}")
    raise SystemExit(int(Exit.OK if well else Exit.FINDINGS))


def _read(data: bytes) -> dict[str, Any]:
    try:
        report = json.loads(data)
        return report if isinstance(report, dict) and "pid" in report else {}
    except ValueError:
        return {}
