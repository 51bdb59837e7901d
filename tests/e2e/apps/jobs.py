"""Celery with prefork children and a broker that is a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from tests.e2e.apps.settings import live, tell

folder = Path(os.environ["E2E_OUT"]).parent / "broker"
for part in ("messages", "processed", "control"):
    (folder / part).mkdir(parents=True, exist_ok=True)

app = Celery("jobs", broker="filesystem://")  # type: ignore[no-untyped-call]  # Celery ships no types
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "messages"),
    "data_folder_out": str(folder / "messages"),
    "processed_folder": str(folder / "processed"),
    "control_folder": str(folder / "control"),
    "store_processed": False,
}
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 1
live.start()  # in the parent, before it forks


@app.task  # type: ignore[untyped-decorator]  # as above
def report() -> None:
    time.sleep(0.05)  # work, so that the next task meets another child
    tell(f"celery-{os.getpid()}.json")
