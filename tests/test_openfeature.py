"""LivecfgProvider through the real OpenFeature client, over a working tree that changes."""

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING, Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.provider import ProviderStatus
from openfeature.track import TrackingEventDetails
from pydantic import BaseModel

from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.openfeature import LivecfgProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from openfeature.client import OpenFeatureClient

pytestmark = pytest.mark.xdist_group("openfeature")  # the SDK keeps its providers in globals
FLAGS = """
metadata: {flagSetId: checkout}
flags:
  beta:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting: {if: [{"==": [{var: plan}, pro]}, "on"]}
  copy: {state: ENABLED, variants: {a: A, b: B}, defaultVariant: a, metadata: {owner: ana}}
  limit: {state: ENABLED, variants: {few: 10, many: 1000}, defaultVariant: few}
  ratio: {state: ENABLED, variants: {half: 0.5}, defaultVariant: half}
  theme: {state: ENABLED, variants: {dark: {colour: black}}, defaultVariant: dark}
  mine:
    state: ENABLED
    variants: {"yes": me, "no": other}
    defaultVariant: "no"
    targeting: {if: [{"==": [{var: targetingKey}, u1]}, "yes"]}
  off: {state: DISABLED, variants: {a: A}, defaultVariant: a}
"""


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\nflags: [flags.yaml]\n")
    (tmp_path / "base.yaml").write_text("timeout_s: 2\n")
    (tmp_path / "flags.yaml").write_text(FLAGS)
    return tmp_path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="dev", poll_interval_s=0.2)
    yield made
    made.stop()


@pytest.fixture
def client(live: LiveConfig[Config]) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(LivecfgProvider(live))
    yield api.get_client()
    api.clear_providers()


def test_every_type_is_resolved_with_variant_reason_and_revision(client: OpenFeatureClient, live: LiveConfig[Config]) -> None:
    made = client.get_string_details("copy", "x")
    assert (made.value, made.variant, made.reason) == ("A", "a", "STATIC")
    assert made.flag_metadata == {"flagSetId": "checkout", "owner": "ana", "version": str(live.current.revision)}
    assert client.get_integer_value("limit", 0) == 10
    assert client.get_float_value("limit", 0.0) == 10.0
    assert client.get_float_value("ratio", 0.0) == 0.5
    assert client.get_object_value("theme", {}) == {"colour": "black"}
    assert client.get_string_value("off", "default") == "default"
    assert client.get_provider_status() is ProviderStatus.READY


def test_the_context_reaches_the_rules(client: OpenFeatureClient) -> None:
    made = client.get_boolean_details("beta", False, EvaluationContext("u1", {"plan": "pro"}))  # noqa: FBT003 - the SDK's signature
    assert (made.value, made.reason) == (True, "TARGETING_MATCH")
    assert client.get_string_value("mine", "", EvaluationContext("u1")) == "me"
    assert client.get_string_value("mine", "", EvaluationContext("u2")) == "other"


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda c: c.get_boolean_details("nowhere", default_value=True), ErrorCode.FLAG_NOT_FOUND),
        (lambda c: c.get_boolean_details("copy", default_value=True), ErrorCode.TYPE_MISMATCH),
        (lambda c: c.get_integer_details("ratio", 7), ErrorCode.TYPE_MISMATCH),
        (lambda c: c.get_object_details("copy", {"a": 1}), ErrorCode.TYPE_MISMATCH),
    ],
)
def test_an_error_gives_the_default_and_says_why(client: OpenFeatureClient, ask: Callable[[Any], Any], code: ErrorCode) -> None:
    made = ask(client)
    assert (made.error_code, made.reason, made.variant) == (code, "ERROR", None)
    assert made.value in (True, 7, {"a": 1})
    assert made.error_message


def test_the_async_api_gives_the_same(client: OpenFeatureClient) -> None:
    async def ask() -> tuple[Any, Any]:
        return await client.get_string_value_async("copy", ""), await client.get_integer_value_async("limit", 0)

    assert asyncio.run(ask()) == ("A", 10)


def test_a_change_is_announced_with_the_keys_that_changed(client: OpenFeatureClient, tree: Path) -> None:
    events: queue.Queue[EventDetails] = queue.Queue()
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, events.put)
    (tree / "flags.yaml").write_text(FLAGS.replace("defaultVariant: a, metadata", "defaultVariant: b, metadata"))
    event = events.get(timeout=30)
    assert (event.provider_name, event.flags_changed) == ("livecfg", ["copy"])
    assert client.get_string_value("copy", "") == "B"


def test_a_remote_that_is_silent_makes_the_provider_stale_and_keeps_serving(tree: Path) -> None:
    clock = Clock()
    live = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="dev", max_staleness_s=-1.0)
    api.set_provider_and_wait(LivecfgProvider(live, clock=clock))
    try:
        client = api.get_client()
        events: queue.Queue[EventDetails] = queue.Queue()
        client.add_handler(ProviderEvent.PROVIDER_STALE, events.put)
        clock.now += 2.0
        assert client.get_string_value("copy", "") == "A"
        assert events.get(timeout=30).provider_name == "livecfg"
        assert client.get_provider_status() is ProviderStatus.STALE
        assert client.get_string_value("copy", "") == "A"
    finally:
        api.clear_providers()
        live.stop()


