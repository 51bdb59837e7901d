"""Link: what a follower needs beside its reconciler; one per process, made by `livecfg.uplink`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.reconciler import AnyReconciler
    from livecfg.status import Status


class Link(ABC):
    """What the follower needs beside the reconciler, once per process; `livecfg.uplink` implements it over mirror and hub."""

    is_fetcher = True
    asks = True
    hub_state = ""
    is_brief = False
    """Set where nothing may stay open: no watching, no stream."""
    poll_most_s = math.inf
    """How long the source may go without a look, whatever the application says."""
    ends_at = math.inf
    """When another link must take its place, in Unix seconds: it follows LIVECFG_REF, whose time is over then."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know of what lies below: a mirror that is damaged or cannot be written."""
        return ()

    def warm(self) -> None:  # noqa: B027 - nothing to do is a good default, here and below
        """Import, in the reader's thread, what the background thread will use.

        A child forked while another thread imports a module finds that module's lock held for ever, and would freeze at its
        own first use of it.
        """

    @abstractmethod
    def open(self, wake: Callable[[], None]) -> AnyReconciler:
        """Open what must be opened in this process and give the reconciler; called again after a failure."""

    def elect(self) -> bool:
        """Try to become the host's fetcher; cheap, called every second by followers; never raises."""
        return True

    def is_damaged(self) -> bool:
        """Whether a process of this host met an object that is missing or corrupt: the fetcher mends it in its next round."""
        return False

    def asked_s(self) -> float:
        """When the source was last asked by this process, by the monotonic clock; what others brought does not put that off."""
        return math.inf

    def answered(self, at_s: float) -> None:  # noqa: B027 - as above
        """Let the host's other processes know that the source answered this one, at that time of the monotonic clock."""

    def answered_at(self) -> float | None:
        """When the source last answered any process of this host, by the monotonic clock; None when that is not known."""
        return None

    def report(self, status: Status, boot: str) -> None:  # noqa: B027 - as above
        """Send what this process serves; never blocks, never raises."""

    def close(self) -> None:  # noqa: B027 - as above
        """Release everything within a second."""

    def abandon(self) -> None:  # noqa: B027 - as above
        """In a forked child: let go of what was inherited, without disturbing the parent."""
