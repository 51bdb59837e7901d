"""kill -9 at every named point and at random moments: nothing is corrupt, and the next start goes on without help."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.points import BIG, BY_CHANCE, FIRST, HUB, NEXT, POINTS, REBUILD, REPACK
from tests.faults.support import Host, Point, normal
from tests.simulator import closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as made:
        yield made


def prepare(host: Host, what: str) -> str:
    """Bring the host to where `what` happens next; gives the commit it will end at."""
    if what == FIRST:
        shutil.rmtree(host.home)
        host.home.mkdir()
        return host.repo.tip()
    if what in {NEXT, BIG}:
        return host.commit(100 if what == BIG else 0)
    if what == REPACK:
        tip = host.commit()
        code, found = host.run("follow", commit=tip)
        assert code == 0, found
        return tip
    assert host.mirror is not None
    for complaint in ("damaged", "suspect"):
        (host.mirror / complaint).touch()
    return host.commit()


def act(host: Host, what: str, tip: str, point: Point | None = None, trace: str = "") -> int:
    """Do it, dying at the point; gives the exit code."""
    job = "repack" if what == REPACK else "follow"
    commit = {} if what == REPACK else {"commit": tip}
    return host.run(job, point=point, trace=trace, **commit)[0]


@pytest.mark.parametrize("what", [FIRST, NEXT, BIG, REBUILD, REPACK])
def test_a_kill_at_each_named_point_leaves_a_host_that_goes_on_by_itself(what: str, host: Host) -> None:
    host.check(host.repo.tip())
    points = {name: point[1:] for name, point in POINTS.items() if point[0] == what}
    for name, point in points.items():
        tip = prepare(host, what)
        code = act(host, what, tip, point)
        assert code == -signal.SIGKILL, f"{name}: not reached, exit code {code}"
        try:
            host.check(tip)
        except AssertionError as error:
            raise AssertionError(f"after a kill at {name}") from error


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", [FIRST, NEXT, BIG, REBUILD, REPACK])
def test_a_kill_at_every_single_change_of_a_file_leaves_a_host_that_goes_on_by_itself(what: str, host: Host) -> None:
    host.check(host.repo.tip())
    kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        tip = prepare(host, what)
        code = act(host, what, tip, ("*", "*", kills + 1))
        host.check(tip)
        kills += code == -signal.SIGKILL
    assert code == 0
    assert kills > 20


def test_every_change_of_a_file_has_a_named_point(host: Host) -> None:
    log = host.path / "trace"
    host.check(host.repo.tip())
    for what in (FIRST, NEXT, BIG, REBUILD, REPACK):
        tip = prepare(host, what)
        assert act(host, what, tip, trace=str(log)) == 0
    hub, address = start_hub(host, trace=str(log))
    assert host.run("follow", hub=address)[0] == 0
    os.kill(hub, signal.SIGTERM)
    assert host.wait(hub) == 0
    traced = {normal(line) for line in log.read_text().splitlines()}
    traced -= set(BY_CHANCE)
    named = [re.compile(f"{call} {re.escape(glob)}".replace(r"\*", "[^/]*")) for _, call, glob, _ in POINTS.values()]
    unnamed = sorted(line for line in traced if not any(point.fullmatch(line) for point in named))
    assert not unnamed
    assert len(traced) > 60


def start_hub(host: Host, **more: object) -> tuple[int, str]:
    (host.path / "hub").mkdir(exist_ok=True)
    address = f"127.0.0.1:{closed_port()}"
    return host.fork("hub", home="hub", listen=address, **more), address


def test_a_hub_killed_at_each_named_point_starts_again_and_its_clients_never_notice_more_than_a_pause(host: Host) -> None:
    host.check(host.repo.tip())
    for name, (_, *point) in {n: p for n, p in POINTS.items() if p[0] == HUB}.items():
        shutil.rmtree(host.path / "hub", ignore_errors=True)
        hub, address = start_hub(host, point=point)
        tip = host.commit()
        client = host.fork("follow", hub=address, commit=tip)
        if name.endswith("at the end"):
            assert host.wait(client) == 0
            os.kill(hub, signal.SIGTERM)
        assert host.wait(hub) == -signal.SIGKILL, name
        hub = host.fork("hub", home="hub", listen=address)
        if not name.endswith("at the end"):
            assert host.wait(client) == 0, name
        code, found = host.run("follow", hub=address, commit=host.commit())
        assert code == 0, (name, found)
        host.verify(found)
        os.kill(hub, signal.SIGTERM)
        assert host.wait(hub) == 0, name
        host.check_store()
        host.repo.fsck(next((host.path / "hub").glob("*/mirror.git")))


def kill_at_random(host: Host, rounds: int, seed: int) -> int:
    """Kill at moments of the clock, in every kind of work; gives how many met a living process."""
    rng = random.Random(seed)
    commits = [host.commit(80 if n % 7 == 0 else 0) for n in range(40)]
    longest, kills = 0.1, 0
    for n in range(rounds):
        tip = commits[n % len(commits)]
        if tip == commits[0]:  # a new host: nothing may go back
            shutil.rmtree(host.home)
            host.home.mkdir()
        host.repo.git("update-ref", "refs/heads/main", tip, at=host.repo.remote_path)
        what = rng.choice([NEXT, NEXT, NEXT, REBUILD, REPACK]) if n % len(commits) else FIRST
        if what == REBUILD and host.mirror is not None:
            (host.mirror / "damaged").touch()
        began = time.monotonic()
        job = "repack" if what == REPACK else "follow"
        pid = host.fork(job, **({} if what == REPACK else {"commit": tip}))
        time.sleep(rng.uniform(0, longest))  # the moment of death, not a synchronisation
        os.kill(pid, signal.SIGKILL)
        killed = host.wait(pid) == -signal.SIGKILL
        kills += killed
        longest = max(0.05, longest * 1.05 if killed else 0.9 * (time.monotonic() - began))
        host.check(tip)
    return kills


def test_kills_at_fifty_random_moments(host: Host) -> None:
    assert kill_at_random(host, 50, seed=1) > 25


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_kills_at_a_thousand_random_moments(host: Host) -> None:
    assert kill_at_random(host, 1000, seed=2) > 500
