"""The table of a snapshot: a flag is made ready when it is first asked for."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from threading import Barrier
from typing import Any

import pytest

from livecfg.flags.generate import code_of
from livecfg.testing import snapshot


def rule(country: str, old: str = "on") -> dict[str, Any]:
    clauses = [{"==": [{"var": "country"}, country]}, "on", {">": [{"var": "age"}, 7]}, old, "off"]
    return {"state": "ENABLED", "variants": {"on": country, "off": ""}, "targeting": {"if": clauses}}


FLAGS = {"flags": {country: rule(country) for country in ("DE", "FR", "IT", "ES")}}


class Text(str):
    __slots__ = ("__weakref__", "request")


class Key(Text, Enum):
    IT = "IT"


@pytest.mark.parametrize("key", ["IT", Text("IT"), Key.IT])
def test_the_table_keeps_the_keys_of_the_document_and_nothing_of_who_asked(key: str) -> None:
    made = snapshot(flags=FLAGS)
    assert made.flag(key, "", {"country": "IT"}) == "IT"
    assert {kept: type(kept) for kept in made.serving} == {"IT": str}
    asked = Text("ES")
    alive = weakref.ref(asked)
    assert made.flag(asked, "", {"country": "ES"}) == "ES"
    del asked
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("key", ["PT", "", None, 7, ["DE"], {"DE": 1}])
def test_what_is_no_key_gives_the_default_and_is_not_kept(key: Any) -> None:
    made = snapshot(flags=FLAGS)
    for _ in range(2):
        assert made.flag(key, "default", {}) == "default"
        assert made.view({}).peek(key, "default") == "default"
    assert made.serving == {}


def test_code_is_compiled_by_the_load_and_by_no_request() -> None:
    code_of.cache_clear()
    others = {country: rule(country, "off") for country in ("PT", "AT")}  # other outcomes: code of their own
    made = snapshot(flags={"flags": FLAGS["flags"] | others})
    compiled = code_of.cache_info().misses
    for key in made.flags:
        assert made.flag(key, "", {"country": key}) == key
    assert code_of.cache_info().misses == compiled
    assert len({flag.ready().__code__ for flag in made.flags.values()}) == 2


def test_threads_that_ask_first_at_once_get_the_same() -> None:
    for _ in range(20):
        made, together = snapshot(flags=FLAGS), Barrier(4)

        def ask(key: str, made: Any = made, together: Barrier = together) -> Any:
            together.wait(30)
            return [made.flag(key, "", {"country": key, "age": age}) for age in (1, 8)]

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(ask, ["ES"] * 4)) == [["ES", "ES"]] * 4
        assert made.serving["ES"] is made.flags["ES"].serve
