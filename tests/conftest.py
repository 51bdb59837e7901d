"""Properties run on the same examples every time; a slow machine is no fault of theirs. Helpers that assert say what differed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.openfeature_actor")
settings.register_profile("livecfg", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("livecfg")
