"""Hours-long tests: collected only when `make soak` asks for them, never in CI."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("LIVECFG_SOAK_MINUTES") else ["test_*.py"]
