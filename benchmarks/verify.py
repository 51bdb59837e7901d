"""Verification: per commit against `git verify-commit`, cold walks, and verify + diff + load of a commit of ten files."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.figures import Figure, percentile, ratio, show, wall_ms
from livecfg.git.mirror import Mirror
from livecfg.git.pack import Entry, write_pack
from livecfg.git.source import GitSource
from livecfg.layers import Process
from livecfg.loader import load
from livecfg.revision import Candidate
from livecfg.scope import Scope
from livecfg.signals import Signals
from livecfg.trust.root import TrustedRoot
from livecfg.trust.tree import KeptTrees, SplitObjects
from livecfg.trust.verify import Trusted, verify
from tests.simulator import ConfigRepo
from tests.simulator.memory import MemoryRepo
from tests.simulator.repo import isolated

CHAIN = int(os.environ.get("LIVECFG_BENCH_CHAIN", "200"))
COLD = int(os.environ.get("LIVECFG_BENCH_COLD", "10000"))
FLAG = '{"flags": {"f%d": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "%s"}}}\n'


class Config(BaseModel, frozen=True):
    timeout_ms: int = 200


def repository(path: Path, files: int) -> ConfigRepo:
    path.mkdir()
    repo = ConfigRepo(path)
    repo.person("ana@acme")
    repo.person("bo@acme")
    others = {f"config/other{n // 100}/f{n}.yaml": f"value: {n}\n" for n in range(files)}
    flags = {f"flags/checkout/f{n}.json": FLAG % (n, "off") for n in range(10)}
    repo.found({"config/_shared/base.yaml": "{}\n", "config/checkout/base.yaml": "timeout_ms: 1\n"} | flags | others)
    return repo


def walk(folder: Path) -> list[Figure]:
    repo = repository(folder / "walk", 100)
    for n in range(CHAIN):
        repo.commit({"config/checkout/base.yaml": f"timeout_ms: {n + 2}\n"}, by=("ana@acme", "bo@acme")[n % 2])
    repo.push()
    root = TrustedRoot.parse(repo.trusted_root, "trusted_root.yaml")
    with Mirror(folder / "walk-home", GitSource(url=str(repo.remote_path))) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        mirror.promote()
        taken = []
        for _ in range(7):
            mirror.objects.forget()
            taken.append(wall_ms(lambda: verify(candidate, Trusted.start(root, "main"), time.time() + 1e9)) / (CHAIN + 1))
    signers = folder / "allowed_signers"
    signers.write_text(repo.allowed_signers())
    words = ["git", "-C", str(repo.work), "-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", "HEAD"]
    environment = isolated(folder)
    peer = percentile(
        [wall_ms(lambda: subprocess.run(words, check=True, capture_output=True, env=environment)) for _ in range(15)], 50
    )
    value = percentile(taken, 50)
    return [
        Figure(f"verify, per commit of a walk of {CHAIN + 1}", value, "ms", "git verify-commit", ratio(value, peer)),
        Figure("git verify-commit, per commit", peer, "ms"),
    ]


def cold(folder: Path, commits: int) -> list[Figure]:
    """A new client of an old repository: nothing remembered, nothing cached, the objects in one pack of its mirror."""
    repo = MemoryRepo()
    files = {f"config/other{n // 100}/f{n}.yaml": b"value: 1\n" for n in range(100)}
    tip = repo.found(("ana@acme", "bo@acme"), [{"id": "all", "paths": ["**"], "allow": ["*"]}], files)
    for n in range(commits - 1):
        tip = repo.commit({f"config/other0/f{n % 100}.yaml": b"value: %d\n" % n}, on=(tip,), by=("ana@acme", "bo@acme")[n % 2])
    remote = folder / "cold.git"
    data, _ = write_pack([Entry(name, kind, raw) for name, (kind, raw) in repo.objects.items()], level=1)
    git = ["git", "-C", str(remote)]
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True, env=isolated(folder))
    subprocess.run([*git, "index-pack", "--stdin"], input=data, check=True, capture_output=True, env=isolated(folder))
    subprocess.run([*git, "update-ref", "refs/heads/main", tip], check=True, env=isolated(folder))
    with Mirror(folder / "cold-home", GitSource(url=str(remote))) as mirror:
        mirror.fetch(None)
        mirror.promote()
    with Mirror(folder / "cold-home", GitSource(url=str(remote))) as mirror:
        candidate = Candidate("main", tip, mirror.objects)
        began = time.perf_counter_ns()
        found = verify(candidate, repo.trusted(), time.time() + 1e9)
        taken = (time.perf_counter_ns() - began) / 1e6
    assert found.trusted.good is not None
    assert found.trusted.good.commit == tip
    return [
        Figure(f"cold walk of {commits:,} commits, whole", taken / 1000, "s"),
        Figure(f"cold walk of {commits:,} commits, per commit", taken / commits, "ms"),
    ]


def policies(rules: int, files: int) -> list[Figure]:
    """A new client where the policy changed four times: each policy is held against every file."""
    people = ("ana@acme", "bo@acme")
    repo = MemoryRepo()
    listed = [{"id": "all", "paths": ["**"], "allow": ["*"]}]
    for n in range(rules - 1):
        globs = [f"config/svc{n}/**", f"!config/svc{n}/prod.yaml", f"flags/*/svc{n}-*.json"]
        listed.append({"id": f"svc{n}", "paths": globs, "allow": ["*"]})
    tip = repo.found(people, listed, {f"config/svc{n % rules}/f{n}.yaml": b"value: 1\n" for n in range(files)})
    for n in range(4):
        more = {"id": f"more{n}", "paths": [f"more{n}/**"], "allow": ["*"]}
        tip = repo.commit(repo.policy(people, [*listed, more]), on=(tip,), by="ana@acme")
    began = time.perf_counter_ns()
    found = verify(Candidate("main", tip, repo), repo.trusted(), time.time() + 1e9)
    taken = (time.perf_counter_ns() - began) / 1e9
    assert found.trusted.good is not None
    assert found.trusted.good.commit == tip
    return [Figure(f"cold walk over 4 changes of policy, {rules} rules and {files:,} files", taken, "s")]


def change(folder: Path, files: int) -> list[Figure]:
    """One commit that changes ten flag files: verify, diff and load, as the reconciler does it: trees are kept between rounds."""
    repo = repository(folder / f"change{files}", files)
    repo.push()
    root = TrustedRoot.parse(repo.trusted_root, "trusted_root.yaml")
    scope: Scope[Any] = Scope(Config, Process("checkout", "prod"), Signals(), lambda: 0)
    taken = []
    with Mirror(folder / f"change-home{files}", GitSource(url=str(repo.remote_path))) as mirror:
        trusted, snapshot, kept = Trusted.start(root, "main"), None, KeptTrees()
        for n in range(9):
            candidate = mirror.fetch(None)
            assert candidate is not None
            began = time.perf_counter_ns()
            objects = SplitObjects(candidate.objects, kept)
            found = verify(replace(candidate, objects=objects), trusted, time.time() + 1e9)
            assert found.good is not None
            snapshot = load(found.good, objects, scope, snapshot)
            if n > 1:
                taken.append((time.perf_counter_ns() - began) / 1e6)
            trusted = found.trusted
            repo.publish({f"flags/checkout/f{i}.json": FLAG % (i, "on" if n % 2 else "off") for i in range(10)})
    return [Figure(f"verify + diff + load of a 10-file commit, {files:,} files", percentile(taken, 50), "ms")]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="livecfg-bench-") as name:
        folder = Path(name)
        figures = walk(folder) + cold(folder, COLD) + policies(200, 10_000)
        figures += [f for n in (100, 10_000) for f in change(folder, n)]
        show("Verification, wall time, medians", figures)


if __name__ == "__main__":
    main()
