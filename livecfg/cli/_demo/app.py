"""The demo's application: WSGI under gunicorn --preload, with settings as in `examples/settings.py`. Needs no framework.

`/` says what this worker serves; `/arms?n=2000` which of n users are in the arm v9 of the split.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pydantic import BaseModel, Field

from livecfg import GitSource, LiveConfig, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Checkout(BaseModel, frozen=True):
    """What the application believes about its configuration."""

    payment_timeout_s: float = Field(2.0, gt=0, le=30)
    max_items: int = Field(50, ge=1)


class Ranker(BaseModel, frozen=True):
    """The value of each arm of the split `ranker`."""

    model: str
    top_k: int = 10


live = LiveConfig(
    Checkout,
    source=GitSource(url=os.environ["DEMO_URL"], ref="main"),
    trusted_root=Path(os.environ["DEMO_TRUSTED_ROOT"]),
    service="checkout",
    env="prod",
    hub=os.environ.get("DEMO_HUB", ""),
    poll_interval_s=float(os.environ.get("DEMO_POLL_S", "1")),
)
ranker = live.split("ranker", Ranker)
switched: dict[str, float] = {}


@live.prepare
def note(old: Snapshot[Checkout] | None, new: Snapshot[Checkout]) -> None:
    """Forget what the last revision noted; the first one has no `old` and no on_change."""
    if old is None:
        switched[new.revision.commit] = time.monotonic()


@live.on_change()
def note_switch(old: Snapshot[Checkout], new: Snapshot[Checkout]) -> None:  # noqa: ARG001 - the hook's signature
    """Keep when this worker switched; CLOCK_MONOTONIC is one clock for all processes of a machine."""
    switched.clear()
    switched[new.revision.commit] = time.monotonic()


def _served(query: dict[str, list[str]]) -> dict[str, Any]:  # noqa: ARG001 - the shape of a page
    snapshot = live.current
    view = snapshot.view({"targetingKey": "u1", "user": {"id": "u1", "plan": "pro"}})
    with view.measure("request"):
        status = live.status
        return {
            "pid": os.getpid(),
            "commit": snapshot.revision.commit,
            "payment_timeout_s": view.config.payment_timeout_s,
            "backend": view.flag("cart-backend", "stable"),
            "switched_at": switched.get(snapshot.revision.commit, 0.0),
            "condition": str(status.condition),
            "reason": status.reason,
            "refusals": [refusal.as_dict() | {"text": str(refusal)} for refusal in status.refusals],
            "fetcher": status.fetcher,
            "hub": status.hub,
        }


def _arms(query: dict[str, list[str]]) -> dict[str, Any]:
    snapshot = live.current
    count = min(int(query.get("n", ["1000"])[0]), 10_000)
    views = (snapshot.view({"targetingKey": f"u{i}", "user": {"id": f"u{i}"}}) for i in range(count))
    return {
        "pid": os.getpid(),
        "commit": snapshot.revision.commit,
        "v9": [i for i, v in enumerate(views) if ranker(v).name == "v9"],
    }


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Serve one request (WSGI)."""
    page = {"/": _served, "/arms": _arms}.get(environ["PATH_INFO"])
    if page is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not found\n"]
    body = json.dumps(page(parse_qs(environ.get("QUERY_STRING", "")))).encode() + b"\n"
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
