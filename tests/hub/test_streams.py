"""Streams of the hub over real gRPC in one process: who hears what, in which order, and who is dropped."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.service import HubService, Limits
from livecfg.hub.stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    import pytest

WAIT_S = 60.0
OLD, NEW, NEWER = "a" * 40, "b" * 40, "c" * 40


class Packs:
    """Packs of one size, counted."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.made: list[tuple[str, str]] = []

    def build_pack(self, have: str, tip: str) -> bytes:
        self.made.append((have, tip))
        return b"p" * self.size


class Host:
    """One host's end of a stream."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def hears(self) -> Any:
        return await asyncio.wait_for(self.call.read(), WAIT_S)

    async def has(self, commit: str) -> None:
        await self.call.write(hub_pb2.FromHost(have=hub_pb2.Have(commit=commit)))

    async def ends_with(self) -> grpc.StatusCode:
        return await asyncio.wait_for(self.call.code(), WAIT_S)  # type: ignore[no-any-return]


class Site:
    """A hub's service behind a real server."""

    def __init__(self, packs: Packs) -> None:
        self.packs = packs
        self.service = HubService(packs, open_store("sqlite://"), "repo", "main")
        self.port = 0

    @asynccontextmanager
    async def host(self, have: str = OLD) -> AsyncIterator[Host]:
        """Connect, and hear that the hub is there."""
        options = [*wire.CLIENT_OPTIONS, ("grpc.http2.bdp_probe", 0)]  # else the window may grow to take all of an offer
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            follow = channel.stream_stream(
                f"/{wire.SERVICE}/Follow",
                request_serializer=hub_pb2.FromHost.SerializeToString,
                response_deserializer=hub_pb2.Offer.FromString,
            )
            host = Host(follow(wait_for_ready=True))
            await host.call.write(hub_pb2.FromHost(hello=hub_pb2.Hello(repo_id="repo", ref="main", have=have, host="h")))
            assert (await host.hears()).heartbeat
            yield host

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)


def run(scenario: Callable[[Site], Coroutine[Any, Any, None]], packs: Packs | None = None) -> None:
    async def main() -> None:
        site = Site(packs or Packs())
        server = grpc.aio.server(options=wire.SERVER_OPTIONS)
        server.add_generic_rpc_handlers((site.service.handler(),))
        site.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            await scenario(site)
        finally:
            await server.stop(0)

    asyncio.run(main())


def test_a_tip_is_offered_once_and_the_next_when_the_host_has_answered() -> None:
    async def scenario(site: Site) -> None:
        async with site.host() as host:
            site.service.offer(NEW)
            assert (await host.hears()).tip == NEW
            site.service.offer(NEWER)
            site.service.attest(b"signed", NEWER)
            assert (await host.hears()).statement == b"signed", "an offer waits for the answer to the last; heartbeats do not"
            await host.has(NEW)
            offer = await host.hears()
            assert (offer.tip, offer.pack) == (NEWER, b"p" * 100)
        assert site.packs.made == [(OLD, NEW), (NEW, NEWER)]

    run(scenario)


def test_a_pack_is_made_once_for_all_who_have_the_same() -> None:
    async def scenario(site: Site) -> None:
        async with site.host() as one, site.host() as two, site.host(NEW) as there:
            sent = asyncio.Event()
            site.service.offer(NEW, OLD, hub_pb2.Offer(tip=NEW, pack=b"ready").SerializeToString(), sent.set)
            await asyncio.wait_for(sent.wait(), WAIT_S)
            assert [(await host.hears()).pack for host in (one, two)] == [b"ready", b"ready"]
            site.service.attest(b"signed", NEW)
            assert (await there.hears()).statement == b"signed", "who has the tip is not offered it"
        assert site.packs.made == []

    run(scenario)


def test_who_does_not_answer_is_dropped_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        async with site.host() as silent, site.host() as quick:
            site.service.offer(NEW)
            assert (await silent.hears()).tip == NEW
            assert (await quick.hears()).tip == NEW
            await quick.has(NEW)
            site.service.offer(NEWER)
            assert (await quick.hears()).tip == NEWER
            await quick.has(NEWER)
            await site.until(lambda: sum(stream.host.waiting for stream in site.service._streams) == 1)
            monkeypatch.setattr(Limits, "answer_s", 0.0)
            site.service.tick()
            assert await silent.ends_with() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert (site.service.streams, site.service.counts["dropped"]) == (1, 1)

    run(scenario)


def test_who_does_not_read_is_dropped_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        async with site.host(), site.host(NEW) as quick:
            site.service.offer(NEW)  # more than the window of a stream: the write cannot end
            site.service.attest(b"signed", NEW)
            assert (await quick.hears()).statement == b"signed"
            await site.until(lambda: [s.host.have for s in site.service._streams if s.writing_since] == [OLD])
            monkeypatch.setattr(Limits, "write_s", 0.0)
            site.service.tick()
            await site.until(lambda: site.service.streams == 1)  # its own side learns it when it reads
            assert site.service.counts["dropped"] == 1

    run(scenario, Packs(1 << 20))


def test_what_is_no_commit_is_taken_for_nothing() -> None:
    async def scenario(site: Site) -> None:
        async with site.host("../" * 1000) as host:
            site.service.offer(NEW)
            assert (await host.hears()).tip == NEW
            await host.has("x" * 1_000_000)
            site.service.offer(NEWER)
            assert (await host.hears()).tip == NEWER
            assert set(site.service._offers._offers) == {("", NEW), ("", NEWER)}
        assert site.packs.made == []

    run(scenario)


def test_a_host_whose_reports_are_a_burden_has_a_tenth_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    pause = asyncio.sleep

    async def sleep(seconds: float, result: Any = None) -> Any:
        slept.append(seconds)
        return await pause(0, result)

    async def scenario(site: Site) -> None:
        async with site.host() as host:
            monkeypatch.setattr("livecfg.hub.service.asyncio.sleep", sleep)
            report = hub_pb2.Report(processes=[hub_pb2.Process(boot="a", alive=True)])
            await host.call.write(hub_pb2.FromHost(report=report))
            for number in range(20_000):
                report.counts.add(boot="a", kind="split", name="copy", arm=str(number), units=[1] * 64)
            await host.call.write(hub_pb2.FromHost(report=report))
            await host.has(OLD)
            await site.until(lambda: site.service.counts["reports"] == 2 and any(s > 0.05 for s in slept))

    run(scenario)


def test_signs_of_life_come_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        async with site.host() as host:
            site.service.tick()
            monkeypatch.setattr(wire, "HEARTBEAT_S", 0.0)
            site.service.tick()
            assert (await host.hears()).heartbeat

    run(scenario)


def test_draining_ends_every_stream_well() -> None:
    async def scenario(site: Site) -> None:
        async with site.host() as one, site.host() as two:
            site.service.drain()
            assert [await host.ends_with() for host in (one, two)] == [grpc.StatusCode.OK] * 2
            await site.until(lambda: site.service.streams == 0)

    run(scenario)


def test_a_host_that_sends_too_much_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "messages_burst", 3.0)
    monkeypatch.setattr(Limits, "messages_per_s", 0.0)

    async def scenario(site: Site) -> None:
        async with site.host() as host:
            for _ in range(4):
                await host.has(OLD)
            assert await host.ends_with() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert site.service.counts["throttled"] == 1

    run(scenario)


def test_a_host_that_goes_is_forgotten() -> None:
    async def scenario(site: Site) -> None:
        async with site.host() as host:
            host.call.cancel()
            await site.until(lambda: site.service.streams == 0)

    run(scenario)
