"""The demo's site: one folder with everything in it, the processes that live from it, and questions to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from livecfg.cli._demo.gitserver import GitServer
from livecfg.cli._demo.repository import Key, Repository
from livecfg.errors import LivecfgError
from livecfg.git.source import GitSource

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 4
_GUNICORN = """\
import logging
preload_app = True
workers = {workers}
bind = "127.0.0.1:{port}"
control_socket_disable = True
graceful_timeout = 2
loglevel = "warning"
logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(name)s %(message)s")
"""

Answer = dict[str, Any]


class Site:
    """Starts in `__enter__`, stops everything and removes the folder in `__exit__`."""

    def __init__(self) -> None:
        for module, package in (("gunicorn", "gunicorn"), ("grpc", "livecfg[hub]")):
            if find_spec(module) is None:
                raise LivecfgError(f"the demo runs a real application server and needs {package}: pip install {package}")
        self.folder = Path(tempfile.mkdtemp(prefix="livecfg-demo-"))
        self.key = Key.make()
        self.repository = Repository.found(self.folder / "config.git", self.key)
        self.trusted_root = self.folder / "trusted_root.yaml"
        self.trusted_root.write_bytes(self.repository.trusted_root)
        self.home = self.folder / "home"
        self.git = GitServer(self.folder)
        self.git_port = self.git.port
        self.source = GitSource(f"http://127.0.0.1:{self.git_port}/config.git")
        self.hub_port, self.port = free_port(), free_port()
        self.git_is_up = True
        self._hub: subprocess.Popen[bytes] | None = None
        self._app: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start_hub()
            self._start_app()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for process in (self._app, self._hub):
            if process is not None:
                end(process)
        self.stop_git()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- processes ----------------------------------------------------------------------------------------------------

    def start_git(self) -> None:
        """Serve the repository, on the port of before."""
        if not self.git_is_up:
            self.git, self.git_is_up = GitServer(self.folder, self.git_port), True

    def stop_git(self) -> None:
        """Let the Git server disappear."""
        if self.git_is_up:
            self.git.stop()
            self.git_is_up = False

    def start_hub(self) -> None:
        """Start `livecfg hub serve` beside the repository, as on the Git host, and wait until it listens.

        Raises:
            LivecfgError: it does not within 15 s.

        """
        ready = self.folder / "hub.ready"
        ready.unlink(missing_ok=True)
        words = ["-m", "livecfg", "hub", "serve", "--source", f"file://{self.repository.folder}", "--ready-file", str(ready)]
        words += ["--trusted-root", str(self.trusted_root), "--home", str(self.folder / "hub-home"), "--listen", self.hub_address]
        self._hub = self._run(words, "hub.log")
        deadline, pause = time.monotonic() + 15, threading.Event()
        while not ready.exists():
            if self._hub.poll() is not None or time.monotonic() > deadline:
                raise LivecfgError(f"the hub did not start:\n{self.log_tail()}")
            pause.wait(0.02)

    @property
    def hub_address(self) -> str:
        """host:port of the hub."""
        return f"127.0.0.1:{self.hub_port}"

    def fleet(self, output: str) -> str:
        """What `livecfg fleet status` prints.

        Raises:
            LivecfgError: it fails.

        """
        words = [sys.executable, "-m", "livecfg", "fleet", "status", "--hub", self.hub_address, "-o", output]
        done = subprocess.run(words, env=self._environment(), capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - ours
        if done.returncode > 1:  # 1: not all serve the newest revision
            raise LivecfgError(f"livecfg fleet status: {done.stderr.strip()}")
        return done.stdout

    def stop_hub(self) -> None:
        """Let the hub disappear."""
        if self._hub is not None:
            end(self._hub, signal.SIGKILL)
            self._hub = None

    def _start_app(self) -> None:
        settings = self.folder / "gunicorn.conf.py"
        settings.write_text(_GUNICORN.format(workers=WORKERS, port=self.port))
        words = ["-m", "gunicorn", "-c", str(settings), "livecfg.cli._demo.app:application"]
        self._app = self._run(words, "app.log")

    def _run(self, words: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                [sys.executable, *words],
                env=self._environment(),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )

    def _environment(self) -> dict[str, str]:
        parts = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        return {k: v for k, v in os.environ.items() if not k.startswith("LIVECFG_")} | {
            "PYTHONPATH": os.pathsep.join(filter(None, parts)),
            "LIVECFG_HOME": str(self.home),
            "DEMO_URL": self.source.url,
            "DEMO_TRUSTED_ROOT": str(self.trusted_root),
            "DEMO_HUB": self.hub_address,
        }

    def log_tail(self) -> str:
        """The end of every log, for when something went wrong."""
        return "\n".join(f"{p.name}:\n{p.read_text(errors='replace')[-2000:]}" for p in sorted(self.folder.glob("*.log")))

    # --- questions ----------------------------------------------------------------------------------------------------

    def ask(self, path: str = "/") -> Answer | None:
        """One request to the application; None when it does not answer."""
        return ask(self.port, path)

    def workers(self, holds: Callable[[Answer], bool], timeout_s: float = 15.0) -> dict[int, Answer]:
        """Ask until each worker has given an answer of which `holds` is true; gives them by process id."""
        return ask_workers(self.port, holds, timeout_s)


def ask(port: int, path: str = "/") -> Answer | None:
    """One request on a connection of its own, so that any worker may answer; None when nobody does."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer: Answer = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer


def ask_workers(port: int, holds: Callable[[Answer], bool], timeout_s: float, count: int = WORKERS) -> dict[int, Answer]:
    """Ask in bursts until `count` workers have given an answer of which `holds` is true.

    Raises:
        LivecfgError: they did not within `timeout_s`; with what each said last.

    """
    from concurrent.futures import ThreadPoolExecutor

    met: dict[int, Answer] = {}
    last: dict[int, Answer] = {}
    deadline = time.monotonic() + timeout_s
    with ThreadPoolExecutor(2 * count) as pool:
        while time.monotonic() < deadline:
            for answer in pool.map(lambda _: ask(port), range(2 * count)):
                if answer is None:
                    continue
                last[answer["pid"]] = answer
                if holds(answer):
                    met[answer["pid"]] = answer
            if len(met) >= count:
                return met
    said = "; ".join(f"worker {pid}: {a['commit'][:10]} {a['condition']} {a['reason']}" for pid, a in sorted(last.items()))
    raise LivecfgError(f"only {len(met)} of {count} workers got there within {timeout_s:g} s ({said or 'nobody answers'})")


def end(process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> None:
    """End a process of ours and wait for it."""
    with suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
