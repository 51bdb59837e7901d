"""Status and Condition: what a process says of itself, to its operators and to the hub. Never a value of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from livecfg.refusal import printable

if TYPE_CHECKING:
    from livecfg.refusal import Refusal
    from livecfg.revision import Revision


class Condition(StrEnum):
    """One word for how it goes; REFUSED is said before STALE, STALE before READY."""

    STARTING = "STARTING"
    READY = "READY"
    STALE = "STALE"
    REFUSED = "REFUSED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class Status:
    """What is served and how it goes: `applied` runs, `desired` is the newest tip seen, times are Unix seconds.

    `refusals` belong to commits between the two (the newest hundred), `overrides` are names of local overrides in force and
    commits that broke the glass, `drift` says in words what differs from the desired state and what that waits for, `fetcher`
    whether this process asks the remote for its host, `hub` how the stream is.
    """

    condition: Condition
    reason: str = ""
    applied: Revision | None = None
    desired: Revision | None = None
    applied_at: float | None = None
    checked_at: float | None = None
    refusals: tuple[Refusal, ...] = ()
    overrides: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    source: str = ""
    fetcher: bool = False
    hub: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON-ready data, foreign text made printable."""
        return {
            "condition": self.condition.value,
            "reason": printable(self.reason),
            "applied": _revision(self.applied),
            "desired": _revision(self.desired),
            "applied_at": self.applied_at,
            "checked_at": self.checked_at,
            "refusals": [refusal.as_dict() for refusal in self.refusals],
            "overrides": [printable(name) for name in self.overrides],
            "drift": list(self.drift),
            "source": printable(self.source),
            "fetcher": self.fetcher,
            "hub": self.hub,
        }


def _revision(revision: Revision | None) -> dict[str, Any] | None:
    if revision is None:
        return None
    return {
        "ref": revision.ref,
        "commit": revision.commit,
        "payload_sha256": revision.payload_sha256,
        "position": revision.position,
    }
