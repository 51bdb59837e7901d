"""Which variants a flag can still give."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livecfg.flags.lifecycle import reachable
from livecfg.testing import snapshot
from tests.flags.rules import context, flag

ON, OFF = {"on"}, {"off"}


def reached(targeting: Any = None, **more: Any) -> frozenset[str | None]:
    made = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": targeting} | more
    return reachable(snapshot(flags={"flags": {"f": made}}, gate="flagd").flags["f"])


@pytest.mark.parametrize(
    ("targeting", "variants"),
    [
        (None, OFF),
        ({"if": [{"var": "a"}, "off", "off"]}, OFF),
        ({"if": [True, "on", "off"]}, ON),
        ({"if": [[], "on", "off"]}, OFF),
        ({"if": [{"var": "a"}, "on"]}, ON | OFF),
        ({"if": [False, "on", {"if": [{"var": "a"}, "on", "off"]}]}, ON | OFF),
        ({"fractional": [["on", 100], ["off", 0]]}, ON),
        ({"fractional": [["off", 0], ["on", 7], ["off", 0]]}, ON),
        ({"fractional": [{"var": "u"}, ["on", 1], ["off", 99]]}, ON | OFF),
        ({"fractional": [["on", {"var": "w"}], ["off", 1]]}, {"on", "off", None}),
        ({"cat": ["o", "n"]}, {"on", "off", None}),
    ],
)
def test_variants_behind_constants_and_weights_of_nothing_are_not_reachable(targeting: Any, variants: set[str]) -> None:
    assert reached(targeting) == variants


def test_a_flag_that_is_off_or_has_no_default_variant_gives_what_the_code_says() -> None:
    assert reached(state="DISABLED") == reached(defaultVariant=None) == {None}


@given(st.integers(0, 10**9))
def test_whatever_a_caller_with_a_unit_gets_was_reachable(seed: int) -> None:
    r = Random(seed)
    made = snapshot(flags={"flags": {"f": flag(r)}}, gate="flagd")
    possible = reachable(made.flags["f"])
    for _ in range(5):
        answer = made.evaluate("f", None, {"targetingKey": "u", **context(r)})
        assert answer.variant in possible or answer.variant in {None, made.flags["f"].definition.default_variant}
