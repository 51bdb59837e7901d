"""A site: a signed repository, its server, a home, and processes that run the applications of `tests/e2e/apps`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.simulator import ConfigRepo, GitHttpServer, closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
FILES: dict[str, str | bytes | None] = {
    "config/_shared/base.yaml": "payment_timeout_s: 2.0\nnumber: 0\n",
    "flags/checkout/flags.yaml": (
        "flags:\n  number:\n    state: ENABLED\n    variants: {now: 0}\n    defaultVariant: now\n"
        "  cart-backend:\n    state: ENABLED\n    variants: {stable: stable, canary: canary}\n    defaultVariant: stable\n"
    ),
}


def eventually(condition: Callable[[], T | None], timeout_s: float = 30.0, state: Callable[[], object] = lambda: "") -> T:
    """Ask until the answer is true, and give it; after `timeout_s` fail with what `state` says."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {timeout_s:g} s; state: {state()}")
        pause.wait(0.02)


def numbered(number: int) -> dict[str, str | bytes | None]:
    """Files in which the configuration and a flag carry the same number: a reader that sees two revisions sees two numbers."""
    flag = f"flags:\n  number:\n    state: ENABLED\n    variants: {{now: {number}}}\n    defaultVariant: now\n"
    backend = "  cart-backend:\n    state: ENABLED\n    variants: {stable: stable, canary: canary}\n    defaultVariant: stable\n"
    return {
        "config/_shared/base.yaml": f"payment_timeout_s: 2.0\nnumber: {number}\n",
        "flags/checkout/flags.yaml": flag + backend,
    }


class Site:
    """Everything one test needs, cleaned up at its end."""

    def __init__(self, path: Path, *, files: Mapping[str, str | bytes | None] | None = None) -> None:
        self.path = path
        self.repo = ConfigRepo(path / "git")
        self.first = self.repo.found({name: text for name, text in (FILES | dict(files or {})).items() if text is not None})
        self.trusted_root = path / "trusted_root.yaml"
        self.trusted_root.write_bytes(self.repo.trusted_root)
        self.home = path / "livecfg-home"
        self.out = path / "out"
        self.out.mkdir()
        self.server: GitHttpServer | None = None
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self.start_server()

    def start_server(self) -> None:
        """Serve the repository; after `stop_server` on another port, which is why tests that come back use `file_url`."""
        self.server = GitHttpServer(self.repo.path)
        self.server.__enter__()
        self.url = self.server.url(self.repo.remote_path)

    def stop_server(self) -> None:
        """Close every connection and the port."""
        if self.server is not None:
            self.server.__exit__()
            self.server = None

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of an application of this site."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LIVECFG_", "E2E_", "GIT_", "COV_"))}
        return kept | {
            "PYTHONPATH": str(ROOT),
            "LIVECFG_HOME": str(self.home),
            "E2E_URL": self.url,
            "E2E_TRUSTED_ROOT": str(self.trusted_root),
            "E2E_OUT": str(self.out),
            "no_proxy": "*",
            **more,
        }

    def run(self, *words: str, log: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a process of this site in a group of its own; its output goes to the file `log`."""
        with (self.path / log).open("ab") as output:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=self.environment(**more),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def web(self, workers: int = 4, **more: str) -> Web:
        """Start gunicorn with --preload: the master reads the configuration, then forks."""
        return Web(self, workers, **more)

    def logs(self) -> str:
        """Every log of this site, for a failure message."""
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-4000:]}" for p in sorted(self.path.glob("*.log")))

    def end(self, process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> None:
        """End one process group and wait for it."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def reports(self, pattern: str) -> list[dict[str, Any]]:
        """What applications wrote into the folder `out`."""
        return [json.loads(p.read_bytes()) for p in self.out.glob(pattern)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.processes:
            self.end(process, signal.SIGKILL)
        self.stop_server()


class Web:
    """A gunicorn of `tests/e2e/apps/web.py`; knows what each worker answers."""

    def __init__(self, site: Site, workers: int, **more: str) -> None:
        self.site = site
        self.workers = workers
        self.port = closed_port()
        words = (
            "-m",
            "gunicorn",
            "--preload",
            "--workers",
            str(workers),
            "--bind",
            f"127.0.0.1:{self.port}",
            "--no-control-socket",
        )
        self.process = site.run(sys.executable, *words, "tests.e2e.apps.web:application", log="web.log", **more)

    def ask(self, path: str = "/") -> dict[str, Any] | None:
        """One request; None when nobody answers yet."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer

    def answers(self) -> dict[int, dict[str, Any]]:
        """The newest answer of each worker that a burst of requests met."""
        with ThreadPoolExecutor(8) as pool:
            found = [a for a in pool.map(lambda _: self.ask(), range(16)) if a is not None]
        return {a["pid"]: a for a in sorted(found, key=lambda a: a["at"])}

    def all_workers(self, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0) -> dict[int, dict[str, Any]]:
        """Wait until every worker gave an answer of which `holds` is true; gives these answers by process id."""
        met: dict[int, dict[str, Any]] = {}
        last: dict[int, dict[str, Any]] = {}

        def ask() -> dict[int, dict[str, Any]] | None:
            last.update(self.answers())
            met.update({pid: a for pid, a in last.items() if holds(a)})
            return met if len(met) >= self.workers else None

        return eventually(ask, timeout_s, lambda: (last, self.site.logs()))


def free_of_listeners(port: int) -> bool:
    """Tell whether nobody listens on a loopback port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0
