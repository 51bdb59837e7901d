"""What every verb prints: data on stdout, talk on stderr, one JSON envelope, one table of exit codes."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import click

from livecfg.refusal import Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F = TypeVar("F", bound="Callable[..., Any]")


class Exit(IntEnum):
    """Exit codes, as README.md lists them; 130 is an interrupt, as everywhere."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    TIMED_OUT = 6
    INTERRUPTED = 130


@dataclass(slots=True)
class Asked:
    """What the person asked of this run as a whole: the verb, the kind of output, and never to be asked back."""

    command: str = ""
    output: str = "text"
    no_input: bool = False


class CommandError(Exception):
    """Ends a command: a line for the person, the exit code, and what was refused, if anything was."""

    def __init__(self, text: str, code: Exit = Exit.USAGE, findings: Iterable[Refusal] = ()) -> None:
        self.code = code
        self.findings = tuple(findings)
        super().__init__(text)


def output_option(*kinds: str) -> Callable[[F], F]:
    """Give the `-o/--output` option; text first. What is chosen also holds for errors."""

    def remember(ctx: click.Context, _: click.Parameter, value: str) -> str:
        asked = asked_of(ctx)
        asked.command, asked.output = ctx.command_path.partition(" ")[2], value
        return value

    chosen = click.Choice(["text", *kinds])
    return click.option("-o", "--output", type=chosen, default="text", show_default=True, callback=remember, is_eager=True)


def asked_of(ctx: click.Context | None = None) -> Asked:
    """Give what was asked of this run."""
    ctx = ctx or click.get_current_context(silent=True)
    return (ctx.find_object(Asked) if ctx is not None else None) or Asked()


def may_ask() -> bool:
    """Whether there is somebody to ask: a terminal, and no `--no-input`."""
    return sys.stdin.isatty() and not asked_of().no_input


def ask_to_go_on(question: str, *, default: bool = False) -> None:
    """Ask a person whether to go on; the answer no ends the command, with exit code 1."""
    if not click.confirm(question, default=default, err=True):
        fail("nothing was changed", Exit.FINDINGS)


def envelope(
    command: str, data: Any, *, ok: bool = True, findings: Iterable[Refusal] = (), error: dict[str, Any] | None = None
) -> None:
    """Print the JSON envelope on stdout; `error` says why there are no data."""
    found = [finding.as_dict() for finding in findings]
    whole = {"schema": "livecfg/cli/v1", "command": command, "ok": ok, "data": data, "findings": found}
    click.echo(json.dumps(in_json(whole | ({"error": error} if error else {})), indent=2))


def in_json(value: Any) -> Any:
    """Give data with a text for every number that JSON does not have: "NaN", "Infinity", "-Infinity".

    Layers may hold them (`.nan`, `.inf`), and `json.dumps` would write words that most readers of JSON refuse. A text and not
    null, which would read as a value that is not set; protobuf's JSON has the same ones, and most languages make numbers of them.
    """
    if isinstance(value, dict):
        return {key: in_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(inner) for inner in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def show_findings(
    findings: Iterable[Refusal], output: str = "text", *, err: bool = False, level: Literal["error", "warning"] = "error"
) -> None:
    """Print findings on stdout (`err`: stderr): one line each, aligned; for GitHub as workflow commands."""
    rows = list(findings)
    if output == "github":
        for r in rows:
            text = _message(f"{r.message}{f' ({r.advice})' if r.advice else ''}")
            click.echo(f"::{level} file={_property(r.path)},line={r.line or 1},col={r.column or 1},title={r.code.value}::{text}")
        return
    width = max((len(r.where or r.commit[:10]) for r in rows), default=0)
    for r in rows:
        advice = f" ({printable(r.advice)})" if r.advice else ""
        where = (r.where or r.commit[:10]).ljust(width)
        what = style("error", fg="red") if level == "error" else style("warn", fg="yellow")
        click.echo(f"{where}  {what} {r.code.value}  {printable(r.message)}{advice}", err=err)


def _message(text: str) -> str:
    """Escape the text of a workflow command; line ends are escaped for the terminal already."""
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def style(text: str, **how: Any) -> str:
    """Colour text when stdout is a terminal and nobody asked for none."""
    forced = bool(os.environ.get("FORCE_COLOR"))
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return click.style(text, **how) if forced or not plain else text


def ago(moment: float) -> str:
    """Say how long ago a moment (Unix seconds) was."""
    seconds = max(0, int(time.time() - moment))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def talk(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)


def fail(text: str, code: Exit = Exit.USAGE) -> NoReturn:
    """End the command with a line that says what is wrong.

    Raises:
        CommandError: always; `ending` turns it into the line and the exit code.

    """
    raise CommandError(text, code)
