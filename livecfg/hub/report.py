"""Reports between their two shapes: the JSON of `processes/<boot>.json` and the message on the wire; capped, made printable."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.hub._pb import hub_pb2
from livecfg.refusal import printable

if TYPE_CHECKING:
    from google.protobuf.message import Message

log = logging.getLogger(__name__)

_PROCESSES, _TEXT, _REFUSALS, _LABELS = 1000, 500, 20, 100
_REFUSALS_BYTES, _NO_REFUSALS_BYTES, _MESSAGE_BYTES = 2 << 20, 3 << 20, 15 << 18  # of the 4 MiB of a message
_OVERHEAD = 4
"""What a part adds to a message beside its own bytes."""


class Told(NamedTuple):
    """What a hub knows of the counts of a host, on one stream."""

    news: dict[str, int]
    """By process the greatest `news` of its rows."""
    first: int = 0
    """The number of the process whose counts the next report begins with."""
    is_all: bool = True
    """Whether there was room for all that is news."""
    left_out: int = 0
    """How many processes a report has no room for."""


def to_report(processes: list[dict[str, Any]], told: Told | None = None) -> tuple[hub_pb2.Report, Told]:
    """Make the message from the reports of a host's processes, and what is told with it; what is malformed is left out.

    Of many, each tells its first refusal alone, or none; of over a thousand the fetcher says that some are left out, dead ones
    first. Of counts it has those that are news. Where these are too large, those of some processes wait for the next message,
    which begins with them.
    """
    news, first, *_ = told or Told({})
    report, size = hub_pb2.Report(), 0
    sound = []
    left_out = max(0, len(processes) - _PROCESSES)
    if left_out:
        processes = sorted(processes, key=lambda content: (not content.get("fetcher"), not content.get("alive", True)))
    for content in processes[:_PROCESSES]:
        try:
            process = _process(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("left a malformed report out: %s", type(error).__name__)  # another program wrote into the folder
            continue
        if left_out and process.fetcher:
            words = f"this host has {len(processes)} processes, and its report {_PROCESSES}: {left_out} are not shown"
            process.drift[:] = [words, *process.drift[: _REFUSALS - 1]]
        if size > _REFUSALS_BYTES:
            del process.refusals[1 if size < _NO_REFUSALS_BYTES else 0 :]
        report.processes.append(process)
        size += process.ByteSize() + _OVERHEAD
        sound.append((process.boot, content))
    first = first % len(sound) if sound else 0
    news = {boot: news.get(boot, 0) for boot, _ in sound}
    for number, (boot, content) in enumerate(sound[first:] + sound[:first]):
        rows, newest = _counts(content, news[boot])
        more = sum(row.ByteSize() + _OVERHEAD for row in rows)
        if size + more > _MESSAGE_BYTES:
            log.info("the counts of this host are too large for one report: some come with the next")
            return report, Told(news, first + max(number, 1), is_all=False, left_out=left_out)
        report.counts.extend(rows)
        size += more
        news[boot] = newest
    return report, Told(news, first, left_out=left_out)


def _counts(content: dict[str, Any], told: int) -> tuple[list[hub_pb2.ArmCounts], int]:
    """Make the rows that are news, and give the greatest number of them; an older livecfg gives none, and all are news."""
    found, newest = [], told
    rows = content.get("exposures")
    for row in rows if isinstance(rows, list) else []:
        try:
            news = int(row.get("news", 0))
            if 0 < news <= told:
                continue
            made = hub_pb2.ArmCounts(
                boot=text(content["boot"]),
                life=row.get("life", 0),
                units=row["units"],
                observations=row.get("observations", ()),
                sums=row.get("sums", ()),
            )
            for name in ("kind", "name", "phase", "arm", "metric"):
                setattr(made, name, text(row[name]))
            found.append(made)
            newest = max(newest, news)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            log.warning("left malformed counts out: %s", type(error).__name__)
    return found, newest


def _process(content: dict[str, Any]) -> hub_pb2.Process:
    return hub_pb2.Process(
        boot=text(content["boot"]),
        pid=int(content["pid"]),
        service=text(content["service"]),
        env=text(content["env"]),
        region=text(content.get("region")),
        instance=text(content.get("instance")),
        labels={text(k): text(v) for k, v in (content.get("labels") or {}).items()},
        condition=text(content["condition"]),
        reason=text(content.get("reason")),
        applied=_commit(content.get("applied")),
        desired=_commit(content.get("desired")),
        applied_at=float(content.get("applied_at") or 0),
        checked_at=float(content.get("checked_at") or 0),
        refusals=[_refusal(r) for r in (content.get("refusals") or [])[:_REFUSALS]],
        overrides=[text(name) for name in (content.get("overrides") or [])[:_REFUSALS]],
        drift=[text(words) for words in (content.get("drift") or [])[:_REFUSALS]],
        fetcher=bool(content.get("fetcher")),
        sdk=text(content.get("livecfg")),
        python=text(content.get("python")),
        alive=bool(content.get("alive", True)),
    )


def _commit(content: dict[str, Any] | None) -> hub_pb2.Commit | None:
    if not content:
        return None
    return hub_pb2.Commit(
        ref=text(content["ref"]),
        commit=text(content["commit"]),
        payload_sha256=text(content.get("payload_sha256")),
        position=int(content.get("position", -1)),
    )


def _refusal(content: dict[str, Any]) -> hub_pb2.Refusal:
    names = ("code", "message", "commit", "path", "rule", "signer", "advice")
    return hub_pb2.Refusal(
        line=int(content.get("line", 0)),
        column=int(content.get("column", 0)),
        **{name: text(content.get(name)) for name in names},
    )


def text(value: object) -> str:
    """Make foreign text printable and short."""
    return printable(str(value)[:_TEXT])[:_TEXT] if value is not None else ""


def clean(message: Message) -> None:
    """Make every text in a message printable and short and every list of them, in place: whoever sent it is not trusted."""
    message.DiscardUnknownFields()  # they would be kept, and sent to whoever asks
    for descriptor, value in message.ListFields():
        if isinstance(value, str):
            if (made := text(value)) != value:
                setattr(message, descriptor.name, made)
        elif isinstance(value, (int, float, bytes)):
            continue
        elif descriptor.name == "labels":
            kept = {text(key): text(value[key]) for key in islice(value, _LABELS)}
            value.clear()
            value.update(kept)
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            if descriptor.is_repeated:
                del value[_REFUSALS:]
            for inner in value if descriptor.is_repeated else [value]:
                clean(inner)
        elif descriptor.type == descriptor.TYPE_STRING:
            value[:] = [text(item) for item in value[:_REFUSALS]]


def as_data(process: hub_pb2.Process) -> dict[str, Any]:
    """Give a process of the fleet as JSON-ready data, in the words of `Status`."""
    clean(process)
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
