"""A real hub with many streams on loopback: connect, fan-out, memory, reports, and back after kill -9.

The clients are *light*: streams in a process or two that acknowledge an offer and verify nothing. 1,000 of them; LARGE=1: 10,000.
They share the processors with the hub, so the floor is a bare grpc.aio server that writes the same bytes to the same clients; the
floor of that is a bare asyncio TCP server: what this machine can do at all.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.figures import Figure, percentile, ratio, show  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

STREAMS = 10_000 if os.environ.get("LARGE") else 1_000
PROCESSES = 2
REPORTS_EACH = 10
PUBLICATIONS = 10


def raise_limits() -> None:
    """As many descriptors as this process may have; the hub and the clients inherit them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 4 * STREAMS + 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


# --- the light clients: `hub.py light ADDRESS STREAMS REPO_ID HAVE` -----------------------------------------------------------


class Light:
    """Many streams; answers one command per line of standard input."""

    def __init__(self, address: str, streams: int, repo_id: str, have: str) -> None:
        self.address, self.repo_id, self.have = address, repo_id, have
        self.met: dict[str, list[int]] = {}
        self.connected: list[int] = [0] * streams
        self.sending: list[Any] = [None] * streams

    async def one(self, n: int) -> None:
        """Keep one stream, as HubLink does: again after a pause when it breaks."""
        import grpc
        import grpc.aio

        from livecfg.hub import wire
        from livecfg.hub._pb import hub_pb2

        tries, have = 0, self.have
        while True:
            try:
                async with grpc.aio.insecure_channel(self.address, options=wire.CLIENT_OPTIONS) as channel:
                    call = channel.stream_stream(
                        f"/{wire.SERVICE}/Follow",
                        request_serializer=hub_pb2.FromHost.SerializeToString,
                        response_deserializer=hub_pb2.Offer.FromString,
                    )(wait_for_ready=True)
                    hello = hub_pb2.Hello(protocol=wire.PROTOCOL, have=have, host=f"light-{n}", repo_id=self.repo_id, ref="main")
                    await call.write(hub_pb2.FromHost(hello=hello))
                    while (offer := await call.read()) is not grpc.aio.EOF:
                        now = time.monotonic_ns()
                        if not self.connected[n]:
                            tries, self.connected[n], self.sending[n] = 0, now, call
                        if not offer.heartbeat:
                            have = offer.tip
                            self.met.setdefault(have, []).append(now)
                            await call.write(hub_pb2.FromHost(have=hub_pb2.Have(commit=have)))
            except grpc.aio.AioRpcError:
                pass
            self.connected[n] = 0
            tries += 1
            await asyncio.sleep(random.uniform(0, min(3.0, 0.2 * 2.0 ** min(tries, 10))))

    async def report(self, count: int) -> float:
        """Send so many reports on each stream; gives how long that took."""
        from livecfg.hub.report import to_report

        process = {"boot": "0" * 16, "pid": 1, "service": "checkout", "env": "prod", "instance": "i", "condition": "READY"}
        from livecfg.hub._pb import hub_pb2

        message = hub_pb2.FromHost(report=to_report([process | {"alive": True}])[0])

        async def send(call: Any) -> None:
            for _ in range(count):
                await call.write(message)

        began = time.monotonic()
        await asyncio.gather(*(send(call) for call in self.sending))
        return time.monotonic() - began

    async def run(self) -> None:
        """Connect, then answer until standard input ends."""
        tasks = [asyncio.create_task(self.one(n)) for n in range(len(self.connected))]
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            what, _, argument = line.strip().partition(" ")
            if what == "connected":
                await until(lambda: all(self.connected))
                answer: Any = [min(self.connected), max(self.connected)]
            elif what == "lost":
                await until(lambda: not any(self.connected))
                answer = True
            elif what == "met":
                await until(lambda tip=argument: len(self.met.get(tip, ())) >= len(self.connected))
                answer = self.met[argument]
            else:
                answer = await self.report(int(argument))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        for task in tasks:
            task.cancel()


async def until(holds: Callable[[], bool]) -> None:
    """Look every few milliseconds: what is measured is stamped where it happens, not here."""
    while not holds():  # noqa: ASYNC110 - an event per stream would cost what is measured
        await asyncio.sleep(0.01)


# --- the floor: `hub.py bare`, tips on standard input ---------------------------------------------------------------------------