def test_stale_and_ready_are_told_without_an_evaluation(tmp_path: Path, tree: Path) -> None:
    source = UnsafeNoVerification(tree)
    live = LiveConfig(Config, source=source, service="checkout", env="dev", poll_interval_s=0.2, max_staleness_s=1.5)
    api.set_provider_and_wait(LivecfgProvider(live))
    try:
        events: queue.Queue[str] = queue.Queue()
        client = api.get_client()
        away = tree.rename(tmp_path.parent / f"{tmp_path.name}-away")
        client.add_handler(ProviderEvent.PROVIDER_STALE, lambda _: events.put("stale"))
        assert events.get(timeout=30) == "stale"
        client.add_handler(ProviderEvent.PROVIDER_READY, lambda _: events.put("ready"))
        away.rename(tree)
        assert events.get(timeout=30) == "ready"
        assert client.get_provider_status() is ProviderStatus.READY
    finally:
        api.clear_providers()
        live.stop()


def test_a_pinned_request_stays_on_its_revision(client: OpenFeatureClient, tree: Path, live: LiveConfig[Config]) -> None:
    events: queue.Queue[EventDetails] = queue.Queue()
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, events.put)
    with live.pin():
        (tree / "flags.yaml").write_text(FLAGS.replace("defaultVariant: a, metadata", "defaultVariant: b, metadata"))
        events.get(timeout=30)
        assert client.get_string_value("copy", "") == "A"
    assert client.get_string_value("copy", "") == "B"


def test_without_a_first_revision_the_provider_is_in_error(tmp_path: Path) -> None:
    live = LiveConfig(Config, source=UnsafeNoVerification(tmp_path), service="checkout", env="dev", start_timeout_s=0.2)
    try:
        api.set_provider(LivecfgProvider(live))
        client = api.get_client()
        failed: queue.Queue[EventDetails] = queue.Queue()
        client.add_handler(ProviderEvent.PROVIDER_ERROR, failed.put)
        failed.get(timeout=30)
        assert client.get_string_value("copy", "default") == "default"
    finally:
        api.clear_providers()
        live.stop()


EXPERIMENT = """
experiment: copies
hypothesis: B is better.
owner: shop
layer: {name: page, slots: [0, 100]}
arms: {a: {weight: 0}, b: {weight: 1}}
flag: copy
metrics: {primary: {name: paid}}
until: 2999-01-31
"""
SPLIT = "split: ranker\nsalt: s\narms: {v8: {weight: 0, value: {k: 8}}, v9: {weight: 1, value: {k: 9}}}\n"
BARE = "split: bare\nsalt: s\narms: {x: {weight: 0}, y: {weight: 1}}\n"


@pytest.fixture
def drawn(tree: Path) -> Path:
    (tree / "livecfg.yaml").write_text(
        "version: 1\nlayers: [base.yaml]\nflags: [flags.yaml]\nsplits: [s/**]\nexperiments: [e/**]\n"
    )
    for name, text in {"e/copies.yaml": EXPERIMENT, "s/ranker.yaml": SPLIT, "s/bare.yaml": BARE}.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    return tree


def counts(live: LiveConfig[Config]) -> dict[tuple[str, str, str], int]:
    return {(r["name"], r["arm"], r["metric"]): sum(r["units"]) for r in live._signals.exposures.counts()}


@pytest.mark.usefixtures("drawn")
def test_arms_of_experiments_and_splits_have_the_reason_split_and_are_recorded(
    client: OpenFeatureClient, live: LiveConfig[Config]
) -> None:
    context = EvaluationContext("u1")
    made = client.get_string_details("copy", "", context)
    assert (made.value, made.variant, made.reason) == ("B", "b", "SPLIT")
    named = {"flagSetId": "checkout", "owner": "ana", "experiment": "copies", "layer": "page"}
    assert made.flag_metadata == named | {"version": str(live.current.revision)}
    split = client.get_object_details("ranker", {}, context)
    assert (split.value, split.variant, split.reason) == ({"k": 9}, "v9", "SPLIT")
    assert client.get_string_details("bare", "", context).value == "y"
    wrong = client.get_boolean_details("ranker", False, context)  # noqa: FBT003 - the SDK's signature
    assert (wrong.value, wrong.error_code, wrong.variant) == (False, ErrorCode.TYPE_MISMATCH, None)
    assert counts(live) == {("copies", "b", ""): 1, ("ranker", "v9", ""): 1, ("bare", "y", ""): 1}


@pytest.mark.usefixtures("drawn")
def test_what_is_tracked_counts_for_the_arm_that_the_unit_was_shown(client: OpenFeatureClient, live: LiveConfig[Config]) -> None:
    client.track("paid", EvaluationContext("u2"))  # nobody showed it anything
    client.get_string_value("copy", "", EvaluationContext("u1"))
    client.track("paid", EvaluationContext("u1"), TrackingEventDetails(value=2.5))
    client.track("clicked", EvaluationContext("u1"), TrackingEventDetails(attributes={"where": "here"}))
    assert counts(live) == {("copies", "b", ""): 1, ("copies", "b", "paid"): 1, ("copies", "", "paid"): 1}
    recorded = {row["metric"]: (row["count"], row["sum"]) for row in live._signals.summary()}
    assert recorded == {"paid": (2, 3.5), "clicked": (1, 1)}


def test_tracking_without_a_first_revision_is_dropped(tmp_path: Path) -> None:
    live = LiveConfig(Config, source=UnsafeNoVerification(tmp_path), service="checkout", env="dev", start_timeout_s=0.1)
    try:
        LivecfgProvider(live).track("paid", EvaluationContext("u1"))
    finally:
        live.stop()
    assert live._signals.summary() == []


def test_a_changed_split_is_announced(drawn: Path, client: OpenFeatureClient) -> None:
    events: queue.Queue[EventDetails] = queue.Queue()
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, events.put)
    (drawn / "s/ranker.yaml").write_text(SPLIT.replace("k: 9", "k: 10"))
    assert events.get(timeout=30).flags_changed == ["ranker"]
