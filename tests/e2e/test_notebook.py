"""A notebook: livecfg in a real Jupyter kernel, cell by cell, interrupted, restarted and shut down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.e2e.support import ROOT, Site, eventually, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
VERSION = "7.1.0"

# What a notebook's front end does: reads words from its input, answers in JSON lines.
FRONT_END = """
import json, sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
def run(cell, interrupted=False):
    printed = []
    def shown(message):
        content = message["content"]
        printed.append(content.get("text") or content.get("ename") or "")
        if interrupted and "waiting" in printed[-1]:
            manager.interrupt_kernel()
    reply = client.execute_interactive(cell, timeout=60, output_hook=shown)
    return {"status": reply["content"]["status"], "error": reply["content"].get("ename"), "printed": "".join(printed).split()}
for line in sys.stdin:
    verb, cell = json.loads(line)
    if verb == "restart":
        manager.restart_kernel(now=False)
        client.wait_for_ready(timeout=60)
        answer = {}
    else:
        answer = run(cell, interrupted=verb == "interrupt")
    print(json.dumps(answer | {"pid": manager.provisioner.pid}), flush=True)
kernel = manager.provisioner.process
client.stop_channels()
manager.shutdown_kernel(now=False)  # asks it to end, and kills it after five seconds
print(json.dumps({"code": kernel.poll()}), flush=True)
"""
START = """
from tests.e2e.apps import settings
live = settings.live.start()
print(live.current.config.number, live.current.flag("number", -1, {}))
"""
INTERRUPTED = """
print("waiting", flush=True)
live.wait_for("0" * 40, 50)
"""
CHANGED = """
import asyncio
called, loop = asyncio.Event(), asyncio.get_running_loop()
@live.on_change("number")
def changed(old, new):
    loop.call_soon_threadsafe(called.set)
print(live.current.config.number)
"""
AWAITED = """
await asyncio.wait_for(called.wait(), 30)
print(live.current.config.number, live.status.condition)
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install Jupyter's kernel in an environment of its own that sees this one's packages; fail where that cannot be."""
    folder = tmp_path_factory.mktemp("jupyter")
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"ipykernel=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"ipykernel {VERSION} could not be installed: it needs a package index\n{done.stderr}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "lib" / version / "site-packages/here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


class Notebook:
    """A front end with one kernel."""

    def __init__(self, site: Site, python: Path) -> None:
        self.site = site
        environ = site.environment(IPYTHONDIR=str(site.path / "ipython"), JUPYTER_RUNTIME_DIR=str(site.path / "jupyter"))
        self.errors = (site.path / "kernel.log").open("ab")
        self.process = subprocess.Popen(
            [str(python), "-c", FRONT_END],
            cwd=ROOT,
            env=environ,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )

    def ask(self, verb: str, cell: str = "") -> dict[str, Any]:
        """Give what the kernel answered."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, cell]) + "\n")
        self.process.stdin.flush()
        return self.told()

    def told(self) -> dict[str, Any]:
        """Give the next line of the front end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.site.logs()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def shutdown(self) -> dict[str, Any]:
        """Close the notebook, and give how its kernel ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        told = self.told()
        assert self.process.wait(30) == 0
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            assert stream is not None
            stream.close()


def test_a_kernel_reads_waits_is_interrupted_and_restarted_and_ends_by_itself(site: Site, python: Path) -> None:
    site.repo.publish(numbered(1))
    with Notebook(site, python) as notebook:
        first = notebook.ask("run", START)
        assert first["printed"] == ["1", "1"], (first, site.logs())
        assert notebook.ask("run", CHANGED)["printed"] == ["1"]
        site.repo.publish(numbered(2))
        assert notebook.ask("run", AWAITED)["printed"] == ["2", "READY"]
        stopped = notebook.ask("interrupt", INTERRUPTED)
        assert (stopped["status"], stopped["error"]) == ("error", "KeyboardInterrupt")
        third = site.repo.publish(numbered(3))
        assert notebook.ask("run", f"print(live.wait_for({third!r}, 30).config.number)")["printed"] == ["3"]
        again = notebook.ask("run", START)  # a cell that is run once more
        assert again["printed"] == ["3", "3"]
        kernel = notebook.ask("restart")["pid"]
        assert kernel != first["pid"]
        eventually(lambda: not _alive(first["pid"]))
        assert notebook.ask("run", START)["printed"] == ["3", "3"]
        assert notebook.shutdown() == {"code": 0}
        eventually(lambda: not _alive(kernel))
    assert "Traceback" not in site.logs()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
