"""From a moved ref on the server to a swap in memory, and cold starts from an existing mirror; signatures on, loopback only.

Short by default; LARGE=1 adds 100,000 files and 1,000 clients, 50 of them real processes. The others are *light* clients:
streams in two processes that acknowledge without verifying, measured until the offer is received.
t0 is the rename of the ref's file in the bare remote (the objects were pushed before); the end is the application's
`on_change` callback. `git fetch` of the same kind of commit, in the same run, is the peer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from benchmarks.figures import Figure, percentile, ratio, show
from benchmarks.hub import Clients, raise_limits
from livecfg import GitSource, LiveConfig
from livecfg.git.mirror import Mirror
from livecfg.git.writeback import WriteBack
from livecfg.layers import Process
from livecfg.reconciler import Reconciler
from livecfg.scope import Scope
from livecfg.signals import Signals
from livecfg.trust.root import Trusted, TrustedRoot
from tests.simulator import ConfigRepo, GitHttpServer
from tests.simulator.repo import REPO_ID, isolated

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = bool(os.environ.get("LARGE"))
SIZES = (100, 10_000, 100_000) if LARGE else (100, 10_000)
REAL = 50 if LARGE else 10
FLEETS = (100, 1_000) if LARGE else (100,)
COMMITS = int(os.environ.get("LIVECFG_BENCH_COMMITS", "40"))
AT_ONCE = 10_000  # files in one commit: their names are arguments of git
BASE = "config/checkout/base.yaml"


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


def repository(path: Path, files: int) -> ConfigRepo:
    path.mkdir()
    repo = ConfigRepo(path)
    repo.person("ana@acme")
    others = [(f"config/other{n // 100}/f{n}.yaml", f"value: {n}\nname: file {n}\n") for n in range(files)]
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"} | dict(others[:AT_ONCE]))
    for start in range(AT_ONCE, files, AT_ONCE):
        repo.commit(dict(others[start : start + AT_ONCE]))
    repo.push()
    return repo


def stage(repo: ConfigRepo, value: int) -> str:
    """Commit, push the objects under another ref, so that only the ref is left to move."""
    commit = repo.commit({BASE: f"timeout_ms: {value}\n"})
    repo.git("push", "-q", "origin", f"{commit}:refs/stage/{commit}")
    return commit


def move_ref(repo: ConfigRepo, commit: str) -> int:
    """Rename the new ref into place, as git does; give the time of it."""
    target = repo.remote_path / "refs/heads/main"
    beside = target.with_name("main.new")
    beside.write_text(commit + "\n")
    now = time.perf_counter_ns()
    beside.replace(target)
    return now


def latencies_ms(repo: ConfigRepo, live: LiveConfig[Config], nudge: Callable[[LiveConfig[Config]], object]) -> list[float]:
    applied = threading.Event()
    ended = [0]

    @live.on_change()
    def done(_old: object, _new: object) -> None:
        ended[0] = time.perf_counter_ns()
        applied.set()

    result = []
    with live:
        for n in range(COMMITS):
            commit = stage(repo, 1000 + n)
            applied.clear()
            began = move_ref(repo, commit)
            nudge(live)
            if not applied.wait(30):
                raise SystemExit(f"not applied within 30 s: {live.status}")
            result.append((ended[0] - began) / 1e6)
    return result


def git_fetch_ms(repo: ConfigRepo, url: str, folder: Path) -> list[float]:
    environment = isolated(folder)
    subprocess.run(["git", "clone", "-q", "--mirror", url, str(folder / "peer.git")], check=True, env=environment)
    result = []
    for n in range(min(COMMITS, 20)):
        commit = stage(repo, 5000 + n)
        move_ref(repo, commit)
        began = time.perf_counter_ns()
        subprocess.run(["git", "-C", str(folder / "peer.git"), "fetch", "-q", "origin", "main"], check=True, env=environment)
        result.append((time.perf_counter_ns() - began) / 1e6)
    return result


def live_config(repo: ConfigRepo, url: str, home: Path, hub: str = "") -> LiveConfig[Config]:
    return LiveConfig(
        Config,
        source=GitSource(url=url),
        trusted_root=repo.trusted_root,
        service="checkout",
        env="prod",
        home=home,
        hub=hub,
        poll_interval_s=600,
    )


def poll_now(live: LiveConfig[Config]) -> None:
    live._follower()._wake.set()  # noqa: SLF001 - the moment at which a poll would fall due


def nothing(_: LiveConfig[Config]) -> None:
    """The hub or the file system tells."""


def start_hub(repo: ConfigRepo, folder: Path, listen: str = "127.0.0.1:0") -> tuple[subprocess.Popen[bytes], str]:
    root, ready = folder / "root.yaml", folder / "ready"
    root.write_bytes(repo.trusted_root)
    words = ["hub", "serve", "--source", str(repo.remote_path), "--trusted-root", str(root), "--listen", listen]
    words += ["--store", f"sqlite:///{folder / 'hub.db'}", "--ready-file", str(ready)]
    words += ["--home", str(folder / "hub-home")]
    ready.unlink(missing_ok=True)
    with (folder / "hub.log").open("ab") as log:
        hub = subprocess.Popen([sys.executable, "-m", "livecfg", *words], stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    while not (ready.exists() and ready.read_text().strip()):
        if hub.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the hub did not start")
        time.sleep(0.02)
    return hub, ready.read_text().strip()


def commit_to_applied(folder: Path, files: int) -> list[Figure]:
    repo = repository(folder / f"latency{files}", files)
    home = folder / f"home{files}"
    rows: list[Figure] = []
    with GitHttpServer(repo.path) as server:
        url = server.url(repo.remote_path)
        peer = git_fetch_ms(repo, url, home)
        rows.append(Figure(f"git fetch of one commit over http, {files:,} files, p50", percentile(peer, 50), "ms"))
        hub, address = start_hub(repo, home)
        try:
            measured = {
                "hub stream": latencies_ms(repo, live_config(repo, url, home / "a", address), nothing),
                "one poll over http": latencies_ms(repo, live_config(repo, url, home / "b"), poll_now),
                "a local remote (file events)": latencies_ms(repo, live_config(repo, str(repo.remote_path), home / "c"), nothing),
            }
        finally:
            hub.terminate()
            hub.wait(15)
    for name, values in measured.items():
        for percent in (50, 99):
            value = percentile(values, percent)
            figure = f"commit to applied, {name}, {files:,} files, p{percent}"
            rows.append(Figure(figure, value, "ms", f"git fetch p{percent}", ratio(value, percentile(peer, percent))))
    return rows


COLD = """
import sys, time
from pathlib import Path
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig
class Config(BaseModel, frozen=True):
    timeout_ms: int = 200
