"""The configuration of every application here; where it comes from stands in E2E_* variables."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from livecfg import GitSource, LiveConfig

faulthandler.register(signal.SIGUSR1)  # a process that hangs can be asked where


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = 1.0
    number: int = -1


live = LiveConfig(
    Checkout,
    source=GitSource(url=os.environ["E2E_URL"], ref="main"),
    trusted_root=Path(os.environ["E2E_TRUSTED_ROOT"]),
    service="checkout",
    env="prod",
    hub=os.environ.get("E2E_HUB", ""),
    poll_interval_s=float(os.environ.get("E2E_POLL_S", "0.3")),
    start_timeout_s=20,
    max_staleness_s=float(os.environ.get("E2E_MAX_STALENESS_S", "600")),
)


def seen() -> dict[str, Any]:
    """What this process serves right now."""
    view = live.current.view({"targetingKey": "u1"})
    status = live.status
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "at": time.monotonic(),
        "commit": view.snapshot.revision.commit,
        "number": view.config.number,
        "flag": view.flag("number", -1),
        "condition": str(status.condition),
        "reason": status.reason,
        "hub": status.hub,
        "fetcher": status.fetcher,
        "refusals": [str(refusal) for refusal in status.refusals],
    }


def tell(name: str) -> None:
    """Write what this process serves into the folder `out`, by rename."""
    folder = Path(os.environ["E2E_OUT"])
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.write_text(json.dumps(seen()))
    temporary.rename(folder / name)
