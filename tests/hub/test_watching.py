"""What the hub says of its fleet, over real gRPC: all of it, however large, and not after every single change."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from livecfg.cli import fleet
from livecfg.cli.hubcall import ask
from livecfg.hub import service, wire
from livecfg.hub._pb import hub_pb2
from livecfg.hub.access import ANYBODY
from livecfg.hub.fleet import Host
from tests.hub.test_streams import NEW, OLD, WAIT_S, Site, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def test_a_fleet_of_more_than_one_message_is_shown_whole_and_waited_for() -> None:
    """Twelve hosts of a thousand processes: over the four MiB that a message may have."""

    async def scenario(site: Site) -> None:
        fleet = site.service.fleet
        for number in range(12):
            report = hub_pb2.Report(processes=[_process(f"{number:02}-{i:03}", i) for i in range(1000)])
            assert report.ByteSize() * 12 > wire.MESSAGE_BYTES
            fleet.take(report, Host(ANYBODY, f"node-{number:02}", ""), time.time())
        _, shown = await _livecfg(site, "fleet", "status", "-o", "json")
        processes = json.loads(shown)["data"]["processes"]
        assert [p["host"] for p in processes] == sorted(f"node-{n:02}" for n in range(12) for _ in range(1000))
        assert len({p["boot"] for p in processes}) == 12_000
        code, shown = await _livecfg(site, "fleet", "wait", "--rev", NEW[:10], "--timeout", "30")
        assert (code, shown.split(" after ")[0]) == (0, f"12000 processes serve {NEW[:10]}")

    run(scenario)


def test_a_wait_is_told_how_many_are_behind_and_a_few_of_them() -> None:
    async def scenario(site: Site) -> None:
        report = hub_pb2.Report(processes=[_process(f"{i:04}", i) for i in range(5000)])
        for process in report.processes[:3000]:
            process.applied.commit, process.applied.position = OLD, 0
        for process in report.processes[2990:3000]:
            process.condition = "REFUSED"
            process.refusals.add(commit=NEW, code="LC202", message="no number")
        known = site.service.fleet
        for start in range(0, 5000, 1000):
            known.take(hub_pb2.Report(processes=report.processes[start : start + 1000]), _host(start), time.time())
        code, shown = await _livecfg(site, "fleet", "wait", "--rev", NEW[:10], "--timeout", "2")
        assert code == 6
        assert "checkout/prod pid 2990 on node-2000 refused it: LC202 no number, " in shown
        assert "pid 2999 on node-2000 refused it: LC202 no number and 2990 more\n" in shown
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}", options=wire.CLIENT_OPTIONS) as channel:
            types = hub_pb2.FleetRequest.SerializeToString, hub_pb2.FleetReply.FromString
            request = hub_pb2.FleetRequest(rev=NEW, standing=True)
            watcher = channel.unary_stream(f"/{wire.SERVICE}/WatchFleet", *types)(request, wait_for_ready=True, timeout=WAIT_S)
            reply = await watcher.read()
            assert (reply.standing.counted, reply.standing.behind, len(reply.processes)) == (5000, 3000, 10)
            for process in [*known._known.values()][:3000]:
                process.condition, process.seen_at = "LOST", time.time() - 30
            site.service._began_s -= 60  # the hub is there for longer than they need to come back
            known.touch()
            reply = await watcher.read()
            assert (reply.standing.counted, reply.standing.behind, len(reply.processes)) == (2000, 0, 0)

    run(scenario)


def test_a_wait_ends_with_an_older_hub_that_gives_all_processes_and_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a hundred thousand: its answer takes longer than the time after which it is asked again."""
    monkeypatch.setattr(fleet, "_ASK_AGAIN_S", 0.1)

    def answer(_request: hub_pb2.FleetRequest, context: grpc.ServicerContext) -> Iterator[hub_pb2.FleetReply]:
        gone = threading.Event()
        context.add_callback(gone.set)
        for number in range(3):
            if gone.wait(0.2):
                return
            yield hub_pb2.FleetReply(processes=[_process(str(number), number)], more=number < 2)
        gone.wait()

    types = hub_pb2.FleetRequest.FromString, hub_pb2.FleetReply.SerializeToString
    handlers = {"WatchFleet": grpc.unary_stream_rpc_method_handler(answer, *types)}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        request = hub_pb2.FleetRequest(rev=NEW, standing=True)
        reply = fleet._stands(NEW, next(fleet._watched(f"127.0.0.1:{port}", request, 30.0)))
        assert (reply.standing.counted, reply.standing.behind) == (3, 0)
    finally:
        server.stop(0).wait()


SHOWN = """
import sys
from livecfg.cli import fleet
from livecfg.cli.hubcall import ask
from livecfg.hub._pb import hub_pb2
reply = ask(sys.argv[1], "Counts", hub_pb2.CountsRequest(kind="experiment", name="copy"), hub_pb2.CountsReply)
print(len(reply.counts), len({row.service for row in reply.counts}), sum(sum(row.units) for row in reply.counts))
"""


