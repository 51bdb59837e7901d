"""Streams: one host's stream as the hub holds it. Its handler's own task reads; whatever is due is written by one task at a time.

A writer lives only while there is something to write: 10,000 idle streams cost no timers and no second task. Deadlines and
signs of life are looked after by `tick`, once a second for all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc

if TYPE_CHECKING:
    from livecfg.hub.fleet import Host

log = logging.getLogger(__name__)


class News(Protocol):
    """Says what a host should hear."""

    def next(self, stream: Stream) -> bytes | asyncio.Future[bytes] | None:
        """Give the next message, or the promise of it while it is being made; None when there is nothing to say."""
        ...


class Stream:
    """One host's stream. Made in the handler's task, which `end` ends; never two writers at once."""

    __slots__ = ("_context", "_news", "_reader", "_writer", "alive_at", "ending", "host", "told", "writing_since")

    def __init__(self, host: Host, context: Any, news: News) -> None:
        self.host = host
        self.alive_at = 0.0
        """When it was last told that the hub is there; 0: not yet."""
        self.told = ""
        """The tip that the signed heartbeat it was last told attests."""
        self.writing_since = 0.0
        """When the write began that is going on; 0: none is."""
        self.ending: tuple[grpc.StatusCode, str] | None = None
        self._context = context
        self._news = news
        self._reader = asyncio.current_task()
        self._writer: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Have what is due written, unless a writer is at it: that one looks again when it is through."""
        if self._writer is None and self.ending is None and (message := self._news.next(self)) is not None:
            self._writer = asyncio.get_running_loop().create_task(self._write(message))

    async def _write(self, message: bytes | asyncio.Future[bytes] | None) -> None:
        try:
            while message is not None:
                if not isinstance(message, bytes):
                    message = await message
                self.writing_since = time.monotonic()
                await self._context.write(message)
                self.writing_since = 0.0
                message = self._news.next(self)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the other side is gone, or its offer cannot be made just now
            log.debug("cannot write to %s: %s", self.host.name, type(error).__name__)
            self.end(grpc.StatusCode.UNAVAILABLE, "try again")
        finally:
            self._writer = None

    def end(self, code: grpc.StatusCode, why: str) -> None:
        """End the stream soon, with a status; the first one counts."""
        if self.ending is None and self._reader is not None:
            self.ending = code, why
            self._reader.cancel()

    def close(self) -> None:
        """Let go of a write that is going on."""
        if self._writer is not None:
            self._writer.cancel()


class Bucket:
    """A token bucket: `per_s` on average, `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, time.monotonic()

    @property
    def is_full(self) -> bool:
        """Whether nothing was taken for so long that it can be forgotten."""
        return self._left + (time.monotonic() - self._at) * self._per_s >= self._burst

    def take(self) -> bool:
        """Take one; False when there is none."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
