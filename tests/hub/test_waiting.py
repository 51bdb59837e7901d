"""Whom a hub has lost, and what `livecfg fleet wait` says of those that are behind."""

from __future__ import annotations

import asyncio
import sys
import time

from livecfg.hub._pb import hub_pb2
from livecfg.hub.access import ANYBODY
from livecfg.hub.fleet import FORGET_S, LOST, Fleet, Host
from livecfg.hub.stores import open_store
from tests.hub.test_streams import NEW, OLD, Site, run

BEGAN = 1_800_000_000.0


def _report(boot: str, commit: str = OLD, position: int = 1) -> hub_pb2.Report:
    applied = hub_pb2.Commit(ref="main", commit=commit, position=position)
    process = hub_pb2.Process(boot=boot, service="checkout", env="prod", condition="READY", applied=applied, alive=True)
    return hub_pb2.Report(processes=[process])


async def _seen(fleet: Fleet, now: float) -> dict[str, str]:
    await fleet.flush(now)
    return {p.boot: p.condition for p in fleet.find("", "", ANYBODY)}


def test_a_clock_that_steps_ahead_makes_the_hub_forget_nobody_whose_stream_is_up() -> None:
    async def main() -> None:
        fleet, there, gone = Fleet(open_store("sqlite://")), Host(ANYBODY, "there", ""), Host(ANYBODY, "gone", "")
        fleet.take(_report("a"), there, BEGAN)
        fleet.take(_report("b"), gone, BEGAN)
        fleet.lost(gone)
        assert await _seen(fleet, BEGAN) == {"a": "READY", "b": LOST}
        assert await _seen(fleet, BEGAN + 2 * FORGET_S) == {"a": "READY"}
        fleet.lost(there)
        assert await _seen(fleet, BEGAN + 2 * FORGET_S) == {}

    asyncio.run(main())


def test_the_time_without_a_hub_does_not_count_against_anybody() -> None:
    async def main() -> None:
        store = open_store("sqlite://")
        before = Fleet(store)
        before.take(_report("a"), Host(ANYBODY, "a", ""), BEGAN)
        await before.flush(BEGAN)
        after, again = Fleet(store), BEGAN + 2 * FORGET_S
        assert await _seen(after, again) == {"a": LOST}
        assert await _seen(after, again + FORGET_S - 1) == {"a": LOST}
        assert await _seen(after, again + FORGET_S + 1) == {}
        assert store.all() == []

    asyncio.run(main())


def test_fleet_wait_gives_those_whom_a_new_hub_has_not_heard_of_the_time_to_come_back() -> None:
    async def scenario(site: Site) -> None:
        fleet = site.service.fleet
        gone = Host(ANYBODY, "gone", "")
        fleet.take(_report("a", NEW, 2), Host(ANYBODY, "there", ""), time.time())
        fleet.take(_report("b"), gone, time.time() - 60)
        fleet.lost(gone)
        code, shown, told = await _wait(site, "3")
        assert (code, shown) == (6, "")
        assert "checkout/prod pid 0 on gone has lost the hub" in told
        site.service._began_s -= 60
        code, shown, _ = await _wait(site, "30")
        assert (code, shown.split(" after ")[0]) == (0, f"1 processes serve {NEW[:10]}")

    run(scenario)


def test_fleet_wait_says_what_a_process_waits_for() -> None:
    async def scenario(site: Site) -> None:
        report = _report("a")
        report.processes[0].drift.extend(["serves the old one", f"{NEW[:10]} waits for the window 'freeze'"])
        site.service.fleet.take(report, Host(ANYBODY, "there", ""), time.time())
        code, _, told = await _wait(site, "2")
        assert code == 6
        assert f"pid 0 on there; {NEW[:10]} waits for the window 'freeze'\n" in told

    run(scenario)


async def _wait(site: Site, seconds: str) -> tuple[int | None, str, str]:
    command = ("-m", "livecfg", "fleet", "wait", "--rev", NEW[:10], "--timeout", seconds, "--hub", f"127.0.0.1:{site.port}")
    pipe = asyncio.subprocess.PIPE
    done = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=pipe)
    out, error = await asyncio.wait_for(done.communicate(), 30)
    return done.returncode, out.decode(), error.decode()
