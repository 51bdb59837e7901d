"""One commit to a whole fleet over the hub: from the moved ref to the swap in each process, signatures on, loopback only.

Each real client is a process with a home of its own, as a host has: it takes the offer, verifies, loads and swaps; its end is
`on_change`. What a machine cannot hold as processes are light clients: streams in one process that take the offer and
acknowledge it, and verify nothing; they are counted apart. `git fetch` of such a commit, in the same run, is the peer.
`LARGE=1`: 50 real clients, and 1,000 in all; else 10 real ones and 100.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from benchmarks.figures import Figure, percentile, ratio, show
from benchmarks.sync import move_ref, repository, stage, start_hub
from tests.simulator import GitHttpServer
from tests.simulator.repo import isolated

if TYPE_CHECKING:
    from tests.simulator import ConfigRepo

LARGE = bool(os.environ.get("LARGE"))
REAL = 50 if LARGE else 10
SIZES = (1, 100, 1000) if LARGE else (1, 100)
COMMITS = {1: 40, 100: 20, 1000: 10}
REPO_FILES = 1000

REAL_CLIENT = """
import sys, time
from pathlib import Path
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig
class Config(BaseModel, frozen=True):
    timeout_ms: int = 200
url, root, home, hub = sys.argv[1:]
live = LiveConfig(Config, source=GitSource(url=url), trusted_root=Path(root), service="checkout", env="prod", home=Path(home),
                  hub=hub, poll_interval_s=3600, max_staleness_s=86400)
@live.on_change()
def done(old, new):
    print(new.revision.commit, time.monotonic_ns(), flush=True)
with live:
    while live.status.hub != "streaming":
        time.sleep(0.05)
    print("ready", 0, flush=True)
    sys.stdin.read()
"""
LIGHT_CLIENTS = """
import asyncio, sys, time
import grpc.aio
from livecfg.hub import wire
from livecfg.hub._pb import hub_pb2
hub, repo_id, have, number = sys.argv[1:]
async def one(ready):
    async with grpc.aio.insecure_channel(hub, options=wire.CLIENT_OPTIONS) as channel:
        call = channel.stream_stream(f"/{wire.SERVICE}/Follow", hub_pb2.FromHost.SerializeToString, hub_pb2.Offer.FromString)()
        await call.write(hub_pb2.FromHost(hello=hub_pb2.Hello(protocol=1, repo_id=repo_id, ref="main", have=have, host="light")))
        async for offer in call:
            ready.release()
            if offer.tip:
                sys.stdout.write(f"{offer.tip} {time.monotonic_ns()}\\n")
                await call.write(hub_pb2.FromHost(have=hub_pb2.Have(commit=offer.tip)))
async def main():
    ready = asyncio.Semaphore(0)
    tasks = [asyncio.ensure_future(one(ready)) for _ in range(int(number))]
    for _ in tasks:
        await ready.acquire()
    print("ready", 0, flush=True)
    while True:
        await asyncio.sleep(0.1)
        sys.stdout.flush()
asyncio.run(main())
"""


BARE = """
import sys, pydantic, dulwich.pack
class M(pydantic.BaseModel):
    x: int = 1
print("ready", 0, flush=True)
sys.stdin.read()
"""


class Client:
    """A process of clients, and when each revision arrived in it."""

    def __init__(self, program: str, *words: str) -> None:
        self.arrived: dict[str, list[int]] = {}
        self.ready = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            what, at = line.split()
            if what == "ready":
                self.ready.set()
            else:
                self.arrived.setdefault(what, []).append(int(at))

    def memory_mib(self) -> float:
        """The memory of this process that is its own."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        private = [int(line.split()[1]) for line in rollup if line.startswith("Private")]
        return sum(private) / 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()


