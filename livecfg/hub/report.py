"""Reports between their two shapes: the JSON of `processes/<boot>.json` and the message on the wire; capped, made printable."""

from __future__ import annotations

import json
from typing import Any

from livecfg.hub._pb import hub_pb2
from livecfg.refusal import printable

_PROCESSES, _TEXT, _REFUSALS, _SIGNALS_BYTES = 1000, 500, 20, 32 * 1024


def to_report(processes: list[dict[str, Any]]) -> hub_pb2.Report:
    """Make the message from the reports of a host's processes; what is malformed is left out."""
    report = hub_pb2.Report()
    for content in processes[:_PROCESSES]:
        try:
            report.processes.append(_process(content))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # a file that another program wrote into the folder
    return report


def _process(content: dict[str, Any]) -> hub_pb2.Process:
    signals = json.dumps(content.get("signals") or [])
    return hub_pb2.Process(
        boot=_text(content["boot"]),
        pid=int(content["pid"]),
        service=_text(content["service"]),
        env=_text(content["env"]),
        region=_text(content.get("region")),
        instance=_text(content.get("instance")),
        labels={_text(k): _text(v) for k, v in (content.get("labels") or {}).items()},
        condition=_text(content["condition"]),
        reason=_text(content.get("reason")),
        applied=_commit(content.get("applied")),
        desired=_commit(content.get("desired")),
        applied_at=float(content.get("applied_at") or 0),
        checked_at=float(content.get("checked_at") or 0),
        refusals=[_refusal(r) for r in (content.get("refusals") or [])[:_REFUSALS]],
        overrides=[_text(name) for name in (content.get("overrides") or [])[:_REFUSALS]],
        drift=[_text(text) for text in (content.get("drift") or [])[:_REFUSALS]],
        fetcher=bool(content.get("fetcher")),
        sdk=_text(content.get("livecfg")),
        python=_text(content.get("python")),
        alive=bool(content.get("alive", True)),
        signals_json=signals if len(signals) <= _SIGNALS_BYTES else "[]",
    )


def _commit(content: dict[str, Any] | None) -> hub_pb2.Commit | None:
    if not content:
        return None
    return hub_pb2.Commit(
        ref=_text(content["ref"]),
        commit=_text(content["commit"]),
        payload_sha256=_text(content.get("payload_sha256")),
        position=int(content.get("position", -1)),
    )


def _refusal(content: dict[str, Any]) -> hub_pb2.Refusal:
    names = ("code", "message", "commit", "path", "rule", "signer", "advice")
    return hub_pb2.Refusal(
        line=int(content.get("line", 0)),
        column=int(content.get("column", 0)),
        **{name: _text(content.get(name)) for name in names},
    )


def _text(value: object) -> str:
    return printable(str(value))[:_TEXT] if value is not None else ""


def as_data(process: hub_pb2.Process) -> dict[str, Any]:
    """Give a process of the fleet as JSON-ready data, in the words of `Status`."""
    refusals = [{field.name: getattr(r, field.name) for field in r.DESCRIPTOR.fields} for r in process.refusals]
    return {
        "host": process.host,
        "pid": process.pid,
        "boot": process.boot,
        "service": process.service,
        "env": process.env,
        "region": process.region,
        "instance": process.instance,
        "labels": dict(process.labels),
        "condition": process.condition,
        "reason": process.reason,
        "applied": process.applied.commit,
        "position": process.applied.position if process.applied.commit else None,
        "desired": process.desired.commit,
        "applied_at": process.applied_at or None,
        "checked_at": process.checked_at or None,
        "seen_at": process.seen_at or None,
        "refusals": refusals,
        "overrides": list(process.overrides),
        "drift": list(process.drift),
        "fetcher": process.fetcher,
        "livecfg": process.sdk,
        "python": process.python,
    }
