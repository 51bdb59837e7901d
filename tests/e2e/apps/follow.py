"""A process that tells, into a file of its own, of every revision as it is applied; ends with its standard input or a signal."""

from __future__ import annotations

import os
import signal

from tests.e2e.apps.settings import live, tell

NAME = f"follow-{os.getpid()}.json"

live.on_change()(lambda _old, _new: tell(NAME))
with live:
    live.current  # noqa: B018 - the first read starts it
    tell(NAME)
    signal.pause()
