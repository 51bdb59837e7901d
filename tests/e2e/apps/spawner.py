"""uvloop runs at-fork hooks whenever it spawns a subprocess: livecfg must not mind."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.e2e.apps.settings import live, tell


async def main() -> None:
    async with live:
        while True:
            process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "pass")
            await process.wait()
            tell("uvloop.json")


uvloop.run(main())
