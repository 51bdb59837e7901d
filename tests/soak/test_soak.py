"""`make soak MINUTES=60`: under a commit every two seconds nothing grows; the slow suite runs three minutes of it."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simulator import ConfigRepo

if TYPE_CHECKING:
    from collections.abc import Sequence

HOURS_LONG = bool(os.environ.get("LIVECFG_SOAK_MINUTES"))
MINUTES = float(os.environ.get("LIVECFG_SOAK_MINUTES", "3"))
PROCESSES = int(os.environ.get("LIVECFG_SOAK_PROCESSES", "50" if HOURS_LONG else "10"))
EVERY_S = 2.0
BASE = "config/checkout/base.yaml"

MOST_PER_HOUR = {
    "memory, KiB per process": 1024.0 if MINUTES >= 30 else 10_240.0,
    "descriptors per process": 1.0,
    "threads per process": 0.5,
    "packs": 20.0,
}
"""Growth that is called growth: a run fails when the whole interval of its slope lies above. In a short run the cache of objects
still fills (3 KiB a commit, for 256 commits), and only what is worse is found out. Loose objects are bounded by count: they
come with every commit and go when they are packed."""
LOOSE_MOST = 8000

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


@dataclass(frozen=True)
class Slope:
    """Growth per hour with the 95 % interval of the least-squares fit."""

    per_hour: float
    margin: float

    @property
    def low(self) -> float:
        return self.per_hour - self.margin


def slope(hours: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line. Neighbouring samples are alike, so the residuals are taken in blocks of ten: else the interval lies."""
    size = max(1, len(values) // 12)
    blocks = range(0, len(values) - size + 1, size)
    x = [statistics.fmean(hours[n : n + size]) for n in blocks]
    y = [statistics.fmean(values[n : n + size]) for n in blocks]
    fit = statistics.linear_regression(x, y)
    middle = statistics.fmean(x)
    left = sum((b - fit.intercept - fit.slope * a) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - middle) ** 2 for a in x)
    freedom = len(x) - 2
    student = 1.96 + 2.4 / freedom + 4.2 / freedom**2  # the 97.5 % point of t, within 2 % from three degrees of freedom on
    return Slope(fit.slope, student * math.sqrt(left / freedom / spread))


def test_the_slope_of_a_line_is_found_and_its_interval_holds_what_noise_hides() -> None:
    times = [n / 100 for n in range(100)]
    rising = slope(times, [5.0 + 3.0 * t for t in times])
    assert (round(rising.per_hour, 6), round(rising.margin, 6)) == (3.0, 0.0)
    noisy = slope(times, [10.0 + (-1) ** (n // 9) for n in range(100)])
    assert noisy.low < 0.0 < noisy.per_hour + noisy.margin


def measure(pid: int) -> tuple[float, float, float]:
    """Memory in KiB, descriptors and threads of a process. The two of each pack are counted with the packs."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return (
        float(status["VmRSS"].split()[0]),
        float(sum(".git/objects/pack/" not in name for name in open_files(pid))),
        float(status["Threads"]),
    )


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process name."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(link.readlink()))
    return found


class Soak:
    """Processes of one host that follow a repository, and what was measured of them after each commit."""

    def __init__(self, folder: Path) -> None:
        self.repo = ConfigRepo(folder / "repo")
        self.repo.found({"config/_shared/base.yaml": "{}\n", BASE: "timeout_ms: 1\n"})
        self.home = folder / "home"
        root = folder / "root.yaml"
        root.write_bytes(self.repo.trusted_root)
        words = [sys.executable, "-c", FOLLOWER, str(self.repo.remote_path), str(root), str(self.home)]
        pipe = subprocess.PIPE
        self.processes = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)]
        self.hours: list[float] = []
        self.figures: dict[str, list[float]] = {name: [] for name in (*MOST_PER_HOUR, "loose objects")}

    def commit(self, number: int) -> None:
        """Publish, and wait until every process serves it."""
        commit = self.repo.publish({BASE: f"timeout_ms: {number}\n"})
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(commit + "\n")
            process.stdin.flush()
        served = [process.stdout.readline().strip() for process in self.processes if process.stdout]
        assert served == [str(number)] * PROCESSES, served

    def sample(self, now_s: float) -> None:
        """Measure every process and the mirror."""
        rows = [measure(process.pid) for process in self.processes]
        memory, descriptors, threads = (statistics.fmean(column) for column in zip(*rows, strict=True))
        packs = len(list(self.home.glob("*/mirror.git/objects/pack/*.pack")))
        loose = len(list(self.home.glob("*/mirror.git/objects/[0-9a-f][0-9a-f]/*")))
        self.hours.append(now_s / 3600)
        for values, value in zip(self.figures.values(), (memory, descriptors, threads, packs, loose), strict=True):
            values.append(float(value))

    def end(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_grows_under_a_commit_every_two_seconds(tmp_path: Path) -> None:
    soak = Soak(tmp_path)
    began, pause, number = time.monotonic(), threading.Event(), 1
    try:
        while (now_s := time.monotonic() - began) < MINUTES * 60:
            number += 1
            soak.commit(number)
            soak.sample(now_s)
            pause.wait(max(0.0, EVERY_S - (time.monotonic() - began - now_s)))
    finally:
        soak.end()
    sys.stdout.write(f"{PROCESSES} processes, {number - 1} commits in {MINUTES:g} minutes; the last two thirds, per hour:\n")
    late = len(soak.hours) // 3
    grown = []
    for name, values in soak.figures.items():
        found = slope(soak.hours[late:], values[late:])
        sys.stdout.write(f"  {name}: {values[late]:.1f} → {values[-1]:.1f}, {found.per_hour:+.1f} ± {found.margin:.1f}\n")
        if name in MOST_PER_HOUR and found.low > MOST_PER_HOUR[name]:
            grown.append(name)
    assert not grown, grown
    assert soak.figures["loose objects"][-1] < LOOSE_MOST
