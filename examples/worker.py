"""Celery: nothing to set up, prefork included. Run: `celery -A examples.worker worker`."""

from __future__ import annotations

import os

from celery import Celery

from examples.settings import live

app = Celery("checkout", broker=os.environ.get("BROKER_URL", "memory://"))  # type: ignore[no-untyped-call]  # Celery ships no types


@app.task  # type: ignore[untyped-decorator]  # as above
def settle(order: str) -> str:
    how = "queued" if live.current.flag("settle-in-batches", default=False, context={"targetingKey": order}) else "settled"
    return f"{order} {how}"
