"""WSGI under gunicorn --preload. The master reads the configuration before it forks: the case in which others freeze."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable  # noqa: TC003 - a WSGI server may read annotations

from tests.e2e.apps.settings import live, seen

logging.basicConfig(level=logging.INFO)
live.start()


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:  # noqa: ARG001 - WSGI
    time.sleep(0.005)  # work, so that a burst of requests meets all workers
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen()).encode()]
