"""`livecfg suspend|resume`: a signed file that keeps new revisions from a service, and the commit that takes it away."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, fail, output_option, talk
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path

_ENV = click.option("--env", default="", help="Only this environment; default: all of them.")
_MESSAGE = click.option("-m", "--message", default="", help="Why; goes into the commit.")
_UNITS = {"m": 60, "h": 3600, "d": 86400}


@click.command("suspend")
@click.argument("service")
@_ENV
@click.option("--until", default="", help="Its end: 2026-11-27T18:00Z, or 30m, 2h, 3d from now; default: `livecfg resume`.")
@_MESSAGE
@key_option
@output_option("json")
def suspend(
    service: str,
    env: str,
    until: str,
    message: str,
    key: Path | None,
    output: str,  # noqa: ARG001 - read where it is printed
) -> None:
    """Let SERVICE take nothing new over; what a `fast` rule covers (a kill) and rollbacks still come through."""
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft

    clone = Clone()
    if not message.strip():
        fail("say why: -m WHY")
    name, path = _named(service, env)
    end = _moment(until) if until else ""
    _tell_unknown(clone, service, env)
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    draft.current(path)  # refuses to overwrite what is not committed
    text = f"reason: {json.dumps(message.strip(), ensure_ascii=False)}\n" + (f"until: {end}\n" if end else "")
    draft.put(path, text.encode())
    check(clone, draft)
    record(draft, f"Suspend {name}: {message.strip()}", signer, f"{name} is suspended" + (f" until {end}" if end else ""))


@click.command("resume")
@click.argument("service")
@_ENV
@_MESSAGE
@key_option
@output_option("json")
def resume(service: str, env: str, message: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - read where it is printed
    """Let SERVICE go on: it takes over all that came meanwhile, at once."""
    from livecfg.cli.change import record
    from livecfg.cli.draft import Draft
    from livecfg.trust.tree import lookup

    clone = Clone()
    name, path = _named(service, env)
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    if lookup(clone, draft.tree(), path) is None:
        fail(f"{name} is not suspended: there is no {path}", Exit.FINDINGS)
    draft.current(path)
    draft.remove(path)
    record(draft, f"Resume {name}" + (f": {message.strip()}" if message.strip() else ""), signer, f"{name} goes on")


def _tell_unknown(clone: Clone, service: str, env: str) -> None:
    """Say what is likely a slip of the pen; a service whose layers are all shared has no file, and may be suspended."""
    from livecfg.cli.effective import names_of, processes_in

    known = processes_in(clone, clone.commit(clone.tip()).tree)
    if not any(p.service == service and env in {"", p.env} for p in known):
        name = f"{service}/{env}" if env else service
        talk(f"the layers have no file for {name}; is it meant so? There are {names_of(known)}")


def _named(service: str, env: str) -> tuple[str, str]:
    """What to call it, and the path of its file."""
    from livecfg.layers import NAME
    from livecfg.trust.suspension import path_of

    for text in (service, *filter(None, [env])):
        if not NAME.fullmatch(text):
            fail(f"{text!r} is no name of a service or environment")
    return f"{service}/{env}" if env else service, path_of(service, env)


def _moment(text: str) -> str:
    """The time that an option means, in UTC, as it is written into the file."""
    if match := re.fullmatch(r"([1-9]\d{0,4})([mhd])", text):
        at = datetime.fromtimestamp(time.time() + int(match[1]) * _UNITS[match[2]], UTC)
        return at.isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        fail(f"--until: expected a time with its zone, such as 2026-11-27T18:00Z, or 2h; got {text!r}")
    if found.timestamp() <= time.time():
        fail(f"--until: {text} is over already")
    return found.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
