"""A host whose processes can be ended at any change of a file: a zygote with shim.c preloaded, a repository and a Git server."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.e2e.support import FILES, ROOT, numbered
from tests.simulator import ConfigRepo, Fault, GitHttpServer
from tests.simulator.tools import program

if TYPE_CHECKING:
    from collections.abc import Mapping

Point = tuple[str, str, int]
"""A call, a pattern for the file's path below the home, and which of those that match."""


def build_shim(folder: Path) -> Path:
    """Compile shim.c."""
    compiler = program("cc", "gcc")
    made = folder / "shim.so"
    words = [compiler, "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(made)]
    subprocess.run([*words, str(Path(__file__).with_name("shim.c")), "-ldl"], check=True)
    return made


class Host:
    """One machine: `home`, processes, a signed repository whose commits carry a number, and its server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / "home"
        self.home.mkdir()
        self.repo = ConfigRepo(path / "git")
        first = self.repo.found({name: text for name, text in FILES.items() if text is not None})
        self.numbers = {first: 0}
        self.root = path / "root.yaml"
        self.root.write_bytes(self.repo.trusted_root)
        self.server = GitHttpServer(self.repo.path)
        self.server.__enter__()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LIVECFG_", "GIT_", "COV_"))}
        environment |= {"LD_PRELOAD": str(build_shim(path)), "PYTHONPATH": str(ROOT), "no_proxy": "*"}
        words = [sys.executable, "-m", "tests.faults.zygote"]
        pipe = subprocess.PIPE
        self.zygote = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment, start_new_session=True
        )

    def commit(self, files: int = 0) -> str:
        """Publish the next number, with so many files beside."""
        number = len(self.numbers)
        more = {f"config/other/{n}.yaml": f"a: {number}.{n}\n" for n in range(files)}
        made = self.repo.publish(numbered(number) | more)
        self.numbers[made] = number
        return made

    # -- processes ------------------------------------------------------------------------------------------------------

    def ask(self, **command: Any) -> int:
        """One line to the zygote and its answer."""
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(json.dumps(command) + "\n")
        self.zygote.stdin.flush()
        return int(json.loads(self.zygote.stdout.readline()))

    def fork(self, job: str, home: str = "home", **more: Any) -> int:
        """Start a job on one of the homes."""
        out = self.path / f"{job}.out"
        out.unlink(missing_ok=True)
        where = {"home": str(self.path / home), "root": str(self.root), "out": str(out)}
        return self.ask(job=job, url=self.server.url(self.repo.remote_path), **where, **more)

    def wait(self, pid: int) -> int:
        """The exit code, negative for a signal."""
        return self.ask(wait=pid)

    def run(self, job: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Run a job to its end; gives its exit code and what it said."""
        code = self.wait(self.fork(job, **more))
        out = self.path / f"{job}.out"
        return code, json.loads(out.read_text()) if out.exists() and out.stat().st_size else {}

    # -- what must hold -------------------------------------------------------------------------------------------------

    @property
    def mirror(self) -> Path | None:
        """The folder of the mirror, if there is one."""
        return next(iter(self.home.glob("*/lock")), Path()).parent if list(self.home.glob("*/lock")) else None

    def check(self, tip: str) -> None:
        """After a death: valid objects, the last good one offline, and the next start goes on by itself and cleans up."""
        self.fsck()
        remembered = self.mirror is not None and list(self.mirror.glob("state/*.json"))
        if remembered:
            self.server.fault = Fault.DROP
            code, found = self.run("follow", start_timeout_s=5)
            self.server.fault = None
            assert code == 0, found
            self.verify(found)
        code, found = self.run("follow", commit=tip)
        assert code == 0, found
        self.verify(found)
        assert found["commit"] == tip
        self.fsck()
        assert self.mirror is not None
        patterns = ("**/*.lock", "**/tmp_*", "incoming-*", "outgoing-*", "mirror.git/**/incoming-*")
        left = [p for pattern in patterns for p in self.mirror.glob(pattern)]
        assert not left, left

    def verify(self, found: Mapping[str, Any]) -> None:
        """What was served is one published revision, whole."""
        assert found.get("commit") in self.numbers, found
        assert found["number"] == found["flag"] == self.numbers[found["commit"]], found

    def fsck(self) -> None:
        """Where there is a repository, git finds no fault with it; a packing that outlived its process is waited for."""
        if self.mirror is None or not (self.mirror / "mirror.git" / "HEAD").exists():
            return
        lock = self.mirror / "mirror.git" / "maintenance"
        with ExitStack() as stack:
            if lock.exists():
                fcntl.flock(stack.enter_context(lock.open("rb")), fcntl.LOCK_EX)
            self.repo.fsck(lock.parent)

    def check_store(self) -> None:
        """The hub's history can be read."""
        with sqlite3.connect(self.path / "hub" / "hub.db") as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self.zygote.stdin, self.zygote.stdout):
            if stream is not None:
                stream.close()
        with suppress(ProcessLookupError):
            os.killpg(self.zygote.pid, signal.SIGKILL)  # what a failed test left running, too
        self.zygote.wait(20)
        self.server.__exit__()


def normal(line: str) -> str:
    """A traced call with everything random in its path replaced."""
    call, _, path = line.partition(" ")
    path = re.sub(r"^[^/]*-?[0-9a-f]{8,}(?=/|$)", "*", path) if "/" in path else path
    for pattern, name in NORMAL:
        path = re.sub(pattern, name, path)
    return f"{call} {path}"


NORMAL = (
    (r"/objects/[0-9a-f]{2}(?=/|$)", "/objects/*"),
    (r"/[0-9a-f]{38}$", "/*"),
    (r"(tmp_[a-z]+_|incoming-|outgoing-|pack-)[0-9a-f]+", r"\1*"),
    (r"instance\.\d+\.[0-9a-f]+", "instance.*"),
    (r"answered\.\d+", "answered.*"),
    (r"processes/[0-9a-f]{16}", "processes/*"),
)
