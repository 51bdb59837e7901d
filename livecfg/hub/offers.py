"""Offers: packs made once for everybody in the same place, few at a time, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from livecfg.errors import LivecfgError
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

_OFFERS_KEPT, _PACKS_KEPT = 64, 4
_AT_ONCE, _WAITING_MOST = 2, 256


class Packer(Protocol):
    """Builds packs: the hub's mirror."""

    def build_pack(self, have: str, tip: str) -> bytes:
        """Give a thin pack that takes a client from `have` (empty: nothing) to `tip`."""
        ...


class BusyError(Exception):
    """Too many ask for objects at once: they may ask Git."""


class Offers:
    """Serialised offers by (have, tip), and whole packs by (have, want)."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._offers: OrderedDict[tuple[str, str], Awaitable[bytes]] = OrderedDict()
        self._packs: OrderedDict[tuple[str, str], Awaitable[bytes]] = OrderedDict()
        self._building = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    def ready(self, have: str, tip: str, offer: bytes) -> None:
        """Take an offer that was made already, by the thread that brought the tip."""
        done = asyncio.get_running_loop().create_future()
        done.set_result(offer)
        self._offers[have, tip] = done
        _trim(self._offers, _OFFERS_KEPT)

    def made(self, have: str, tip: str) -> bytes | asyncio.Future[bytes]:
        """Give an offer as `offer` does: at once where it was made already, which is all but always."""
        known = self._offers.get((have, tip))
        if isinstance(known, asyncio.Future) and known.done() and not known.cancelled() and known.exception() is None:
            return known.result()  # type: ignore[no-any-return]
        return asyncio.ensure_future(self.offer(have, tip))

    async def offer(self, have: str, tip: str) -> bytes:
        """Give the offer that takes a client from `have` to `tip`, without a pack when that would be big."""
        return await self._once(self._offers, (have, tip), _OFFERS_KEPT)

    async def pack(self, have: str, want: str) -> bytes:
        """Give the pack from `have`, or from nothing where `have` is not known here, to `want`.

        Raises:
            LivecfgError: it cannot be made, or is over the limits.
            BusyError: too many others are waiting.

        """
        return await self._once(self._packs, (have, want), _PACKS_KEPT)

    async def _once(self, made: OrderedDict[tuple[str, str], Awaitable[bytes]], key: tuple[str, str], kept: int) -> bytes:
        task = made.get(key)
        if task is None:
            make = self._make_offer if made is self._offers else self._make_pack
            task = made[key] = asyncio.ensure_future(self._build(make, *key))
            _trim(made, kept)
        try:
            return await asyncio.shield(task)  # one stream that ends must not take it from the others
        except asyncio.CancelledError:
            raise
        except Exception:
            made.pop(key, None)
            raise

    async def _build(self, make: Callable[[str, str], bytes], have: str, tip: str) -> bytes:
        if self._waiting >= _WAITING_MOST:
            raise BusyError
        self._waiting += 1
        try:
            async with self._building:
                return await asyncio.to_thread(make, have, tip)
        finally:
            self._waiting -= 1

    def _make_offer(self, have: str, tip: str) -> bytes:
        return make_offer(self._packer, have, tip)

    def _make_pack(self, have: str, want: str) -> bytes:
        try:
            return self._packer.build_pack(have, want)
        except LivecfgError:
            if not have:
                raise
            return self._packer.build_pack("", want)


def make_offer(packer: Packer, have: str, tip: str) -> bytes:
    """Serialise one offer; without a pack where there is none to be made: the client then asks for objects, or Git."""
    pack = b""
    if have:
        try:
            pack = packer.build_pack(have, tip)
        except LivecfgError as error:  # the client is on another branch, or far behind
            log.debug("no pack for an offer: %s", error)
    return hub_pb2.Offer(tip=tip, pack=pack if len(pack) <= wire.INLINE_PACK_BYTES else b"").SerializeToString()


def _trim(made: OrderedDict[tuple[str, str], Awaitable[bytes]], most: int) -> None:
    while len(made) > most:
        made.popitem(last=False)
