"""Standing: how many processes serve a revision or what came after it, on the ref that all follow; for whoever waits for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from livecfg.hub._pb import hub_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMES_BACK_S = 20.0
"""For so long after its last word a process is waited for, and after the beginning of a hub everybody whom that one knows of."""
_TOLD = 10
_AT_ONCE = 2000


def counted(processes: Iterable[hub_pb2.Process], now: float, *, has_begun: bool = False) -> list[hub_pb2.Process]:
    """Give the processes to wait for: not those that a hub has lost for longer than a client needs to come back.

    A hub that has just begun (`has_begun`) has lost all of them, however long there was none.
    """
    return [p for p in processes if p.condition != "LOST" or has_begun or now - p.seen_at < COMES_BACK_S]


def position_of(rev: str, places: Iterable[hub_pb2.Commit]) -> int | None:
    """Give where a commit stands on the ref, by the first place that names it; None where none does."""
    return next((c.position for c in places if c.commit.startswith(rev) and c.position >= 0), None)


def behind(processes: Iterable[hub_pb2.Process], rev: str, position: int | None) -> list[hub_pb2.Process]:
    """Give those that serve neither REV nor anything after it; all where nobody knows where it stands."""
    if position is None:
        return [*processes]
    return [p for p in processes if not p.applied.commit.startswith(rev) and p.applied.position <= position]


async def standing(
    processes: Sequence[hub_pb2.Process], rev: str, places: Sequence[hub_pb2.Commit], now: float, *, has_begun: bool = False
) -> hub_pb2.FleetReply:
    """Count, and name a few of those behind; the loop goes on between the parts of a large fleet."""
    position = position_of(rev, places)
    if position is None:
        position = position_of(rev, (p.applied for p in processes))
    reply = hub_pb2.FleetReply(standing=hub_pb2.Standing())
    refused: list[hub_pb2.Process] = []
    others: list[hub_pb2.Process] = []
    for start in range(0, len(processes), _AT_ONCE):
        part = counted(processes[start : start + _AT_ONCE], now, has_begun=has_begun)
        late = behind(part, rev, position)
        reply.standing.counted += len(part)
        reply.standing.behind += len(late)
        for process in late:
            kept = refused if process.condition == "REFUSED" else others
            if len(kept) < _TOLD:
                kept.append(process)
        await asyncio.sleep(0)
    reply.processes.extend([*refused, *others][:_TOLD])
    return reply
