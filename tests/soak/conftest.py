"""Hours-long tests run only when `make soak` asks; three minutes of the one are in the slow suite."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("LIVECFG_SOAK_MINUTES") else ["test_fuzz.py"]
