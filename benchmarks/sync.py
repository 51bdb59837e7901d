"""From a moved ref on the server to a swap in memory, and cold starts from an existing mirror; signatures on, loopback only.

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
from livecfg import GitSource, LiveConfig
from tests.simulator import ConfigRepo, GitHttpServer
from tests.simulator.repo import isolated

if TYPE_CHECKING:
    from collections.abc import Callable

COMMITS = int(os.environ.get("LIVECFG_BENCH_COMMITS", "40"))
BASE = "config/checkout/base.yaml"


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


def repository(path: Path, files: int) -> ConfigRepo:
    path.mkdir()
    repo = ConfigRepo(path)
    repo.person("ana@acme")
    others = {f"config/other{n // 100}/f{n}.yaml": f"value: {n}\nname: file {n}\n" for n in range(files)}
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"} | others)
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


def start_hub(repo: ConfigRepo, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    root, ready = folder / "root.yaml", folder / "ready"
    root.write_bytes(repo.trusted_root)
    words = ["hub", "serve", "--source", str(repo.remote_path), "--trusted-root", str(root), "--listen", "127.0.0.1:0"]
    words += ["--store", f"sqlite:///{folder / 'hub.db'}", "--ready-file", str(ready)]
    words += ["--home", str(folder / "hub-home")]
    with (folder / "hub.log").open("wb") as log:
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


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="livecfg-bench-") as name:
        folder = Path(name)
        rows = [row for files in (100, 10_000) for row in commit_to_applied(folder, files)]
        show("Commit to applied, ms, signatures on", rows)
        show("Cold start, ms after imports", [row for files in (100, 10_000) for row in cold_start(folder, files)])


if __name__ == "__main__":
    main()
