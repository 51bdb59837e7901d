"""Run as a program by test_resume.py: follows a branch with the real mirror and reconciler, and is killed at a chosen read.

`resume.py <home> <remote> <root> <step>`, with the half-way tip and the tip on standard input. At every step-th object that the
walk between them reads, a child that has walked to half-way goes on and kills itself, and another takes over. Prints what a child
that was never killed came to, then what the last one of each round did.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from livecfg.layers import Process
from livecfg.reconciler import Reconciler
from livecfg.scope import Scope
from livecfg.signals import Signals
from livecfg.trust.root import Trusted, TrustedRoot

if TYPE_CHECKING:
    from livecfg.revision import Kind
    from livecfg.snapshot import Snapshot

NOW = 2_000_000_000.0


class Config(BaseModel, frozen=True):
    """What the walk's files fit."""

    a: int = 0
    b: int = 0


class Counting:
    """The mirror's objects; the process dies at one of the reads."""

    def __init__(self, mirror: Mirror, dies_at: int) -> None:
        self._objects, self._dies_at, self.reads = mirror.objects, dies_at, 0

    def read(self, object_id: str, kind: Kind) -> bytes:
        self.reads += 1
        if self.reads == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._objects.read(object_id, kind)


class DyingMirror(Mirror):
    """A mirror whose process dies at one of the reads of its candidate."""

    dies_at = 0
    counted: Counting | None = None

    def fetch(self, since: str | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN201 - that of the base class
        found = super().fetch(since)
        if found is None:
            return None
        self.counted = Counting(self, self.dies_at)
        return type(found)(found.ref, found.tip, self.counted)


def follow(home: Path, remote: str, root: Path, dies_at: int) -> str:
    """Start a process of the service, let it catch up, and tell what it serves, what it remembers and how often it read."""
    swapped: list[Snapshot[Config]] = []
    trusted = Trusted.start(TrustedRoot.parse(root.read_bytes(), "root.yaml"), "main")
    with DyingMirror(home, GitSource(remote)) as mirror:
        mirror.dies_at = dies_at
        scope: Scope[Config] = Scope(Config, Process("shop", "prod"), Signals(), lambda: 0)
        service = Reconciler(mirror, trusted, scope, state="shop", prepare=lambda _old, _new: None, swap=swapped.append)
        service.resume()
        service.reconcile(NOW)
        kept = mirror.load_state("shop")
        reads = mirror.counted.reads if mirror.counted is not None else 0
        served = swapped[-1].config.model_dump_json() if swapped else ""
        return f"{reads}\t{served} {kept.decode() if kept else ''}"


def child(home: Path, remote: str, root: Path, dies_at: int = 0) -> tuple[int, str]:
    """Do it in a process of its own; give its exit code and what it told."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        try:
            os.write(write, follow(home, remote, root, dies_at).encode())
        except BaseException as error:  # noqa: BLE001 - told by the exit code and the text
            sys.stderr.write(f"child: {error!r}\n")
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told


def main() -> None:
    """Kill at each read in turn until one is never reached."""
    top, remote, root = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    half, tip = sys.stdin.read().split()
    whole = child(top / "whole", remote, root)[1].partition("\t")[2]
    print(whole)  # noqa: T201 - read by the test
    _point(remote, half)
    code, _ = child(top / "half", remote, root)
    assert code == 0
    _point(remote, tip)
    for dies_at in range(1, 100_000, int(sys.argv[4])):
        home = top / f"round{dies_at}"
        shutil.copytree(top / "half", home)
        code, _ = child(home, remote, root, dies_at)
        if code == 0:
            return
        assert code == -signal.SIGKILL, code
        code, told = child(home, remote, root)
        print(told.partition("\t")[2] if code == 0 else f"exit {code}")  # noqa: T201 - read by the test
        shutil.rmtree(home)


def _point(remote: str, commit: str) -> None:
    subprocess.run(["git", "-C", remote, "update-ref", "refs/heads/main", commit], check=True)


if __name__ == "__main__":
    main()
