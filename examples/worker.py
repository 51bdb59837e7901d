"""Celery: nothing to set up, prefork included. Run: `celery -A examples.worker worker`."""

from __future__ import annotations

import os

from celery import Celery

from examples.settings import live

app = Celery("checkout", broker=os.environ.get("BROKER_URL", "memory://"))


@app.task
def settle(order: str) -> str:
    how = "queued" if live.current.flag("settle-in-batches", default=False, context={"targetingKey": order}) else "settled"
    return f"{order} {how}"
