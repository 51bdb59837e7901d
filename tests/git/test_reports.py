"""What processes say of themselves beside the mirror, and which of them live: real processes, killed and forked."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import LivecfgError
from livecfg.git.lock import sweep
from livecfg.git.reports import REPORT_BYTES, Reports
from livecfg.layers import Process
from livecfg.reporting import Reporter
from livecfg.signals import Signals
from tests.simulator.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEAKER = """
import os, sys
from pathlib import Path
from livecfg.git.reports import Reports
reports = Reports(Path(sys.argv[1]))
reports.write("parent", b'{"pid": %d}' % os.getpid())
if sys.argv[2:]:
    if os.fork():
        os._exit(0)
    reports.write("child", b'{"pid": %d}' % os.getpid())
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def speaker(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes a report, and ends with its standard input."""
    words, pipe = [sys.executable, "-c", SPEAKER, str(folder), *more], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process


def test_reports_are_replaced_listed_and_removed(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "processes")
    assert reports.read() == {}
    reports.write("aa11", b'{"pid": 1}')
    reports.write("aa11", b'{"pid": 2}')
    Reports(tmp_path / "processes").write("bb22", b'{"pid": 3}')
    assert reports.read() == {"aa11": b'{"pid": 2}', "bb22": b'{"pid": 3}'}
    reports.remove("aa11")
    assert list(reports.read()) == ["bb22"]
    assert [path.name for path in (tmp_path / "processes").glob("*.alive")] == ["bb22.alive"]
    with pytest.raises(LivecfgError, match="bytes"):
        reports.write("cc", b"x" * (REPORT_BYTES + 1))


def test_a_process_lives_until_it_is_killed_though_nobody_has_buried_it(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    with speaker(tmp_path) as process:
        assert reports.is_alive("parent")
        process.send_signal(signal.SIGSTOP)
        assert reports.is_alive("parent"), "stopped is not dead"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended; its process id is still taken
        os.kill(process.pid, 0)
        assert not reports.is_alive("parent")


def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    with speaker(tmp_path, "fork") as process:
        process.wait(30)
        assert not reports.is_alive("parent")
        assert reports.is_alive("child")


def test_a_process_that_stopped_reporting_is_no_longer_counted(tmp_path: Path) -> None:
    mine, others = Reports(tmp_path), Reports(tmp_path)
    mine.write("mine", b"{}")
    assert others.is_alive("mine")
    mine.close()
    assert not others.is_alive("mine")
    mine.write("mine", b"{}")
    assert others.is_alive("mine")


def test_without_locks_a_process_lives_while_its_report_is_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    reports = Reports(tmp_path)
    reports.write("aa", b"{}")
    assert reports.is_alive("aa")
    os.utime(tmp_path / "aa.json", (0, 0))
    assert not reports.is_alive("aa")


def test_the_fetcher_removes_what_the_dead_left_with_and_without_a_hub(tmp_path: Path) -> None:
    clock = Clock()
    reporter = Reporter(Reports(tmp_path), Process("checkout", "prod"), Signals(), clock)
    with speaker(tmp_path):
        assert [r["alive"] for r in reporter.of_host(are_sent=True)] == [True]
    assert [r["alive"] for r in reporter.of_host(are_sent=True)] == [False]
    clock.advance(29)
    assert len(reporter.of_host(are_sent=True)) == 1
    clock.advance(2)
    assert len(reporter.of_host(are_sent=False)) == 1, "waits for the hub"
    assert reporter.of_host(are_sent=True) == []
    assert list(tmp_path.iterdir()) == []


def test_what_the_dead_left_is_bounded_while_the_hub_is_away(tmp_path: Path) -> None:
    reporter = Reporter(Reports(tmp_path), Process("checkout", "prod"), Signals(), Clock())
    for n in range(520):
        (tmp_path / f"{n:04}.json").write_text(json.dumps({"pid": 1}))
        os.utime(tmp_path / f"{n:04}.json", (0, 0))
    reporter.of_host(are_sent=False)
    assert len(list(tmp_path.glob("*.json"))) == 500


def test_a_file_of_a_process_that_died_before_its_report_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "processes"
    folder.mkdir()
    (folder / "dead.alive").touch()
    os.utime(folder / "dead.alive", (0, 0))
    (folder / "young.alive").touch()
    assert sweep(tmp_path) == 1
    assert [path.name for path in folder.iterdir()] == ["young.alive"]
