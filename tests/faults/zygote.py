"""Run as a program by support.py, with shim.c preloaded: everything imported once, then a fork for each process under test.

Commands are JSON lines on standard input, answered in kind. `fork` starts a job (`follow`, `repack` or `hub`) and gives its pid;
`wait` gives its exit code, negative for a signal.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from livecfg import GitSource, LiveConfig
from livecfg.errors import LivecfgError
from livecfg.git import maintain
from livecfg.warm import warm


class Config(BaseModel, frozen=True):
    payment_timeout_s: float = 1.0
    number: int = -1


def follow(job: dict[str, Any]) -> dict[str, Any]:
    """What an application does: read, wait for a commit where one is named, stop; gives what it served."""
    live = LiveConfig(
        Config,
        source=GitSource(url=job["url"]),
        trusted_root=Path(job["root"]),
        service="checkout",
        env="prod",
        home=Path(job["home"]),
        hub=job.get("hub", ""),
        poll_interval_s=0.2,
        start_timeout_s=job.get("start_timeout_s", 15),
    )
    try:
        snapshot = live.current
        if job.get("commit"):
            live.wait_for(job["commit"], 20)
            snapshot = live.current
        deadline = time.monotonic() + 20
        while job.get("hub") and live.status.hub != "streaming":
            if time.monotonic() > deadline:
                return {"error": f"no stream: {live.status}"}
            time.sleep(0.01)
    except (LivecfgError, TimeoutError) as error:
        return {"error": repr(error)}
    finally:
        live.stop()
    view = snapshot.view({"targetingKey": "u1"})
    return {"commit": snapshot.revision.commit, "number": view.config.number, "flag": view.flag("number", -1)}


def repack(job: dict[str, Any]) -> dict[str, Any]:
    """What maintenance does, without its patience."""
    (mirror,) = Path(job["home"]).glob("*/mirror.git")
    return {"packed": maintain.repack(mirror, grace_s=-1)}


def hub(job: dict[str, Any]) -> dict[str, Any]:
    """Serve until told to end."""
    from livecfg.server import HubSettings, serve

    settings = HubSettings(
        source=GitSource(url=job["url"]),
        trusted_root=Path(job["root"]).read_bytes(),
        listen=job["listen"],
        store=f"sqlite:///{job['home']}/hub.db",
        home=Path(job["home"]),
        poll_interval_s=0.1,
    )
    asyncio.run(serve(settings, lambda _: None))
    return {}


JOBS = {"follow": follow, "repack": repack, "hub": hub}


def child(job: dict[str, Any]) -> None:
    shim = ctypes.CDLL(None)
    if job.get("trace"):
        shim.fault_trace(job["home"].encode(), job["trace"].encode())
    if job.get("point"):
        call, pattern, nth = job["point"]
        shim.fault_arm(job["home"].encode(), call.encode(), pattern.encode(), ctypes.c_long(nth))
    code = 1
    try:
        Path(job["out"]).write_text(json.dumps(JOBS[job["job"]](job)))
        code = 0
    except BaseException as error:  # noqa: BLE001 - the answer
        Path(job["out"]).write_text(json.dumps({"error": repr(error)}))
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """The exit code; a process that does not end in a minute is ended, and gives 99."""
    deadline = time.monotonic() + 60
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            return 99
        time.sleep(0.002)  # waitpid knows no timeout


def main() -> None:
    logging.disable(logging.CRITICAL)
    warm(hub=True)
    for name in ("livecfg.server", "livecfg.hub.web"):
        import_module(name)
    gc.freeze()  # a child that ends would copy all of it, to look through it once more
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            answer = wait(command["wait"])
        else:
            answer = os.fork()
            if not answer:
                child(command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
