"""`livecfg fleet status|wait`: who serves what, asked of the hub."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.hubcall import answers, ask, hub_option, watch
from livecfg.cli.output import CommandError, Exit, envelope, output_option, style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.hub._pb import hub_pb2

_ASK_AGAIN_S = 5.0


@click.group("fleet")
def fleet() -> None:
    """Look at the fleet: instances by revision, stragglers, drift."""


def _options(command: Any) -> Any:
    for option in (
        hub_option,
        click.option("--service", default="", help="Only this service."),
        click.option("--env", default="", help="Only this environment."),
        output_option("json"),
    ):
        command = option(command)
    return command


@fleet.command("status")
@_options
def status(hub: str, service: str, env: str, output: str) -> None:
    """Show every process with the revision it serves, and what the newest one is. Exit 1: one serves another; 4: no hub."""
    from livecfg.hub._pb import hub_pb2
    from livecfg.hub.report import as_data
    from livecfg.hub.standing import counted

    request = hub_pb2.FleetRequest(service=service, env=env)
    reply = ask(hub, "Fleet", request, hub_pb2.FleetReply)
    reply.processes.sort(key=lambda p: (p.service, p.env, p.host, p.pid))
    processes = [as_data(process) for process in reply.processes]
    well = all(p.applied.commit == reply.tip.commit for p in counted(reply.processes, time.time()))
    if output == "json":
        envelope("fleet status", {"tip": reply.tip.commit, "ref": reply.tip.ref, "processes": processes}, ok=well)
    else:
        _table(reply, processes)
    raise SystemExit(int(Exit.OK if well else Exit.FINDINGS))


@fleet.command("wait")
@_options
@click.option("--rev", required=True, help="Commit id, at least 7 digits of it.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds.")
def wait(hub: str, service: str, env: str, output: str, rev: str, timeout_s: float) -> None:
    """Block until every process serves REV or something newer. Exit 0: converged, 6: timed out, 4: no hub.

    Processes that the hub has not heard of for 20 s are not waited for, but right after its own beginning.
    """
    from livecfg.hub._pb import hub_pb2

    if len(rev) < 7:  # git's own shortest abbreviation
        raise click.UsageError("--rev: give at least 7 digits of a commit id")
    rev, began = rev.lower(), time.monotonic()
    last: hub_pb2.FleetReply | None = None
    asked = hub_pb2.FleetRequest(service=service, env=env, rev=rev, standing=True)
    for reply in _watched(hub, asked, timeout_s):
        last = _stands(rev, reply)
        if last.standing.counted and not last.standing.behind:
            text = f"{last.standing.counted} processes serve {rev[:10]} after {time.monotonic() - began:.2f} s"
            if output == "json":
                envelope("fleet wait", {"message": text})
            else:
                click.echo(text)
            return
    raise _timed_out(last, rev, timeout_s)


def _stands(rev: str, reply: hub_pb2.FleetReply) -> hub_pb2.FleetReply:
    """Give an answer that counts; a hub of an older version gives all processes instead, and maybe no `rev`."""
    from livecfg.hub.standing import behind, counted, position_of

    if not reply.HasField("standing"):
        there = counted(reply.processes, time.time())
        late = behind(there, rev, position_of(rev, (reply.rev, reply.tip, *(p.applied for p in reply.processes))))
        reply.standing.counted, reply.standing.behind = len(there), len(late)
        del reply.processes[:]
        reply.processes.extend(late)
    return reply


def _timed_out(last: hub_pb2.FleetReply | None, rev: str, timeout_s: float) -> CommandError:
    if last is None:
        return CommandError(f"timed out after {timeout_s:g} s: the hub gave no whole answer", Exit.UNREACHABLE)
    names = sorted({_straggler(p, rev) for p in last.processes})[:10]
    more = f" and {last.standing.behind - len(names)} more" if last.standing.behind > len(names) else ""
    unknown = "; the hub knows no such commit (yet)" if last.HasField("rev") and not last.rev.commit else ""
    told = ", ".join(names) + more if names else "no process reports at all"
    return CommandError(f"timed out after {timeout_s:g} s{unknown}; not there yet: {told}", Exit.TIMED_OUT)


def _straggler(process: hub_pb2.Process, rev: str) -> str:
    """Name a process that is behind, with the reason where it refused REV or what came after it, or waits."""
    from livecfg.hub.report import clean

    clean(process)
    name = f"{process.service}/{process.env} pid {process.pid} on {process.host}"
    if process.condition == "LOST":
        return f"{name} has lost the hub"
    if process.condition != "REFUSED":
        return "; ".join([name, *(said for said in process.drift if " waits " in said)])
    refusals = [r for r in process.refusals if r.commit.startswith(rev)] or process.refusals[-1:]
    return f"{name} refused it: {_told(refusals[-1]) if refusals else process.reason}"


def _watched(hub: str, request: hub_pb2.FleetRequest, timeout_s: float) -> Iterator[hub_pb2.FleetReply]:
    """Give every change of the fleet until the time is up, over restarts of the hub."""
    from livecfg.hub._pb import hub_pb2

    deadline, again_s, met = time.monotonic() + timeout_s, _ASK_AGAIN_S, False
    while (left := deadline - time.monotonic()) > 0:
        answered = False
        try:
            for reply in answers(watch(hub, "WatchFleet", request, hub_pb2.FleetReply, min(left, again_s))):
                met = answered = True
                yield reply
        except CommandError:
            if not met:
                raise
            time.sleep(min(0.2, left))  # between two attempts to reach a hub that has gone
        else:
            again_s *= 1 if answered else 2  # an answer of a large fleet may take longer


def _table(reply: hub_pb2.FleetReply, processes: list[dict[str, Any]]) -> None:
    from livecfg.hub.report import clean

    now = time.time()
    tip = reply.tip.commit
    rows = [("SERVICE", "ENV", "HOST", "PID", "SERVES", "CONDITION", "SEEN", "")]
    for p in processes:
        serves = (p["applied"] or "nothing")[:10] + ("" if p["applied"] == tip else " *")
        notes = "; ".join([*p["overrides"], *p["drift"], *([p["reason"]] if p["reason"] else [])])
        seen = f"{now - (p['seen_at'] or now):.0f} s"
        rows.append((p["service"], p["env"], p["host"], str(p["pid"]), serves, p["condition"], seen, notes))
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    click.echo(_headline(reply, processes))
    for row in rows if processes else []:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]]).rstrip())
    for refusal in reply.refusals:
        clean(refusal)
        click.echo(f"refused {refusal.commit[:10]}: {_told(refusal)}")


def _told(refusal: hub_pb2.Refusal) -> str:
    where = f"{refusal.path}:{refusal.line}:{refusal.column} " if refusal.line else f"{refusal.path} " if refusal.path else ""
    return f"{where}{refusal.code} {refusal.message}"


def _headline(reply: hub_pb2.FleetReply, processes: list[dict[str, Any]]) -> str:
    """Say how many of those that are there serve the tip; those that are gone may be serving it or not."""
    tip = reply.tip.commit
    there = [p for p in processes if p["condition"] != "LOST"]
    current = sum(p["applied"] == tip for p in there)
    lost = f"; {len(processes) - len(there)} lost, last known state below" if len(there) < len(processes) else ""
    color = "green" if current == len(there) else "yellow"
    return f"{reply.tip.ref}@{tip[:10]}: {style(f'{current} of {len(there)} processes', fg=color)} serve it{lost}"
