"""What every verb prints: data on stdout, talk on stderr, one JSON envelope, one table of exit codes."""

from __future__ import annotations

import json
import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from livecfg.refusal import Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F = TypeVar("F", bound="Callable[..., Any]")


class Exit(IntEnum):
    """Exit codes; 130 is an interrupt, as everywhere."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    ROLLED_BACK = 5
    TIMED_OUT = 6
    INTERRUPTED = 130


def output_option(*kinds: str) -> Callable[[F], F]:
    """Give the `-o/--output` option; text first."""
    return click.option("-o", "--output", type=click.Choice(["text", *kinds]), default="text", show_default=True)


def envelope(command: str, data: Any, *, ok: bool = True, findings: Iterable[Refusal] = ()) -> None:
    """Print the JSON envelope on stdout."""
    found = [finding.as_dict() for finding in findings]
    click.echo(json.dumps({"schema": "livecfg/cli/v1", "command": command, "ok": ok, "data": data, "findings": found}, indent=2))


def show_findings(findings: Iterable[Refusal], output: str = "text") -> None:
    """Print findings on stdout: one line each, aligned; for GitHub as workflow commands."""
    rows = list(findings)
    if output == "github":
        for r in rows:
            text = _github(f"{r.message}{f' ({r.advice})' if r.advice else ''}")
            click.echo(f"::error file={_github(r.path)},line={r.line or 1},col={r.column or 1},title={r.code.value}::{text}")
        return
    width = max((len(r.where or r.commit[:10]) for r in rows), default=0)
    for r in rows:
        advice = f" ({printable(r.advice)})" if r.advice else ""
        where = (r.where or r.commit[:10]).ljust(width)
        click.echo(f"{where}  {style('error', fg='red')} {r.code.value}  {printable(r.message)}{advice}")


def _github(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")


def style(text: str, **how: Any) -> str:
    """Colour text when stdout is a terminal and nobody asked for none."""
    forced = bool(os.environ.get("FORCE_COLOR"))
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return click.style(text, **how) if forced or not plain else text


def talk(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)


def fail(text: str, code: Exit = Exit.USAGE) -> NoReturn:
    """Say what is wrong on stderr and exit."""
    talk(f"livecfg: {text}")
    raise SystemExit(int(code))
