"""Connection: one of the hub's HTTP port. Whoever can reach the port can hold neither descriptors nor time of the hub's."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

MOST = 256
MOST_S = 60.0
_NUMBERS = itertools.count()


class Connection(H11Protocol):
    """Lives a minute at most, an answer under way apart; when one is too many, the oldest of them is closed.

    Requests to the hub take milliseconds: the oldest of so many is one that waits for nothing.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Make room for it, and count its time."""
        super().connection_made(transport)
        self._number = next(_NUMBERS)  # times may be equal
        self._ends = self.loop.call_later(MOST_S, self.shutdown)
        if len(self.connections) > MOST:
            made = (c for c in self.connections if isinstance(c, Connection))
            min(made, key=lambda c: c._number).transport.abort()  # noqa: SLF001 - of this class

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no more."""
        self._ends.cancel()
        super().connection_lost(exc)
