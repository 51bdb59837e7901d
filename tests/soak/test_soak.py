"""`make soak MINUTES=60 INPUTS=1000000`: nothing grows under steady traffic, and no parser raises but its own errors."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.simulator import ConfigRepo
from tests.trust.fuzz import PARSERS, fuzz
from tests.trust.fuzz_walk import WALKS

MINUTES = float(os.environ.get("LIVECFG_SOAK_MINUTES", "1"))
INPUTS = int(os.environ.get("LIVECFG_FUZZ_INPUTS", "10000"))
PROCESSES = int(os.environ.get("LIVECFG_SOAK_PROCESSES", "10"))
BASE = "config/checkout/base.yaml"

FOLLOWER = """
import sys
from pathlib import Path
from pydantic import BaseModel
from livecfg import GitSource, LiveConfig

class Config(BaseModel, frozen=True):
    timeout_ms: int = 200

url, root, home = sys.argv[1:]
live = LiveConfig(Config, source=GitSource(url=url), trusted_root=Path(root), service="checkout", env="prod", home=Path(home))
for line in sys.stdin:
    live.wait_for(line.strip(), 60)
    print(live.current.config.timeout_ms, flush=True)
live.stop()
"""


def measure(pid: int) -> dict[str, float]:
    """Memory in KiB, descriptors and threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"rss_kib": float(status["VmRSS"].split()[0]), "descriptors": descriptors, "threads": float(status["Threads"])}


@pytest.mark.timeout(0)
def test_nothing_grows_under_a_commit_every_two_seconds(tmp_path: Path) -> None:
    repo = ConfigRepo(tmp_path / "repo")
    repo.person("ana@acme")
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"})
    root = tmp_path / "root.yaml"
    root.write_bytes(repo.trusted_root)
    words = [sys.executable, "-c", FOLLOWER, str(repo.remote_path), str(root), str(tmp_path / "home")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(words, **pipes) for _ in range(PROCESSES)]
    samples: list[tuple[float, list[dict[str, float]]]] = []
    began, pause, n = time.monotonic(), threading.Event(), 1
    try:
        while time.monotonic() - began < MINUTES * 60:
            n += 1
            commit = repo.publish({BASE: f"timeout_ms: {n}\n"})
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(commit + "\n")
                process.stdin.flush()
            assert [int(p.stdout.readline()) for p in processes if p.stdout] == [n] * PROCESSES
            samples.append((time.monotonic() - began, [measure(p.pid) for p in processes]))
            pause.wait(2.0)
    finally:
        for process in processes:
            process.communicate(timeout=30)
    report(samples, n)
    packs = list((tmp_path / "home").glob("*/mirror.git/objects/pack/*.pack"))
    assert len(packs) < 50, packs


def report(samples: list[tuple[float, list[dict[str, float]]]], commits: int) -> None:
    """Fit a line through the last two thirds of each figure; say and bound its growth per hour."""
    late = samples[len(samples) // 3 :]
    for name, most_per_hour in (("rss_kib", 20_000.0), ("descriptors", 2.0), ("threads", 1.0)):
        times = [t / 3600 for t, _ in late]
        values = [statistics.fmean(row[name] for row in rows) for _, rows in late]
        slope = statistics.linear_regression(times, values).slope if len(late) > 2 else 0.0
        print(f"{name}: {values[0]:.1f} → {values[-1]:.1f}, {slope:+.1f} per hour over {commits} commits")  # noqa: T201 - the figures are what a soak is for
        if MINUTES >= 10:
            assert slope < most_per_hour, name


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_nothing_but_its_own_errors(name: str) -> None:
    inputs = INPUTS // 10 if name in WALKS else INPUTS  # a walk is no parser, and takes ten times as long as most
    began = time.monotonic()
    found = fuzz(name, inputs, seed=2)
    taken, refused = time.monotonic() - began, sum(found.errors.values())
    print(  # noqa: T201 - the figures are what a soak is for
        f"{name}: {inputs:,} inputs in {taken:.0f} s, {refused:,} refused in {len(found.errors)} ways, "
        f"{found.accepted:,} accepted, slowest {found.slowest * 1000:.0f} ms"
    )
