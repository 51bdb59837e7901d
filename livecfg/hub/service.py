"""The gRPC service: offers down one stream per host, reports up, the fleet for whoever may ask. Trusted by no one.

One writer per stream and one outstanding offer per client: a client that does not read holds up nobody but itself, and not for
long. Offers are serialised once per (have, tip) and sent to every stream as bytes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from livecfg.errors import LivecfgError
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.access import Access, Credential, Role
from livecfg.hub.fleet import Fleet, Host
from livecfg.hub.offers import BusyError, Offers, Packer
from livecfg.hub.report import text
from livecfg.hub.standing import COMES_BACK_S, standing
from livecfg.hub.streams import Bucket, Stream
from livecfg.hub.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from livecfg.hub.stores import Store

log = logging.getLogger(__name__)

_PART_BYTES = 256 << 10
_COUNTS_BYTES = 15 << 18
"""Of the 4 MiB of a message: older clients take one reply alone."""
_OVERHEAD = 4
_WATCHED_S = 1e-4
"""What a watcher waits for each process after an answer; making one takes an eighth of it."""
_WAITED_S = 1e-5
"""The same of an answer that counts them."""
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATION = re.compile(r"[0-9a-f]{7,64}")
_PLACES_KEPT = 1000


class Limits:
    """What one client may take, in seconds and counts; attributes of the class, so that a test can tighten them."""

    hello_s = 10.0
    write_s = 15.0
    """A client that does not read for so long is dropped."""
    answer_s = 90.0
    """As is one that does not answer an offer; it may have to fetch 64 MiB from here first."""
    messages_per_s, messages_burst = 20.0, 100.0
    objects_per_s, objects_burst = 0.2, 5.0
    streams_per_credential = 20_000
    asks_per_credential = 100
    """Questions of one credential that are being answered at once, watchers among them."""
    busy_s = 0.005
    """A host whose report took longer to take is not read for nine times as long."""


class HubService:
    """Everything the hub knows, and the handlers over it. Lives on one event loop."""

    def __init__(
        self,
        packer: Packer,
        store: Store,
        repo_id: str,
        ref: str,
        access: Access | None = None,
        place: Callable[[str, str], hub_pb2.Commit] | None = None,
    ) -> None:
        self.fleet = Fleet(store)
        self.tally = Tally(store)
        self.tip = hub_pb2.Commit(ref=ref)
        self.refusals: list[hub_pb2.Refusal] = []
        self.draining = False
        self._began_s = time.monotonic()
        self.counts: Counter[str] = Counter()
        self._access = access or Access()
        self._offers = Offers(packer)
        self._place = place
        self._places: dict[tuple[str, str, int], hub_pb2.Commit] = {}
        self._placing = asyncio.Lock()
        self._repo_id = repo_id
        self._ref = ref
        self._offered = ""
        self._statement = b""
        self._alive = hub_pb2.Offer(heartbeat=True).SerializeToString()
        self._attested = ""
        self._streams: set[Stream] = set()
        self._by_credential: Counter[str] = Counter()
        self._asks: Counter[str] = Counter()
        self._objects: dict[str, Bucket] = {}

    @property
    def streams(self) -> int:
        """How many hosts are connected."""
        return len(self._streams)

    # --- what the server calls ----------------------------------------------------------------------------------------

    def offer(self, tip: str, have: str = "", offer: bytes = b"", sent: Callable[[], object] | None = None) -> None:
        """Offer a new tip to every stream; `offer`, when given, is the serialised one for those who are at `have`.

        `sent` is called when each stream that waited for it was handed it.
        """
        if offer:
            self._offers.ready(have, tip, offer)
        if tip != self._offered:
            self._offered = tip
            self._renew(wake=True)
        if sent is not None:
            asyncio.get_running_loop().call_soon(sent)  # after the first step of each writer

    def attest(self, statement: bytes, tip: str) -> None:
        """Carry a signed heartbeat: at once when it is of another tip than the last, else with the next sign of life."""
        news, self._statement, self._attested = tip != self._attested, statement, tip
        self._renew(wake=news)

    def _renew(self, *, wake: bool) -> None:
        self._alive = hub_pb2.Offer(heartbeat=True, tip=self._offered, statement=self._statement).SerializeToString()
        for stream in self._streams if wake else ():
            stream.tell()

    def tick(self) -> None:
        """Give signs of life that are due, and drop who does not read or answer; once a second."""
        now_s, now = time.monotonic(), time.time()
        for stream in self._streams:
            host = stream.host
            if (stream.writing_since and now_s - stream.writing_since > Limits.write_s) or (
                host.waiting and now_s - host.offered_at > Limits.answer_s
            ):
                self.counts["dropped"] += 1
                log.warning("dropped %s: it does not read, or does not answer", host.name)
                stream.end(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
            elif now_s - stream.alive_at >= wire.HEARTBEAT_S:
                self.fleet.seen(host, now)
                stream.tell()

    def publish(self, tip: hub_pb2.Commit, refusals: list[hub_pb2.Refusal]) -> None:
        """Say what the hub's own walk found: the tip's position, and the commits it skipped."""
        self.offer(tip.commit)
        if (tip, refusals) != (self.tip, self.refusals):
            self.tip, self.refusals = tip, refusals
            self.fleet.touch()

    async def flush(self, *, is_last: bool = False) -> None:
        """Write what changed to the store; counts when it is time to, or the last."""
        await self.fleet.flush(time.time())
        if is_last or self.tally.is_rested:
            await self.tally.flush(time.time())

    def drain(self) -> None:
        """End every stream soon; clients come back to whoever is there."""
        self.draining = True
        for stream in self._streams:
            stream.end(grpc.StatusCode.OK, "")
        self.fleet.touch()

    def handler(self) -> grpc.GenericRpcHandler:
        """Give the handlers as grpc wants them; offers and replies are already bytes."""
        from_host, objects, fleet, counts = (
            hub_pb2.FromHost.FromString,
            hub_pb2.ObjectsRequest.FromString,
            hub_pb2.FleetRequest.FromString,
            hub_pb2.CountsRequest.FromString,
        )
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Follow": grpc.stream_stream_rpc_method_handler(self.follow, from_host),
            "GetObjects": grpc.unary_stream_rpc_method_handler(self.get_objects, objects),
            "Fleet": grpc.unary_stream_rpc_method_handler(self.ask_fleet, fleet),
            "WatchFleet": grpc.unary_stream_rpc_method_handler(self.watch_fleet, fleet),
            "Counts": grpc.unary_stream_rpc_method_handler(self.ask_counts, counts),
        }
        return grpc.method_handlers_generic_handler(wire.SERVICE, methods)

    async def _admit(self, context: Any, role: Role) -> Credential:
        """Give the caller's credential, or end the call."""
        names = (context.auth_context() or {}).get("x509_common_name", ())
        credential = self._access.identify(dict(context.invocation_metadata()).get("authorization", ""), names)
        if credential is None:
            self.counts["unauthenticated"] += 1
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token or a client certificate is needed")
            raise AssertionError  # abort raised
        if role not in credential.may:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"this credential has not the role of {role}")
        return credential

    # --- one host's stream --------------------------------------------------------------------------------------------

    async def follow(self, _requests: AsyncIterator[hub_pb2.FromHost], context: Any) -> None:
        """Serve one host until it goes."""
        credential = await self._admit(context, "agent")
        if self._by_credential[credential.name] >= Limits.streams_per_credential:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "this credential has too many streams")
        try:
            async with asyncio.timeout(Limits.hello_s):
                first = await context.read()
        except TimeoutError:
            first = grpc.aio.EOF
        if first is grpc.aio.EOF or first.WhichOneof("message") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a hello")
            return
        hello = first.hello
        if (hello.repo_id, hello.ref) != (self._repo_id, self._ref):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this hub serves another repository or ref")
        if self.draining:
            return
        stream = Stream(Host(credential, text(hello.host), _commit(hello.have)), context, self)
        code, why = await self._serve(stream, context)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, why)

    async def _serve(self, stream: Stream, context: Any) -> tuple[grpc.StatusCode, str]:
        """Read from a host until it goes or the hub ends it; gives the status to end with. What it hears, `next` says."""
        host, name = stream.host, stream.host.credential.name
        self._streams.add(stream)
        self._by_credential[name] += 1
        try:
            stream.tell()
            return await self._read(host, stream, context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if stream.ending is None or task is None:
                raise  # not by us: the host is gone
            task.uncancel()
            return stream.ending
        finally:
            self._streams.discard(stream)
            self._by_credential[name] -= 1
            stream.close()
            self.fleet.lost(host)

    def next(self, stream: Stream) -> bytes | asyncio.Future[bytes] | None:
        """Say what a host should hear now: first that the hub is there, then the tip, then signed heartbeats, signs of life."""
        host, now_s = stream.host, time.monotonic()
        if stream.alive_at and host.wants(self._offered):
            host.offered, host.offered_at, host.waiting = self._offered, now_s, True
            self.counts["offers"] += 1
            return self._offers.made(host.have, host.offered)
        if stream.told != self._attested or now_s - stream.alive_at >= wire.HEARTBEAT_S or not stream.alive_at:
            stream.told, stream.alive_at = self._attested, now_s
            return self._alive
        return None

    async def _read(self, host: Host, stream: Stream, context: Any) -> tuple[grpc.StatusCode, str]:
        bucket = Bucket(Limits.messages_per_s, Limits.messages_burst)
        while (message := await context.read()) is not grpc.aio.EOF:
            if not bucket.take():
                self.counts["throttled"] += 1
                return grpc.StatusCode.RESOURCE_EXHAUSTED, "too many messages"
            kind = message.WhichOneof("message")
            if kind == "report":
                self.counts["reports"] += 1
                now = time.time()
                self.tally.take(message.report, self.fleet.take(message.report, host, now), now)
                if (spent_s := time.time() - now) > Limits.busy_s:
                    await asyncio.sleep(9 * spent_s)  # a host has a tenth of the loop at most; what it sends waits with it
            elif kind == "have":
                host.answer(_commit(message.have.commit))
                stream.tell()
        return grpc.StatusCode.OK, ""

    async def get_objects(self, request: hub_pb2.ObjectsRequest, context: Any) -> AsyncIterator[bytes]:
        """Send the pack from `have` to `want`, which must be the tip that was offered."""
        await self._admit(context, "agent")
        if not self._bucket(context.peer()).take():
            self.counts["throttled"] += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests for objects: ask Git")
        if not request.want or request.want != self._offered:
            await context.abort(grpc.StatusCode.NOT_FOUND, "only the newest revision can be had here")
        pack = b""
        try:
            pack = await self._offers.pack(_commit(request.have), request.want)
        except BusyError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask at once: ask Git")
        except LivecfgError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large for the hub: ask Git")
        if len(pack) > wire.OBJECTS_BYTES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large for the hub: ask Git")
        self.counts["objects"] += 1
        for start in range(0, len(pack), _PART_BYTES):
            yield hub_pb2.ObjectsPart(data=pack[start : start + _PART_BYTES]).SerializeToString()

    def _bucket(self, peer: str) -> Bucket:
        """The allowance of one connection."""
        if len(self._objects) > 10_000:
            self._objects = {name: bucket for name, bucket in self._objects.items() if not bucket.is_full}
        return self._objects.setdefault(peer, Bucket(Limits.objects_per_s, Limits.objects_burst))

    @asynccontextmanager
    async def _asked(self, credential: Credential, context: Any) -> AsyncIterator[None]:
        """Answer one of so many questions of a credential at once."""
        if self._asks[credential.name] >= Limits.asks_per_credential:
            self.counts["throttled"] += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "this credential asks too much at once")
        self._asks[credential.name] += 1
        try:
            yield
        finally:
            self._asks[credential.name] -= 1

    # --- the fleet ----------------------------------------------------------------------------------------------------

    async def ask_fleet(self, request: hub_pb2.FleetRequest, context: Any) -> AsyncIterator[bytes]:
        """Give what every process serves."""
        credential = await self._admit(context, "viewer")
        async with self._asked(credential, context):
            async for reply in self._answer(request, credential):
                yield reply

    async def watch_fleet(self, request: hub_pb2.FleetRequest, context: Any) -> AsyncIterator[bytes]:
        """Give it now and after changes: the more processes there are, the more changes go into one answer."""
        credential = await self._admit(context, "viewer")
        async with self._asked(credential, context):
            while not self.draining:
                changed = self.fleet.changed
                async for reply in self._answer(request, credential):
                    yield reply
                await asyncio.sleep(len(self.fleet) * (_WAITED_S if request.standing else _WATCHED_S))
                await changed.wait()

    async def ask_counts(self, request: hub_pb2.CountsRequest, context: Any) -> AsyncIterator[bytes]:
        """Give what was counted of a split or an experiment, in parts that fit into messages."""
        credential = await self._admit(context, "viewer")
        if credential.service not in {"", request.service}:
            if request.service:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this credential may not see that service")
            request.service = credential.service
        async with self._asked(credential, context):
            reply, size = hub_pb2.CountsReply(), 0
            for row in await self.tally.ask(request):
                if (more := row.ByteSize() + _OVERHEAD) + size > _COUNTS_BYTES:
                    reply.more = True
                    yield reply.SerializeToString()
                    reply, size = hub_pb2.CountsReply(), 0
                reply.counts.append(row)
                size += more
            yield reply.SerializeToString()

    async def _placed(self, rev: str) -> hub_pb2.Commit | None:
        """Say where a commit stands on the ref; one is looked up at a time, so that they take one thread from the offers."""
        if not _ABBREVIATION.fullmatch(rev) or self._place is None or not self.tip.commit:
            return hub_pb2.Commit() if rev and self._place is not None else None
        async with self._placing:
            tip = self.tip
            key = rev, tip.commit, tip.position
            if key not in self._places:
                try:
                    found = await asyncio.to_thread(self._place, tip.commit, rev)
                except LivecfgError as error:
                    log.warning("cannot look a commit up: %s", error)
                    return hub_pb2.Commit()
                if len(self._places) >= _PLACES_KEPT:
                    self._places.clear()
                self._places[key] = found
            return self._places[key]

    async def _answer(self, request: hub_pb2.FleetRequest, credential: Credential) -> AsyncIterator[bytes]:
        """Give an answer as it is asked for."""
        rev = await self._placed(request.rev)
        if request.standing and request.rev:
            places = [place for place in (rev, self.tip) if place is not None]
            processes = self.fleet.find(request.service, request.env, credential)
            has_begun = time.monotonic() - self._began_s < COMES_BACK_S
            reply = await standing(processes, request.rev, places, time.time(), has_begun=has_begun)
            reply.MergeFrom(hub_pb2.FleetReply(tip=self.tip, rev=rev))
            yield reply.SerializeToString()
            return
        for part in self._replies(request, credential, rev):
            yield part

    def _replies(self, request: hub_pb2.FleetRequest, credential: Credential, rev: hub_pb2.Commit | None) -> Iterator[bytes]:
        """Give an answer in parts that fit into messages; streams go on between them."""
        reply, size = hub_pb2.FleetReply(tip=self.tip, refusals=self.refusals, rev=rev), 0
        for process in self.fleet.find(request.service, request.env, credential):
            if size > _PART_BYTES:
                reply.more = True
                yield reply.SerializeToString()
                reply, size = hub_pb2.FleetReply(), 0
            reply.processes.append(process)
            size += process.ByteSize()
        yield reply.SerializeToString()


def _commit(given: str) -> str:
    """Give what a host says it has; nothing where that is no object id: offers are kept by it."""
    return given if _OBJECT_ID.fullmatch(given) else ""
