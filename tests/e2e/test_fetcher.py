"""The one process of a host that fetches is killed, and is stopped: what becomes of the others."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from livecfg.git.mirror import SILENT_S
from tests.e2e.support import Site, eventually, numbered

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


class Host:
    """Processes that share a mirror; the first is the fetcher."""

    def __init__(self, site: Site, poll_s: float) -> None:
        self.site = site
        self.processes: list[subprocess.Popen[bytes]] = []
        for _ in range(3):
            self.processes.append(
                site.run(sys.executable, "-m", "tests.e2e.apps.follow", log="follow.log", E2E_POLL_S=str(poll_s))
            )
            eventually(lambda: len(self.reports()) == len(self.processes), state=site.logs)

    def reports(self) -> dict[int, dict[str, object]]:
        return {int(str(r["pid"])): r for r in self.site.reports("follow-*.json")}

    def take_fetcher(self) -> subprocess.Popen[bytes]:
        """The process that fetches; no longer counted among the others."""
        reports = self.reports()
        (found,) = [p for p in self.processes if reports[p.pid]["fetcher"]]
        self.processes.remove(found)
        return found

    def wait_for(self, number: int) -> float:
        """Wait until every living process serves the number; gives when the last one did, by the monotonic clock."""
        living = [p.pid for p in self.processes]

        def all_do() -> bool:
            found = self.reports()
            return all(found[pid]["number"] == number == found[pid]["flag"] for pid in living)

        eventually(all_do, state=lambda: (self.reports(), self.site.logs()))
        return max(float(str(self.reports()[pid]["at"])) for pid in living)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


def test_a_killed_fetcher_is_replaced_within_a_second_and_the_next_commit_reaches_the_others(site: Site) -> None:
    host = Host(site, poll_s=600)  # so only the election can bring the commit
    taken = []
    for number in (1, 2):
        site.repo.publish(numbered(number))
        began = time.monotonic()
        killed = host.take_fetcher()
        killed.kill()
        killed.wait(10)
        taken.append(host.wait_for(number) - began)
    assert min(taken) < 1.0, taken


def test_when_the_fetcher_is_stopped_the_others_ask_for_themselves_and_follow_again_when_it_goes_on(site: Site) -> None:
    host = Host(site, poll_s=0.3)
    fetcher = host.take_fetcher()
    fetcher.send_signal(signal.SIGSTOP)
    (lock,) = site.home.glob("*/lock")
    shown = lock.stat().st_mtime
    try:
        os.utime(lock, (shown - SILENT_S - 1, shown - SILENT_S - 1))  # as if it had been stopped for so long
        for number in (1, 2):
            site.repo.publish(numbered(number))
            host.wait_for(number)
    finally:
        fetcher.send_signal(signal.SIGCONT)
    host.processes.append(fetcher)
    host.wait_for(2)
    eventually(lambda: lock.stat().st_mtime > shown, state=site.logs)
    for number in (3, 4):
        site.repo.publish(numbered(number))
        host.wait_for(number)
    site.repo.fsck(lock.parent / "mirror.git")
