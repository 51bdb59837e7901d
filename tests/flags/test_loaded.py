"""Flags, splits and experiments as the loader brings them: from files of a working tree to a view."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import LiveConfig, RefusedError, UnsafeNoVerification

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPERIMENT = """
experiment: copy
hypothesis: A shorter text lifts paid orders.
owner: checkout
layer: {name: checkout, slots: [0, 100]}
holdout: global
arms: {control: {weight: 0}, short: {weight: 1}}
flag: copy
until: 2999-01-31
"""
FLAG = """
flags:
  copy: {state: ENABLED, variants: {control: long, short: short}, defaultVariant: control}
  where: {state: ENABLED, variants: {prod: p, other: o}, targeting: {if: [{"==": [{var: env}, prod]}, prod, other]}}
  clock: {state: ENABLED, variants: {"true": true, "false": false}, targeting: {">": [{var: $flagd.timestamp}, 1700000000]}}
"""


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "livecfg.yaml": "version: 1\nlayers: [base.yaml]\nflags: [flags/**]\nexperiments: [experiments/**]\n",
        "base.yaml": "timeout_s: 2\n",
        "flags/all.yaml": FLAG,
        "experiments/copy.yaml": EXPERIMENT,
        "experiments/_shared/holdouts.yaml": "global: 10\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="prod")
    yield made
    made.stop()


def test_a_flag_under_an_experiment_is_served_by_arm_and_a_holdout_gets_the_default(live: LiveConfig[Config]) -> None:
    served = [live.current.flag("copy", "", {"targetingKey": f"u{i}"}) for i in range(500)]
    assert set(served) == {"long", "short"}
    assert served.count("long") < 100
    made = live.current.evaluate("copy", "", {"targetingKey": f"u{served.index('short')}"})
    assert (made.reason, made.flag_metadata["experiment"], made.revision) == ("SPLIT", "copy", str(live.current.revision))


def test_attributes_of_the_process_and_the_clock_reach_the_rules(live: LiveConfig[Config]) -> None:
    view = live.current.view({})
    assert (view.flag("where", ""), view.flag("clock", default=False)) == ("p", True)
    assert live.current.flag("where", "", {"env": "dev"}) == "o"


def test_an_experiment_on_a_flag_that_is_missing_refuses_the_revision(tree: Path, live: LiveConfig[Config]) -> None:
    (tree / "experiments/copy.yaml").write_text(EXPERIMENT.replace("flag: copy", "flag: gone"))
    with pytest.raises(RefusedError, match=r"experiments/copy\.yaml:8:7 LC420 there is no flag 'gone'"):
        _ = live.current


def test_a_change_of_one_flag_in_a_file_leaves_the_other_flags_compiled(tree: Path) -> None:
    source = UnsafeNoVerification(tree)
    live = LiveConfig(Config, source=source, service="checkout", env="prod", poll_interval_s=0.1)
    swapped = threading.Event()
    live.on_change()(lambda *_: swapped.set())
    try:
        before = live.current.flags
        (tree / "flags/all.yaml").write_text(FLAG.replace("prod: p,", "prod: q,"))
        assert swapped.wait(20)
        after = live.current.flags
    finally:
        live.stop()
    assert after["where"].variants["prod"] == "q"
    assert after["clock"] is before["clock"]
    assert after["where"] is not before["where"]