live = LiveConfig(Config, source=GitSource(url=sys.argv[1]), trusted_root=Path(sys.argv[2]), service="checkout", env="prod",
                  home=Path(sys.argv[3]))
live._follower()._link.warm()  # the imports
began = time.perf_counter()
live.current
print((time.perf_counter() - began) * 1e3)
live.stop()
"""


def cold_start(folder: Path, files: int) -> list[Figure]:
    """First read in a new process, mirror there, remote gone; after imports."""
    repo = repository(folder / f"cold{files}", files)
    home, root = folder / f"coldhome{files}", folder / f"root{files}.yaml"
    root.write_bytes(repo.trusted_root)
    with live_config(repo, str(repo.remote_path), home) as live:
        live.wait_for(repo.remote_tip())
        deadline = time.monotonic() + 120
        while not [*home.rglob("state/*.json")]:  # the mirror is written behind the swap; 100,000 files take their time
            if time.monotonic() > deadline:
                raise SystemExit("the mirror was not written within two minutes")
            time.sleep(0.05)
    gone = repo.remote_path.rename(repo.path / "gone.git")
    words = [sys.executable, "-c", COLD, str(repo.remote_path), str(root), str(home)]
    taken = [float(subprocess.run(words, check=True, capture_output=True, text=True).stdout) for _ in range(7)]
    environment = isolated(folder)
    began = time.perf_counter_ns()
    for _ in range(7):
        subprocess.run(
            ["git", "-C", str(gone), "cat-file", "blob", f"main:{BASE}"], check=True, capture_output=True, env=environment
        )
    peer = (time.perf_counter_ns() - began) / 7e6
    return [
        Figure(
            f"cold start from the mirror, {files:,} files, remote gone",
            percentile(taken, 50),
            "ms",
            "git cat-file of one file",
            ratio(percentile(taken, 50), peer),
        )
    ]


def apply_one_file(folder: Path, files: int) -> list[Figure]:
    """One changed file, its pack in memory: read, verified, diffed, loaded, swapped, in this process; and the bytes of it."""
    repo = repository(folder / f"apply{files}", files)
    git = [["git", "-C", str(repo.remote_path), *words] for words in (["verify-commit"], ["diff-tree", "-r", "--name-only"])]
    environment = isolated(folder)
    ours, peer, sizes = [], [], []
    swapped: list[object] = []
    source = GitSource(url=str(repo.remote_path))
    with Mirror(folder / f"applied{files}", source) as mirror, Mirror(folder / f"packer{files}", source) as packer:
        root = TrustedRoot.parse(repo.trusted_root, "trusted_root")
        scope = Scope(Config, Process(service="checkout", env="prod"), recorder=Signals(), clock=lambda: int(time.time()))
        started = Trusted.start(root, "main")
        nothing = lambda *_: None  # noqa: E731 - a hook
        reconciler = Reconciler(WriteBack(mirror), started, scope, state="checkout-prod", prepare=nothing, swap=swapped.append)
        reconciler.reconcile(time.time())
        for n in range(COMMITS):
            have = mirror.tip()
            repo.publish({BASE: f"timeout_ms: {7000 + n}\n"})
            packer.fetch(None)
            packer.promote()
            tip = packer.tip()
            pack = packer.build_pack(have, tip)
            sizes.append(len(pack))
            began = time.perf_counter_ns()
            mirror.accept_pack(pack, tip)
            reconciler.reconcile(time.time())
            ours.append((time.perf_counter_ns() - began) / 1e6)
            if len(swapped) != n + 2:
                raise SystemExit("the commit was not applied")
            if n % 4 == 0:
                began = time.perf_counter_ns()
                subprocess.run([*git[0], tip], check=False, capture_output=True, env=environment)
                subprocess.run([*git[1], have, tip], check=True, capture_output=True, env=environment)
                peer.append((time.perf_counter_ns() - began) / 1e6)
    value, floor = percentile(ours, 50), percentile(peer, 50)
    name = "git verify-commit + git diff-tree"
    return [
        Figure(f"one file applied in process, {files:,} files, p50", value, "ms", name, ratio(value, floor)),
        Figure(f"bytes of its pack, {files:,} files", percentile(sizes, 50), "B"),
    ]


FOLLOW = """
import sys, threading, time
from pathlib import Path
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig
class Config(BaseModel, frozen=True):
    timeout_ms: int = 200
