"""A process that shows units the arms of an experiment, observes outcomes, and tells what it counted itself; then it waits."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from tests.e2e.apps.settings import live

first, last = map(int, sys.argv[1:])
told: Counter[str] = Counter()
with live:
    for i in range(first, last):
        view = live.current.view({"targetingKey": f"u{i}"})
        arm = str(view.evaluate("copy", default=False).variant)
        view.flag("copy", default=False)  # a second read of the same unit: no second exposure
        told[f"{arm} units"] += 1
        if i % 3 == 0:
            view.observe("paid")
            view.observe("paid")  # a proportion counts a unit once
            told[f"{arm} paid"] += 1
        view.observe("spent", i)
        told[f"{arm} spent"] += i
    live.current.view({"targetingKey": "never shown anything"}).observe("paid")
    folder = Path(os.environ["E2E_OUT"])
    temporary = folder / f".shop.{os.getpid()}"
    temporary.write_text(json.dumps(told))
    temporary.rename(folder / f"shop-{os.getpid()}.json")
    signal.pause()
