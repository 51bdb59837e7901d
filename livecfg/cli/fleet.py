"""`livecfg fleet status|wait`: who serves what, asked of the hub."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.hub._pb import hub_pb2

UNREACHABLE, TIMED_OUT = 4, 6
_COMES_BACK_S = 20.0
_ASK_AGAIN_S = 5.0


@click.group("fleet")
def fleet() -> None:
    """Look at the fleet: instances by revision, stragglers, drift."""


def _options(command: Any) -> Any:
    for option in (
        click.option("--hub", default="", help="host:port of the hub; default: LIVECFG_HUB or 127.0.0.1:7443."),
        click.option("--service", default="", help="Only this service."),
        click.option("--env", default="", help="Only this environment."),
        click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
    ):
        command = option(command)
    return command


@fleet.command("status")
@_options
def status(hub: str, service: str, env: str, output: str) -> None:
    """Show every process with the revision it serves, and what the newest one is."""
    reply = next(_replies(hub, service, env, "Fleet", 10.0), None)
    if reply is None:
        raise _unreachable(hub)
    from livecfg.hub.report import as_data

    processes = [as_data(process) for process in reply.processes]
    data = {"tip": reply.tip.commit, "ref": reply.tip.ref, "processes": processes}
    behind = [p for p in processes if p["applied"] != reply.tip.commit]
    if output == "json":
        envelope = {"schema": "livecfg/cli/v1", "command": "fleet status", "ok": not behind, "data": data, "findings": []}
        click.echo(json.dumps(envelope, indent=2))
    else:
        _table(reply, processes)


@fleet.command("wait")
@_options
@click.option("--rev", required=True, help="Commit id, at least 7 digits of it.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds.")
def wait(hub: str, service: str, env: str, output: str, rev: str, timeout_s: float) -> None:
    """Block until every process serves REV or something newer. Exit 0: converged, 6: timed out, 4: no hub."""
    if len(rev) < 7:  # git's own shortest abbreviation
        raise click.UsageError("--rev: give at least 7 digits of a commit id")
    began = time.monotonic()
    last: hub_pb2.FleetReply | None = None
    for last in _watched(hub, service, env, timeout_s):
        if _counted(last) and not _behind(last, rev):
            text = f"{len(_counted(last))} processes serve {rev[:10]} after {time.monotonic() - began:.2f} s"
            _finish(output, text, ok=True)
            return
    if last is None:
        raise _unreachable(hub)
    behind = _behind(last, rev)
    names = ", ".join(sorted({f"{p.service}/{p.env} pid {p.pid} on {p.host}" for p in behind})[:10])
    _finish(output, f"timed out after {timeout_s:g} s; not there yet: {names or 'no process reports at all'}", ok=False)
    raise SystemExit(TIMED_OUT)


def _finish(output: str, text: str, *, ok: bool) -> None:
    if output == "json":
        envelope = {"schema": "livecfg/cli/v1", "command": "fleet wait", "ok": ok, "data": {"message": text}, "findings": []}
        click.echo(json.dumps(envelope))
    else:
        click.echo(text, err=not ok)


def _behind(reply: hub_pb2.FleetReply, rev: str) -> list[hub_pb2.Process]:
    """Give the processes that serve neither REV nor anything after it on the branch."""
    counted = _counted(reply)
    known = [c for c in (reply.tip, *(p.applied for p in reply.processes)) if c.commit.startswith(rev) and c.position >= 0]
    if not known:
        return counted
    position = known[0].position
    return [p for p in counted if not p.applied.commit.startswith(rev) and p.applied.position <= position]


def _counted(reply: hub_pb2.FleetReply) -> list[hub_pb2.Process]:
    """The processes to wait for: not those that a hub has lost for longer than a client needs to come back."""
    now = time.time()
    return [p for p in reply.processes if p.condition != "LOST" or now - p.seen_at < _COMES_BACK_S]


def _watched(hub: str, service: str, env: str, timeout_s: float) -> Iterator[hub_pb2.FleetReply]:
    """Give every change of the fleet until the time is up, over restarts of the hub."""
    deadline = time.monotonic() + timeout_s
    met = False
    while (left := deadline - time.monotonic()) > 0:
        try:
            for reply in _replies(hub, service, env, "WatchFleet", min(left, _ASK_AGAIN_S)):
                met = True
                yield reply
        except SystemExit:
            if not met:
                raise
            time.sleep(min(0.2, left))  # between two attempts to reach a hub that has gone


def _replies(hub: str, service: str, env: str, method: str, timeout_s: float) -> Iterator[hub_pb2.FleetReply]:
    """Give what the hub says, once (Fleet) or until the time is up (WatchFleet); nothing when it cannot be reached."""
    import grpc

    from livecfg.environment import read_environment
    from livecfg.hub import wire
    from livecfg.hub._pb import hub_pb2
    from livecfg.hub.link import Identity, open_channel

    address = _address(hub)
    environment = read_environment(os.environ)
    identity = Identity(environment.hub_ca, environment.hub_certificate, environment.hub_key, environment.hub_token)
    metadata = identity.metadata
    channel = open_channel(address, identity)
    encode, decode = hub_pb2.FleetRequest.SerializeToString, hub_pb2.FleetReply.FromString
    request = hub_pb2.FleetRequest(service=service, env=env)
    with channel:
        try:
            if method == "Fleet":
                yield channel.unary_unary(f"/{wire.SERVICE}/Fleet", encode, decode)(request, timeout=timeout_s, metadata=metadata)
            else:
                call = channel.unary_stream(f"/{wire.SERVICE}/WatchFleet", encode, decode)
                yield from call(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _unreachable(hub, str(error.code()).rpartition(".")[2].lower().replace("_", " ")) from None


def _address(hub: str) -> str:
    return hub or os.environ.get("LIVECFG_HUB", "") or "127.0.0.1:7443"


def _unreachable(hub: str, why: str = "no answer") -> SystemExit:
    click.echo(
        f"the hub at {_address(hub)} cannot be reached ({why}); start one with `livecfg hub serve`, or give --hub", err=True
    )
    return SystemExit(UNREACHABLE)


def _table(reply: hub_pb2.FleetReply, processes: list[dict[str, Any]]) -> None:
    from livecfg.hub.report import clean

    now = time.time()
    tip = reply.tip.commit
    rows = [("SERVICE", "ENV", "HOST", "PID", "SERVES", "CONDITION", "SEEN", "")]
    for p in processes:
        serves = (p["applied"] or "nothing")[:10] + ("" if p["applied"] == tip else " *")
        notes = "; ".join([*p["overrides"], *([p["reason"]] if p["reason"] else [])])
        seen = f"{now - (p['seen_at'] or now):.0f} s"
        rows.append((p["service"], p["env"], p["host"], str(p["pid"]), serves, p["condition"], seen, notes))
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    current = sum(p["applied"] == tip for p in processes)
    click.echo(f"{reply.tip.ref}@{tip[:10]}: {current} of {len(processes)} processes serve it")
    for row in rows if processes else []:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]]).rstrip())
    for refusal in reply.refusals:
        clean(refusal)
        where = f"{refusal.path}:{refusal.line}:{refusal.column} " if refusal.line else f"{refusal.path} " if refusal.path else ""
        click.echo(f"refused {refusal.commit[:10]}: {where}{refusal.code} {refusal.message}")