class CountingProxy:
    """Forwards connections to one port and counts the bytes, both ways together."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self.port = 0
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait(10)

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await server.serve_forever()

        self._loop.run_until_complete(main())

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


def git_fetch(repo: ConfigRepo, server: GitHttpServer, folder: Path) -> tuple[list[float], float]:
    """Milliseconds of `git fetch` of one commit each, and the bytes of one."""
    proxy = CountingProxy(server.port)
    url = server.url(repo.remote_path).replace(f":{server.port}/", f":{proxy.port}/")
    environment, peer = isolated(folder), folder / "peer.git"
    subprocess.run(["git", "clone", "-q", "--mirror", url, str(peer)], check=True, env=environment)
    taken, before = [], proxy.bytes
    for n in range(20):
        move_ref(repo, stage(repo, 5000 + n))
        began = time.perf_counter_ns()
        subprocess.run(["git", "-C", str(peer), "fetch", "-q", "origin", "main"], check=True, env=environment)
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return taken, (proxy.bytes - before) / 20


def fan_out(clients: list[Client], repo: ConfigRepo, commits: int) -> dict[str, list[float]]:
    """Move the ref `commits` times; milliseconds until each client had it, the real ones and the light ones."""
    taken: dict[str, list[float]] = {"real": [], "light": []}
    for n in range(commits):
        commit = stage(repo, 7000 + n)
        move_ref(repo, commit)
        began = time.monotonic_ns()
        for client in clients:
            wanted = client_streams(client)
            deadline = time.monotonic() + 60
            while len(client.arrived.get(commit, ())) < wanted:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{len(client.arrived.get(commit, ()))} of {wanted} streams have {commit[:10]} after 60 s")
                time.sleep(0.005)
        for client in clients:
            kind = "light" if client_streams(client) > 1 else "real"
            taken[kind] += [(at - began) / 1e6 for at in client.arrived[commit]]
    return taken


def client_streams(client: Client) -> int:
    """How many streams a process holds."""
    arguments: Any = client.process.args
    return int(arguments[-1]) if arguments[2] is LIGHT_CLIENTS else 1


def bare_mib() -> float:
    """The private memory of Python with pydantic and one model, and dulwich."""
    with Client(BARE) as bare:
        bare.ready.wait(30)
        return bare.memory_mib()


def measure(folder: Path) -> list[Figure]:
    """All of it, on one repository and one hub."""
    repo = repository(folder / "repo", REPO_FILES)
    root = folder / "root.yaml"
    root.write_bytes(repo.trusted_root)
    rows: list[Figure] = []
    with GitHttpServer(repo.path) as server, ExitStack() as stack:
        url = server.url(repo.remote_path)
        peer, peer_bytes = git_fetch(repo, server, folder)
        rows.append(Figure("git fetch of one commit over http, p50", percentile(peer, 50), "ms"))
        (folder / "hub").mkdir()
        hub, address = start_hub(repo, folder / "hub")
        stack.callback(hub.wait, 15)
        stack.callback(hub.terminate)
        proxy = CountingProxy(int(address.rpartition(":")[2]))
        first = stack.enter_context(Client(REAL_CLIENT, url, str(root), str(folder / "h0"), f"127.0.0.1:{proxy.port}"))
        _ready([first])
        clients = [first]
        for size in SIZES:
            clients += [
                stack.enter_context(Client(REAL_CLIENT, url, str(root), str(folder / f"h{n}"), address))
                for n in range(len(clients), min(size, REAL))
            ]
            _ready(clients)
            held = sum(client_streams(c) for c in clients)
            if size > held:
                words = (address, _repo_id(repo), repo.remote_tip(), str(size - held))
                clients.append(stack.enter_context(Client(LIGHT_CLIENTS, *words)))
            _ready(clients)
            if size == 1:
                before = proxy.bytes
            taken = fan_out(clients, repo, COMMITS[size])
            if size == 1:
                each = (proxy.bytes - before) / COMMITS[size]
                rows.append(Figure("bytes on the wire for one commit", each, "B", "git fetch", ratio(each, peer_bytes)))
            for kind, values in taken.items():
                for percent in (50, 99) if values else ():
                    value = percentile(values, percent)
                    name = (
                        f"commit to {'applied' if kind == 'real' else 'offer taken'}, {size:,} clients, {kind} ones, p{percent}"
                    )
                    rows.append(Figure(name, value, "ms", f"git fetch p{percent}", ratio(value, percentile(peer, percent))))
        floor = bare_mib()
        each = percentile([c.memory_mib() for c in clients if client_streams(c) == 1], 50)
        rows.append(
            Figure("memory of one process with a stream, its own", each, "MiB", "python, pydantic, dulwich", ratio(each, floor))
        )
    return rows


def _ready(clients: list[Client]) -> None:
    for client in clients:
        if not client.ready.wait(180):
            raise SystemExit("a client did not start within 180 s")


def _repo_id(repo: ConfigRepo) -> str:
    text = repo.trusted_root.decode()
    return text.partition("repo_id:")[2].split()[0].strip('"')


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="livecfg-bench-") as name:
        show("A fleet over the hub, signatures on", measure(Path(name)))


if __name__ == "__main__":
    main()