url, root, home, hub = sys.argv[1:]
live = LiveConfig(Config, source=GitSource(url=url), trusted_root=Path(root), service="checkout", env="prod",
                  home=Path(home), hub=hub, poll_interval_s=600)
@live.on_change()
def done(old, new):
    print(new.revision.commit, time.monotonic_ns(), flush=True)
live.current
while hub and live.status.fetcher and live.status.hub != "streaming":
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.read()
"""


def start_followers(repo: ConfigRepo, folder: Path, homes: list[Path], hub: str) -> list[subprocess.Popen[str]]:
    """Real processes, one per home given, ready."""
    root = folder / "followers-root.yaml"
    root.write_bytes(repo.trusted_root)
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", FOLLOW, str(repo.remote_path), str(root)]
    found = [subprocess.Popen([*words, str(home), hub], stdin=pipe, stdout=pipe, text=True) for home in homes]
    for process in found:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit("a follower did not start")
    return found


def end_followers(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def fleet(folder: Path, clients: int, peer_ms: list[float]) -> list[Figure]:
    """One hub, so many hosts: the real ones until applied, the light ones until the offer is received."""
    repo = repository(folder / f"fleet{clients}", 100)
    place = folder / f"fleet{clients}-home"
    place.mkdir()
    hub, address = start_hub(repo, place)
    real = start_followers(repo, place, [place / f"host{n}" for n in range(REAL)], address)
    light = Clients(address, REPO_ID, repo.remote_tip(), clients - REAL)
    applied, received = [], []
    try:
        light.ask("connected")
        for n in range(10):
            commit = stage(repo, 100 + n)
            moved = move_ref(repo, commit)
            for process in real:
                line = process.stdout.readline().split() if process.stdout is not None else []
                if line[:1] != [commit]:
                    raise SystemExit(f"expected {commit}, got {line}")
                applied.append((int(line[1]) - moved) / 1e6)
            received += [(at - moved) / 1e6 for answer in light.ask(f"met {commit}") for at in answer]
    finally:
        light.end()
        end_followers(real)
        hub.terminate()
        hub.wait(30)
    rows = []
    for name, values in ((f"{REAL} real, applied", applied), (f"{clients - REAL} light, received", received)):
        for percent in (50, 99):
            value = percentile(values, percent)
            figure = f"commit to {clients:,} clients, {name}, p{percent}"
            rows.append(Figure(figure, value, "ms", f"git fetch p{percent}", ratio(value, percentile(peer_ms, percent))))
    return rows


def memory(folder: Path) -> list[Figure]:
    """Proportional memory of the processes of one host, against an interpreter with pydantic alone."""
    repo = repository(folder / "memory", 100)
    home = folder / "memory-home"
    idle = "import pydantic, sys; from pydantic import BaseModel; print('ready', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    bare = [subprocess.Popen([sys.executable, "-c", idle], stdin=pipe, stdout=pipe, text=True) for _ in range(REAL)]
    for process in bare:
        if process.stdout is not None:
            process.stdout.readline()
    floor = sum(pss_mib(process.pid) for process in bare)
    end_followers(bare)
    followers = start_followers(repo, folder, [home] * REAL, "")
    value = sum(pss_mib(process.pid) for process in followers)
    end_followers(followers)
    name = "as many interpreters with pydantic"
    return [
        Figure(f"memory of a host, {REAL} processes", value, "MiB", name, ratio(value, floor)),
        Figure("memory of each", value / REAL, "MiB", "one of them", ratio(value, floor)),
    ]


def pss_mib(pid: int) -> float:
    """Memory of a process with what it shares divided among the sharers."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    raise_limits()
    with tempfile.TemporaryDirectory(prefix="livecfg-bench-") as name:
        folder = Path(name)
        rows = [row for files in (100, 10_000) for row in commit_to_applied(folder, files)]
        show("Commit to applied, ms, signatures on", rows)
        with_server = repository(folder / "peer", 100)
        peer_home = folder / "peer-home"
        peer_home.mkdir()
        with GitHttpServer(with_server.path) as server:
            peer = git_fetch_ms(with_server, server.url(with_server.remote_path), peer_home)
        show("Commit to a fleet, ms", [row for clients in FLEETS for row in fleet(folder, clients, peer)])
        show("Cold start, ms after imports", [row for files in SIZES for row in cold_start(folder, files)])
        show("One changed file", [row for files in SIZES for row in apply_one_file(folder, files)])
        show("Memory", memory(folder))


if __name__ == "__main__":
    main()
