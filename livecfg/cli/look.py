"""`livecfg get|explain|version`: look at one revision, change nothing."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any, TypeVar

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, ago, envelope, fail, in_json, output_option, style
from livecfg.refusal import printable

F = TypeVar("F", bound="Callable[..., Any]")

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.origin import Origin


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
        value = in_json(value_at(snapshot, key) if key else plain(snapshot.config))
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
    from livecfg.cli.judge import start_of
    from livecfg.trust.history import last_change

    clone, snapshot, commit = _loaded(service, env, rev)
    try:
        origin = snapshot.explain(key)
    except KeyError:
        fail(f"{key} is no key, flag or split of this service", Exit.FINDINGS)
    if origin.path:
        origin = last_change(clone, commit, origin, start_of(clone, commit, clone))
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
        who = f"(author {printable(origin.author)}{signed}, {ago(origin.committed_at)})"
        click.echo(
            f'  from   {origin.path}:{origin.line}:{origin.column}   {origin.commit[:10]} "{printable(origin.subject)}" {who}'
        )
    if origin.losers:
        click.echo(f"  over   {' · '.join(origin.losers)}")


def _explain_code(code: str, output: str) -> None:
    from livecfg.cli.codes import CODES
    from livecfg.refusal import Code

    try:
        row = CODES[Code(code)]
    except (ValueError, KeyError):
        fail(f"{code} is no code of livecfg; codes run from {min(CODES)} to {max(CODES)}")
    if output == "json":
        envelope("explain", {"code": code, "what": row.what, "why": row.why, "advice": row.advice})
    else:
        click.echo(f"{style(code, bold=True)}  {row.what}\n  why          {row.why}\n  what to do   {row.advice}")


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
