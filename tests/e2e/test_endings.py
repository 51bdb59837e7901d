"""How it ends: an interpreter that goes away, a handle that is stopped, a loop that runs already. Nothing hangs or is left."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from livecfg import GitSource, LiveConfig, Snapshot
from tests.e2e.support import ROOT, Site, eventually, numbered
from tests.e2e.test_damage import Checkout

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


def live_of(site: Site) -> LiveConfig[Checkout]:
    return LiveConfig(
        Checkout,
        source=GitSource(url=site.url),
        trusted_root=site.trusted_root,
        service="checkout",
        env="prod",
        home=site.home,
        poll_interval_s=0.1,
    )


START = "from tests.e2e.apps.settings import live\nassert live.current.config.number == 0\n"
READS_ON = """
import threading
def on():
    while True:
        live.current.view({}).flag("number", 0)
threading.Thread(target=on, daemon=True).start()
"""
READS_LATE = """
import atexit
atexit.register(lambda: print(live.current.config.number, live.status.condition))
"""
FORKS = """
import os
if os.fork() == 0:
    assert live.current.config.number == 0
else:
    os.wait()
"""
ENDINGS = {
    "the end of the program": ("", 0),
    "sys.exit": ("import sys; sys.exit(3)", 3),
    "an error": ("raise SystemExit('because')", 1),
    "stop, and a read after it": ("live.stop(); live.current; live.stop()", 0),
    "a read while it ends": (READS_LATE, 0),
    "a thread that reads on": (READS_ON, 0),
    "a forked child": (FORKS, 0),
}


@pytest.mark.parametrize(
    ("how", "hub"), [*((how, False) for how in ENDINGS), ("the end of the program", True), ("a forked child", True)]
)
def test_an_interpreter_ends_at_once_with_its_last_report_and_says_nothing(how: str, site: Site, *, hub: bool) -> None:
    """With all warnings shown, `-X dev`, and a hub that nobody serves: grpc has threads of its own."""
    script, code = ENDINGS[how]
    environ = site.environment(PYTHONDEVMODE="1", **({"E2E_HUB": "127.0.0.1:1"} if hub else {}))
    command = [sys.executable, "-W", "always", "-c", START + script]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    ours = [line for line in done.stderr.splitlines() if line != "because" and "multi-threaded, use of fork" not in line]
    assert [line for line in ours if "livecfg" in line or "Warning" in line or "Exception" in line] == [], done.stderr
    reports = [json.loads(path.read_text()) for path in site.home.rglob("processes/*.json")]
    if script is not FORKS:  # there two processes end at once, each with a second for its report
        assert {report["condition"] for report in reports} == {"STOPPED"}


def test_a_signal_ends_a_process_that_waits_for_its_first_revision(site: Site) -> None:
    site.stop_server()
    process = site.run(sys.executable, "-c", START, log="waiting.log")
    eventually(lambda: len(list(Path(f"/proc/{process.pid}/task").glob("*"))) > 1)
    site.end(process, signal.SIGINT)
    assert process.returncode != -signal.SIGKILL


def open_files() -> int:
    return len(list(Path("/proc/self/fd").glob("*")))


def test_a_handle_that_was_stopped_leaves_no_thread_and_no_file_open(site: Site) -> None:
    def once() -> None:
        with live_of(site) as live:
            assert live.current.config.number == 0

    once()  # what is made once in a process: urllib3's pools, inotify
    threads, files = {t.name for t in threading.enumerate()}, open_files()
    for _ in range(15):
        once()
    eventually(lambda: {t.name for t in threading.enumerate()} <= threads, state=threading.enumerate)
    eventually(lambda: open_files() <= files + 2, state=lambda: (files, open_files()))


def test_in_a_loop_that_runs_already_everything_works_as_in_a_notebook(site: Site) -> None:
    """A notebook's cells run inside a running loop: reading, waiting and `async with` must not want one of their own."""

    async def cells() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        called = asyncio.Event()
        live = live_of(site)

        @live.on_change("number")
        async def changed(old: Snapshot[Checkout], new: Snapshot[Checkout]) -> None:
            await asyncio.sleep(0)
            seen.append((old.config.number, new.config.number))
            called.set()

        async with live:
            assert live.current.config.number == 0
            commit = site.repo.publish(numbered(1))
            await asyncio.to_thread(live.wait_for, commit, 20)
            await called.wait()
        again = live_of(site).start()  # the cell is run once more, without `async with`
        assert again.wait_for(commit, 20).config.number == 1  # it may remember the one before: that is written after the swap
        assert again.wait_for(site.repo.publish(numbered(2)), 20).config.number == 2
        again.stop()
        return seen

    assert asyncio.run(asyncio.wait_for(cells(), 60)) == [(0, 1)]


INTERRUPTED = """
import importlib, json, os, signal, sys, threading
from tests.e2e.apps import settings

def interrupted(cell):
    threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    try:
        cell()
    except KeyboardInterrupt:
        return True

def read():
    return settings.live.current

said = [interrupted(read), interrupted(read)]
os.environ["E2E_URL"] = sys.argv[1]
live = importlib.reload(settings).live.start()
said += [interrupted(lambda: live.wait_for("0" * 40, 30)), live.current.config.number]
print(json.dumps(said), flush=True)
commit = sys.stdin.readline().strip()
print(json.dumps(live.wait_for(commit, 30).config.number), flush=True)
"""


def test_a_cell_that_is_interrupted_while_it_waits_can_be_run_again(site: Site) -> None:
    """As a notebook's "interrupt": the wait ends at once, and the handle goes on as if nobody had waited."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers: a first read waits
        environ = site.environment(E2E_URL=f"http://127.0.0.1:{silent.getsockname()[1]}/config.git")
        command = [sys.executable, "-c", INTERRUPTED, site.url]
        cell = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with cell:
            assert cell.stdin is not None
            assert cell.stdout is not None
            assert json.loads(cell.stdout.readline() or "null") == [True, True, True, 0]
            print(site.repo.publish(numbered(4)), file=cell.stdin, flush=True)
            assert json.loads(cell.stdout.readline() or "null") == 4
            _, stderr = cell.communicate(timeout=30)
    assert (cell.returncode, "Traceback" in stderr) == (0, False), stderr
