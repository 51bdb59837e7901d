"""The gRPC service: offers down one stream per host, reports up, the fleet for whoever asks. Trusted by no one.

One writer per stream and one outstanding offer per client: a client that does not read holds up nobody but itself. Offers are
serialised once per (have, tip) and sent to every stream as bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from livecfg.errors import LivecfgError
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.report import clean, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from livecfg.hub.stores import Store

log = logging.getLogger(__name__)

FORGET_S = 600.0
_OFFERS_KEPT = 64
_PART_BYTES = 256 << 10


class Packer(Protocol):
    """Builds packs: the hub's mirror."""

    def build_pack(self, have: str, tip: str) -> bytes:
        """Give a thin pack that takes a client from `have` (empty: nothing) to `tip`."""
        ...


class HubService:
    """Everything the hub knows, and the handlers over it. Lives on one event loop."""

    def __init__(self, packer: Packer, store: Store, repo_id: str, ref: str) -> None:
        self._packer = packer
        self._store = store
        self._repo_id = repo_id
        self._ref = ref
        self.tip = hub_pb2.Commit(ref=ref)
        self.refusals: list[hub_pb2.Refusal] = []
        self._published = asyncio.Event()
        self._changed = asyncio.Event()
        self._offers: OrderedDict[tuple[str, str], asyncio.Task[bytes]] = OrderedDict()
        self._fleet: dict[str, hub_pb2.Process] = {p.boot: p for p in store.all()}
        self._dirty: set[str] = set()
        self.streams = 0
        self.draining = False

    # --- what the server calls ----------------------------------------------------------------------------------------

    def publish(self, tip: hub_pb2.Commit, refusals: list[hub_pb2.Refusal]) -> None:
        """Offer a new tip to every stream; `refusals` are of the commits that the hub's own walk skipped."""
        moved = tip.commit != self.tip.commit
        self.tip, self.refusals = tip, refusals
        if moved:
            event, self._published = self._published, asyncio.Event()
            event.set()
        self._touch()

    def flush(self) -> None:
        """Write what changed to the store, and forget processes that have not been heard of for ten minutes."""
        limit = time.time() - FORGET_S
        gone = [boot for boot, p in self._fleet.items() if p.seen_at < limit]
        for boot in gone:
            del self._fleet[boot]
        dirty = self._dirty | set(gone)
        if rows := [self._fleet[boot] for boot in dirty if boot in self._fleet]:
            self._store.put(rows)
        if removed := [boot for boot in dirty if boot not in self._fleet]:
            self._store.remove(removed)
        self._dirty -= dirty  # only now: what could not be written is tried again
        if gone:
            self._touch()

    def drain(self) -> None:
        """End every stream soon; clients come back to whoever is there."""
        self.draining = True
        for event in (self._published, self._changed):
            event.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """Give the handlers as grpc wants them; offers and replies are already bytes."""
        from_host, objects, fleet = (
            hub_pb2.FromHost.FromString,
            hub_pb2.ObjectsRequest.FromString,
            hub_pb2.FleetRequest.FromString,
        )
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Follow": grpc.stream_stream_rpc_method_handler(self.follow, from_host),
            "GetObjects": grpc.unary_stream_rpc_method_handler(self.get_objects, objects),
            "Fleet": grpc.unary_unary_rpc_method_handler(self.fleet, fleet),
            "WatchFleet": grpc.unary_stream_rpc_method_handler(self.watch_fleet, fleet),
        }
        return grpc.method_handlers_generic_handler(wire.SERVICE, methods)

    # --- one host's stream --------------------------------------------------------------------------------------------

    async def follow(self, requests: AsyncIterator[hub_pb2.FromHost], context: Any) -> AsyncIterator[bytes]:
        """Serve one host until it goes."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a hello")
            return
        hello = first.hello
        if (hello.repo_id, hello.ref) != (self._repo_id, self._ref):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this hub serves another repository or ref")
            return
        host = _Host(text(hello.host), hello.have)
        reader = asyncio.create_task(self._read(requests, host))
        self.streams += 1
        try:
            yield _HEARTBEAT
            while not reader.done() and not self.draining:
                published = self._published
                tip = self.tip.commit
                if tip and tip not in {host.have, host.offered}:
                    host.offered = tip
                    yield await self._offer(host.have, tip)
                elif not await _first(wire.HEARTBEAT_S, published.wait(), reader):
                    self._seen(host)
                    yield _HEARTBEAT
        finally:
            self.streams -= 1
            reader.cancel()
            self._lost(host)

    async def _read(self, requests: AsyncIterator[hub_pb2.FromHost], host: _Host) -> None:
        async for message in requests:
            kind = message.WhichOneof("message")
            if kind == "report":
                self._take(message.report, host)
            elif kind == "have":
                host.have = message.have.commit

    def _take(self, report: hub_pb2.Report, host: _Host) -> None:
        now = time.time()
        boots = set()
        for process in report.processes[:1000]:
            clean(process)
            process.host, process.seen_at = host.name, now
            boots.add(process.boot)
            if process.alive and process.condition != "STOPPED":
                self._fleet[process.boot] = process
            else:
                self._fleet.pop(process.boot, None)
        for boot in host.boots - boots:
            self._fleet.pop(boot, None)
        self._dirty |= boots | host.boots
        host.boots = boots
        self._touch()

    def _seen(self, host: _Host) -> None:
        """The stream is up: its processes are known to be there, although nothing changed."""
        now = time.time()
        for boot in host.boots:
            if process := self._fleet.get(boot):
                process.seen_at = now

    def _lost(self, host: _Host) -> None:
        """Keep what a host said last, marked: it may serve on without a hub."""
        for boot in host.boots:
            if process := self._fleet.get(boot):
                process.reason = "the host's stream ended; last known state"
                self._dirty.add(boot)
        self._touch()

    async def _offer(self, have: str, tip: str) -> bytes:
        """Serialise one offer, once for everybody in the same place."""
        key = (have, tip)
        task = self._offers.get(key)
        if task is None:
            task = self._offers[key] = asyncio.create_task(asyncio.to_thread(self._make_offer, have, tip))
            if len(self._offers) > _OFFERS_KEPT:
                self._offers.popitem(last=False)
        try:
            return await asyncio.shield(task)  # one stream that ends must not take the offer from the others
        except Exception:
            self._offers.pop(key, None)
            raise

    def _make_offer(self, have: str, tip: str) -> bytes:
        pack = b""
        if have:
            try:
                pack = self._packer.build_pack(have, tip)
            except LivecfgError as error:  # the client is on another branch, or far behind: it asks for objects
                log.debug("no pack for an offer: %s", error)
        return hub_pb2.Offer(tip=tip, pack=pack if len(pack) <= wire.INLINE_PACK_BYTES else b"").SerializeToString()

    async def get_objects(self, request: hub_pb2.ObjectsRequest, context: Any) -> AsyncIterator[bytes]:
        """Send the pack from `have` to `want`, which must be the tip that was offered."""
        if not request.want or request.want != self.tip.commit:
            await context.abort(grpc.StatusCode.NOT_FOUND, "only the newest revision can be had here")
        try:
            pack = await asyncio.to_thread(self._packer.build_pack, request.have, request.want)
        except LivecfgError:
            try:
                pack = await asyncio.to_thread(self._packer.build_pack, "", request.want)
            except LivecfgError:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large for the hub: ask Git")
                return
        if len(pack) > wire.OBJECTS_BYTES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large for the hub: ask Git")
        for start in range(0, len(pack), _PART_BYTES):
            yield hub_pb2.ObjectsPart(data=pack[start : start + _PART_BYTES]).SerializeToString()

    # --- the fleet ----------------------------------------------------------------------------------------------------

    async def fleet(self, request: hub_pb2.FleetRequest, _context: Any) -> bytes:
        """Give what every process serves."""
        return self._reply(request)

    async def watch_fleet(self, request: hub_pb2.FleetRequest, _context: Any) -> AsyncIterator[bytes]:
        """Give it now and after every change."""
        while not self.draining:
            changed = self._changed
            yield self._reply(request)
            await changed.wait()

    def _reply(self, request: hub_pb2.FleetRequest) -> bytes:
        found = [p for p in self._fleet.values() if request.service in {"", p.service} and request.env in {"", p.env}]
        found.sort(key=lambda p: (p.service, p.env, p.host, p.pid))
        return hub_pb2.FleetReply(tip=self.tip, processes=found, refusals=self.refusals).SerializeToString()

    def _touch(self) -> None:
        if not self.draining:
            event, self._changed = self._changed, asyncio.Event()
            event.set()


class _Host:
    """One stream's end: what it has, what was offered, which processes it speaks for."""

    __slots__ = ("boots", "have", "name", "offered")

    def __init__(self, name: str, have: str) -> None:
        self.name = name
        self.have = have
        self.offered = ""
        self.boots: set[str] = set()


_HEARTBEAT = hub_pb2.Offer(heartbeat=True).SerializeToString()


async def _first(timeout_s: float, event: Any, reader: asyncio.Task[None]) -> bool:
    """Wait for the event or the end of the reader; False when the time is up before either."""
    waiting = asyncio.ensure_future(event)
    try:
        done, _ = await asyncio.wait({waiting, reader}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        waiting.cancel()