def test_counts_of_more_than_one_message_are_shown_whole() -> None:
    async def scenario(site: Site) -> None:
        for number in range(10):
            report = hub_pb2.Report(processes=[_process(f"{number}-{i}", i) for i in range(1000)])
            for i, process in enumerate(report.processes):
                process.service = f"service-{number}-{i}"
                row = report.counts.add(
                    boot=process.boot, kind="experiment", name="copy", arm="on", metric="paid", units=[1] * 64
                )
                row.sums.extend([0.5] * 64)
            speakers = site.service.fleet.take(report, Host(ANYBODY, f"node-{number}", ""), time.time())
            site.service.tally.take(report, speakers, time.time())
        await site.service.flush()
        command = ("-c", SHOWN, f"127.0.0.1:{site.port}")
        done = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(done.communicate(), WAIT_S)
        assert out.decode() == "10000 10000 640000\n"

    run(scenario)


def test_counts_are_had_from_a_hub_that_gives_one_reply() -> None:
    """As hubs did before answers came in parts."""
    reply = hub_pb2.CountsReply(counts=[hub_pb2.ArmCounts(kind="experiment", name="copy", units=[3])])
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: reply.SerializeToString())
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, {"Counts": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert ask(f"127.0.0.1:{port}", "Counts", hub_pb2.CountsRequest(), hub_pb2.CountsReply) == reply
    finally:
        server.stop(0).wait()


def test_a_credential_asks_so_many_questions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.Limits, "asks_per_credential", 2)

    async def scenario(site: Site) -> None:
        site.service.fleet.take(hub_pb2.Report(processes=[_process("a", 1)]), Host(ANYBODY, "node", ""), time.time())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}", options=wire.CLIENT_OPTIONS) as channel:
            types = hub_pb2.FleetRequest.SerializeToString, hub_pb2.FleetReply.FromString

            def asked(method: str) -> grpc.aio.UnaryStreamCall[hub_pb2.FleetRequest, hub_pb2.FleetReply]:
                call = channel.unary_stream(f"/{wire.SERVICE}/{method}", *types)
                return call(hub_pb2.FleetRequest(), wait_for_ready=True, timeout=WAIT_S)

            watchers = [asked("WatchFleet") for _ in range(2)]
            for watcher in watchers:
                assert len((await watcher.read()).processes) == 1
            for method in ("Fleet", "WatchFleet", "Counts"):
                assert await asked(method).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            watchers[0].cancel()
            await site.until(lambda: site.service._asks[""] == 1)
            assert len((await asked("Fleet").read()).processes) == 1
            await site.until(lambda: site.service._asks[""] == 1)

    run(scenario)


def test_a_watcher_of_a_large_fleet_hears_of_many_changes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred processes, as if they were twenty thousand."""
    monkeypatch.setattr(service, "_WATCHED_S", 200 * service._WATCHED_S)

    async def scenario(site: Site) -> None:
        fleet = site.service.fleet
        fleet.take(hub_pb2.Report(processes=[_process(str(i), i) for i in range(100)]), Host(ANYBODY, "node", ""), time.time())
        other = Host(ANYBODY, "other", "")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}", options=wire.CLIENT_OPTIONS) as channel:
            types = hub_pb2.FleetRequest.SerializeToString, hub_pb2.FleetReply.FromString
            answers = channel.unary_stream(f"/{wire.SERVICE}/WatchFleet", *types)(hub_pb2.FleetRequest(), wait_for_ready=True)
            heard = [await asyncio.wait_for(answers.read(), WAIT_S)]
            for number in range(50):
                fleet.take(hub_pb2.Report(processes=[_process("other", number)]), other, time.time())
                await asyncio.sleep(0.001)
            while not any(p.host == "other" and p.pid == 49 for reply in heard for p in reply.processes):
                heard.append(await asyncio.wait_for(answers.read(), WAIT_S))
            assert len([reply for reply in heard if not reply.more]) < 10

    run(scenario)


def _host(number: int) -> Host:
    return Host(ANYBODY, f"node-{number}", "")


def _process(boot: str, pid: int) -> hub_pb2.Process:
    serves = hub_pb2.Commit(ref="main", commit=NEW, payload_sha256="0" * 64, position=1)
    return hub_pb2.Process(
        boot=f"{boot}-{'0' * 40}",
        pid=pid,
        service="checkout",
        env="prod",
        instance=f"checkout-{boot}.example.com",
        labels={"team": "payments", "zone": "eu-west-1a"},
        python="3.11.7",
        condition="READY",
        applied=serves,
        desired=serves,
        alive=True,
    )


async def _livecfg(site: Site, *words: str) -> tuple[int | None, str]:
    command = ("-m", "livecfg", *words, "--hub", f"127.0.0.1:{site.port}")
    pipe = asyncio.subprocess.PIPE
    done = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    out, _ = await asyncio.wait_for(done.communicate(), WAIT_S)
    return done.returncode, out.decode()
