"""What `livecfg fleet wait` says of those that are behind."""

from __future__ import annotations

import asyncio
import sys
import time

from livecfg.hub._pb import hub_pb2
from livecfg.hub.access import ANYBODY
from livecfg.hub.fleet import Host
from tests.hub.test_streams import NEW, OLD, Site, run


def test_fleet_wait_says_what_a_process_waits_for() -> None:
    async def scenario(site: Site) -> None:
        applied = hub_pb2.Commit(ref="main", commit=OLD, position=1)
        process = hub_pb2.Process(boot="a", service="checkout", env="prod", condition="READY", applied=applied, alive=True)
        process.drift.extend(["serves the old one", f"{NEW[:10]} waits for the window 'freeze'"])
        site.service.fleet.take(hub_pb2.Report(processes=[process]), Host(ANYBODY, "there", ""), time.time())
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