async def bare_hub() -> None:
    """Serve the hub's method with nothing behind it: read and drop, write one message to every stream for each tip."""
    import grpc
    import grpc.aio

    from livecfg.hub import wire
    from livecfg.hub._pb import hub_pb2

    contexts: list[Any] = []

    async def follow(_: Any, context: Any) -> None:
        await context.read()
        await context.write(hub_pb2.Offer(heartbeat=True).SerializeToString())
        contexts.append(context)
        while await context.read() is not grpc.aio.EOF:
            pass

    methods = {"Follow": grpc.stream_stream_rpc_method_handler(follow)}
    server = grpc.aio.server(options=wire.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    loop = asyncio.get_running_loop()
    while tip := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        message = hub_pb2.Offer(tip=tip, pack=bytes(650)).SerializeToString()
        print(time.monotonic_ns(), flush=True)
        await asyncio.gather(*(context.write(message) for context in contexts))


def bare_grpc_ms() -> list[float]:
    """Milliseconds until each light client has what a bare grpc.aio server writes to all."""
    pipe, environment = subprocess.PIPE, os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([sys.executable, __file__, "bare"], stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT)
    assert server.stdin is not None
    assert server.stdout is not None
    clients = Clients(server.stdout.readline().strip(), "", "")
    found: list[float] = []
    try:
        clients.ask("connected")
        for n in range(PUBLICATIONS):
            server.stdin.write(f"{n:040}\n")
            server.stdin.flush()
            began = int(server.stdout.readline())
            found += [(at - began) / 1e6 for answer in clients.ask(f"met {n:040}") for at in answer]
    finally:
        clients.end()
        server.kill()
        server.communicate()
    return found


class Clients:
    """The light clients of one run, spread over the processes."""

    def __init__(self, address: str, repo_id: str, have: str, streams: int = 0) -> None:
        each = str((streams or STREAMS) // PROCESSES)
        words = [sys.executable, __file__, "light", address, each, repo_id, have]
        pipe = subprocess.PIPE
        environment = os.environ | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "ERROR"}
        self.processes = [
            subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT) for _ in range(PROCESSES)
        ]

    def ask(self, command: str) -> list[Any]:
        """Ask all; gives their answers."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(command + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self.processes if process.stdout is not None]

    def end(self) -> None:
        """End them."""
        for process in self.processes:
            process.kill()
            process.communicate()


# --- the run ------------------------------------------------------------------------------------------------------------------


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def cpu_us(*pids: int) -> float:
    """Microseconds of processor that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields) * 1e6 / os.sysconf("SC_CLK_TCK")


def measure(folder: Path) -> list[Figure]:
    """Show the hub's own figures; give those against the floors."""
    from benchmarks.sync import move_ref, repository, stage, start_hub
    from tests.simulator.repo import REPO_ID

    repo = repository(folder / "repo", 100)
    hub, address = start_hub(repo, folder)
    before = rss_kib(hub.pid)
    began = time.monotonic()
    clients = Clients(address, REPO_ID, repo.remote_tip())
    rows = []
    try:
        spans = clients.ask("connected")
        taken = (max(end for _, end in spans) - min(first for first, _ in spans)) / 1e9
        rows.append(Figure("connected, streams per second", STREAMS / taken, "1/s"))
        rows.append(Figure("hub memory per stream", (rss_kib(hub.pid) - before) / STREAMS, "KiB"))
        light = [process.pid for process in clients.processes]
        used, used_by_light, times = cpu_us(hub.pid), cpu_us(*light), []
        for n in range(PUBLICATIONS):
            commit = stage(repo, n)
            moved = move_ref(repo, commit)
            times += [(at - moved) / 1e6 for answer in clients.ask(f"met {commit}") for at in answer]
        offers = STREAMS * PUBLICATIONS
        rows.append(Figure("hub: processor per offer and its answer", (cpu_us(hub.pid) - used) / offers, "us"))
        rows.append(Figure("light clients: the same", (cpu_us(*light) - used_by_light) / offers, "us"))
        sockets = min(STREAMS, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1024) // 2)  # both ends in this process
        tcp = bare_fan_out_ms(sockets)
        began = time.monotonic()
        clients.ask(f"report {REPORTS_EACH}")
        rows.append(Figure("reports on the streams", STREAMS * REPORTS_EACH / (time.monotonic() - began), "1/s"))
        hub.kill()
        hub.wait()
        killed = time.monotonic_ns()
        clients.ask("lost")
        hub, _ = start_hub(repo, folder, address)
        back = max(end for _, end in clients.ask("connected"))
        rows.append(Figure("after kill -9 of the hub, all streams back", (back - killed) / 1e9, "s"))
    finally:
        clients.end()
        hub.terminate()
        hub.wait(30)
    rows += [Figure(f"ref moved to offer received, p{percent}", percentile(times, percent), "ms") for percent in (50, 99)]
    show(f"Hub, {STREAMS:,} streams on loopback, light clients in {PROCESSES} processes", rows)  # now: the floors may fail
    rows = []
    bare = bare_grpc_ms()
    for percent in (50, 99):
        value, floor, below = (percentile(found, percent) for found in (times, bare, tcp))
        rows.append(Figure(f"ref moved to offer received, p{percent}", value, "ms", "bare grpc.aio", ratio(value, floor)))
        rows.append(
            Figure(f"bare grpc.aio, the same clients, p{percent}", floor, "ms", f"bare TCP to {sockets:,}", ratio(floor, below))
        )
    return rows


def bare_fan_out_ms(streams: int) -> list[float]:
    """Milliseconds until each of so many sockets has read 700 bytes that one loop writes to all of them."""

    async def run() -> list[float]:
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        readers = [(await asyncio.open_connection("127.0.0.1", port)) for _ in range(streams)]
        await until(lambda: len(writers) >= streams)
        found: list[float] = []

        async def read(reader: asyncio.StreamReader) -> None:
            await reader.readexactly(700)
            found.append((time.monotonic() - began) * 1000)

        tasks = [asyncio.create_task(read(reader)) for reader, _ in readers]
        await asyncio.sleep(0)
        began = time.monotonic()
        for writer in writers:
            writer.write(bytes(700))
        await asyncio.gather(*tasks)
        for writer in (*writers, *(w for _, w in readers)):
            writer.close()
        server.close()
        return found

    return asyncio.run(run())


def main() -> None:
    raise_limits()
    if sys.argv[1:2] == ["light"]:
        import uvloop

        address, streams, repo_id, have = sys.argv[2:]
        uvloop.run(Light(address, int(streams), repo_id, have).run())
        return
    if sys.argv[1:2] == ["bare"]:
        import uvloop

        uvloop.run(bare_hub())
        return
    with tempfile.TemporaryDirectory(prefix="livecfg-bench-") as name:
        show("The same clients, against the floors", measure(Path(name)))


if __name__ == "__main__":
    main()
