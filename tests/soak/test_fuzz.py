"""`make soak INPUTS=1000000`: no parser raises but its own errors."""

from __future__ import annotations

import os
import time

import pytest

from tests.trust.fuzz import PARSERS, fuzz
from tests.trust.fuzz_walk import WALKS

INPUTS = int(os.environ.get("LIVECFG_FUZZ_INPUTS", "10000"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_raises_nothing_but_its_own_errors(name: str) -> None:
    inputs = INPUTS // 100 if name in WALKS else INPUTS  # a walk is no parser, and takes a hundred times as long as most
    began = time.monotonic()
    found = fuzz(name, inputs, seed=2)
    taken, refused = time.monotonic() - began, sum(found.errors.values())
    print(  # noqa: T201 - the figures are what a soak is for
        f"{name}: {inputs:,} inputs in {taken:.0f} s, {refused:,} refused in {len(found.errors)} ways, "
        f"{found.accepted:,} accepted, slowest {found.slowest * 1000:.0f} ms"
    )
