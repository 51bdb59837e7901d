"""`make soak MINUTES=60 INPUTS=1000000`: nothing grows under steady traffic, and no parser raises but its own errors."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from livecfg.document import read
from livecfg.errors import LivecfgError
from livecfg.trust.allowed_signers import parse_allowed_signers
from livecfg.trust.commits import parse_commit
from livecfg.trust.root import TrustedRoot
from livecfg.trust.signatures import SignatureError, decode
from livecfg.trust.tree import TreeFaultError, parse
from tests.simulator import ConfigRepo

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


SEEDS: dict[str, tuple[object, bytes]] = {
    "yaml": (lambda d: read(d, "a.yaml"), b"a: [1, {b: 'c'}]\n# x\nd: !unset\ne: &x 1\nf: *x\n---\n"),
    "json": (lambda d: read(d, "a.json"), b'{"a": [1, {"b": "c\\u00e9"}], "d": null, "a2": 1e5}'),
    "root": (
        lambda d: TrustedRoot.parse(d, "root.yaml"),
        b"version: 1\nrepo_id: '00'\nthreshold: 1\npeople: {a: [ssh-ed25519 AAAA]}\n",
    ),
    "signers": (
        lambda d: parse_allowed_signers(d, "s"),
        b'ana@acme valid-before="20260101Z" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA\n',
    ),
    "commit": (
        lambda d: parse_commit("0" * 40, d),
        b"tree " + b"0" * 40 + b"\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nx: y\n",
    ),
    "signature": (decode, b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"),
    "tree": (lambda d: parse(d, 20), b"100644 a\0" + b"x" * 20 + b"40000 b\0" + b"y" * 20),
}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", SEEDS)
def test_a_parser_raises_nothing_but_its_own_errors(name: str) -> None:
    parse_one, seed = SEEDS[name]
    assert callable(parse_one)
    rng = random.Random(name)
    for _ in range(INPUTS):
        data = bytearray(seed)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data) + 1)
            kind = rng.random()
            if kind < 0.4 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind < 0.7:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            else:
                del data[at : at + rng.randint(1, 8)]
        try:
            parse_one(bytes(data))
        except (LivecfgError, SignatureError, TreeFaultError):
            continue
    assert INPUTS > 0
