"""`livecfg get|explain|diff|log|status|version`: look, change nothing."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any, TypeVar

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, envelope, fail, output_option, style
from livecfg.refusal import printable

F = TypeVar("F", bound="Callable[..., Any]")

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.origin import Origin
    from livecfg.revision import Commit


def scope_options(command: F) -> F:
    """Add --service, --env and --rev."""
    for option in (
        click.option("--service", default="", help="Service; needed when there are several."),
        click.option("--env", default="", help="Environment; needed when there are several."),
        click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag."),
    ):
        command = option(command)
    return command


def _loaded(service: str, env: str, rev: str) -> tuple[Clone, Any, str]:
    from livecfg.cli.effective import one_process, snapshot_of

    clone = Clone()
    commit = clone.resolve(rev)
    tree = clone.commit(commit).tree
    process = one_process(clone, tree, service, env)
    return clone, snapshot_of(clone, tree, process), commit


@click.command("get")
@click.argument("key", default="")
@scope_options
@output_option("json")
def get(key: str, service: str, env: str, rev: str, output: str) -> None:
    """Print the effective value of KEY (default: everything) for a service and env."""
    from livecfg.cli.effective import plain, value_at

    _, snapshot, commit = _loaded(service, env, rev)
    try:
        value = value_at(snapshot, key) if key else plain(snapshot.config)
    except KeyError:
        fail(f"{key} is set by no layer of {service or 'this service'}", Exit.FINDINGS)
    if output == "json":
        envelope("get", {"key": key, "value": value, "commit": commit})
    else:
        click.echo(value if isinstance(value, str) else json.dumps(value, indent=2 if isinstance(value, dict | list) else None))


@click.command("explain")
@click.argument("key")
@scope_options
@output_option("json")
def explain(key: str, service: str, env: str, rev: str, output: str) -> None:
    """Say where the value of KEY comes from (config key, flag or split), or what an error code like LC204 means."""
    if key.upper().startswith("LC") and key[2:].isdigit():
        _explain_code(key.upper(), output)
        return
    from livecfg.cli.effective import value_at
    from livecfg.trust.history import last_change

    clone, snapshot, commit = _loaded(service, env, rev)
    try:
        origin = snapshot.explain(key)
    except KeyError:
        fail(f"{key} is no key, flag or split of this service", Exit.FINDINGS)
    if origin.path:
        origin = last_change(clone, commit, origin)
    try:
        value = value_at(snapshot, key)
    except KeyError:
        value = None  # a flag or a split: `flags eval` shows what it gives
    if output == "json":
        data = {name: getattr(origin, name) for name in origin.__slots__} | {"value": value}
        envelope("explain", data)
        return
    _show_origin(origin, value)


def _show_origin(origin: Origin, value: Any) -> None:
    click.echo(style(origin.key, bold=True) + (f" = {json.dumps(value)}" if value is not None else ""))
    if not origin.path:
        click.echo(f"  from   {origin.layer}")
    else:
        signed = f", signed {', '.join(origin.signers)}" if origin.signers else ", not signed by anybody known"
        who = f"(author {printable(origin.author)}{signed}, {_ago(origin.committed_at)})"
        click.echo(
            f'  from   {origin.path}:{origin.line}:{origin.column}   {origin.commit[:10]} "{printable(origin.subject)}" {who}'
        )
    if origin.losers:
        click.echo(f"  over   {' · '.join(origin.losers)}")


def _explain_code(code: str, output: str) -> None:
    from livecfg.cli.codes import CODES
    from livecfg.refusal import Code

    try:
        summary, advice = CODES[Code(code)]
    except (ValueError, KeyError):
        fail(f"{code} is no code of livecfg; codes run from LC101 to LC502")
    if output == "json":
        envelope("explain", {"code": code, "summary": summary, "advice": advice})
    else:
        click.echo(f"{style(code, bold=True)}  {summary}\n  what to do   {advice}")


@click.command("diff")
@click.argument("revisions", default="HEAD", metavar="[A..B]")
@click.option("--service", default="", help="Only this service.")
@click.option("--env", default="", help="Only this environment.")
@output_option("json")
def diff(revisions: str, service: str, env: str, output: str) -> None:
    """Show the effective difference A..B per service and env (A alone: against the files here). Exit 1: there is one."""
    from livecfg.cli.effective import flat, plain, processes_in, snapshot_of, working_tree

    clone = Clone()
    before, dots, after = revisions.partition("..")
    old_tree = clone.commit(clone.resolve(before or "HEAD")).tree
    if dots:
        new_objects: Any = clone
        new_tree = clone.commit(clone.resolve(after or "HEAD")).tree
    else:
        new_objects, new_tree = working_tree(clone.root)
    changes: list[dict[str, Any]] = []
    for process in processes_in(new_objects, new_tree, service, env):
        old = flat(plain(snapshot_of(clone, old_tree, process).config))
        new = flat(plain(snapshot_of(new_objects, new_tree, process).config))
        changes += [
            {"service": process.service, "env": process.env, "key": key, "old": old.get(key), "new": new.get(key)}
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
    if output == "json":
        envelope("diff", changes, ok=not changes)
    for c in changes if output == "text" else []:
        old_text, new_text = (json.dumps(v) if v is not None else "(not set)" for v in (c["old"], c["new"]))
        click.echo(f"{c['service']}/{c['env']}  {c['key']}: {style(old_text, fg='red')} → {style(new_text, fg='green')}")
    raise SystemExit(int(Exit.FINDINGS if changes else Exit.OK))


@click.command("log")
@click.argument("key", default="")
@scope_options
@click.option("-n", "--number", default=20, show_default=True, help="How many.")
@output_option("json")
def log(key: str, service: str, env: str, rev: str, number: int, output: str) -> None:
    """History of the branch, or of one KEY: what it was, since when, by whom, signed by whom."""
    clone = Clone()
    tip = clone.resolve(rev)
    rows = _key_rows(clone, tip, key, service, env) if key else ((commit, "") for commit in clone.chain(tip))
    shown: list[dict[str, Any]] = []
    for commit, value in rows:
        shown.append(
            {"commit": commit.id, "time": commit.committer_time, "author": commit.author, "signer": _signer(clone, commit)}
        )
        shown[-1] |= {"subject": commit.subject} | ({"value": value} if key else {})
        if len(shown) >= number:
            break
    if output == "json":
        envelope("log", shown)
        return
    for row in shown:
        signed = f"signed {row['signer']}" if row["signer"] else style("not signed by anybody known", fg="red")
        value = f"  = {json.dumps(row['value'])}" if key else ""
        by = f"{printable(row['author'])}, {signed}{value}"
        click.echo(f"{row['commit'][:10]}  {_moment(row['time'])}  {by}  {printable(row['subject'])}")


def _key_rows(clone: Clone, tip: str, key: str, service: str, env: str) -> Any:
    """Give (commit, value) for each commit that gave the key another value; newest first."""
    from livecfg.cli.effective import one_process, snapshot_of, value_at
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
        if value(commit) != before:
            yield commit, value(commit)


def _signer(clone: Clone, commit: Commit) -> str:
    from livecfg.errors import RefusedError
    from livecfg.trust.identify import Signed, identify
    from livecfg.trust.policy import load_policy

    try:
        signed = identify(commit, load_policy(clone, commit.tree).signers)
    except RefusedError:
        return ""
    return signed.person if isinstance(signed, Signed) else ""


@click.command("status")
@click.option("--home", default="", help="Where the mirrors are; default: LIVECFG_HOME.")
@output_option("json")
def status(home: str, output: str) -> None:
    """Show what the processes of this host serve: revision, age, source, refusals, overrides. Exit 1: one is not READY."""
    from pathlib import Path

    from livecfg.environment import read_environment
    from livecfg.git.faults import pid_alive

    folder = Path(home) if home else read_environment(os.environ).home
    reports = []
    for path in sorted(folder.glob("*/processes/*.json")):
        try:
            report = json.loads(path.read_text())
            if pid_alive(int(report["pid"])):
                reports.append(report)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being replaced, or no report of ours
    well = all(r["condition"] == "READY" for r in reports)
    if output == "json":
        envelope("status", reports, ok=well)
    elif not reports:
        click.echo(f"no process of this host reports under {folder}")
    for r in reports if output == "text" else []:
        commit = (r.get("applied") or {}).get("commit", "")
        since = f", since {_ago(r['applied_at'])}" if r.get("applied_at") else ""
        role = "fetches for the host" if r.get("fetcher") else "follows the mirror"
        color = {"READY": "green", "REFUSED": "red", "STALE": "yellow"}.get(r["condition"])
        state = f"{style(r['condition'], fg=color)} {commit[:10]}{since}"
        click.echo(f"{r['service']}/{r['env']} pid {r['pid']}: {state}; {role}; {r['source']}")
        for text in [r["reason"], *r["overrides"], *r["drift"]]:
            if text:
                click.echo(f"    {printable(text)}")
    raise SystemExit(int(Exit.OK if well else Exit.FINDINGS))


@click.command("version")
@output_option("json")
def version(output: str) -> None:
    """Versions of livecfg, Python and the libraries that matter."""
    data = {"livecfg": _version("livecfg"), "python": platform.python_version(), "platform": platform.platform()}
    data |= {
        name: _version(name)
        for name in ("dulwich", "cryptography", "pydantic", "grpcio", "protobuf", "PyYAML", "mmh3", "watchdog")
    }
    if output == "json":
        envelope("version", data)
    else:
        for name, text in data.items():
            click.echo(f"{name:<14}{text}")


def _version(name: str) -> str:
    try:
        return package_version(name)
    except PackageNotFoundError:
        return "not installed"


def _ago(moment: float) -> str:
    seconds = max(0, int(time.time() - moment))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
