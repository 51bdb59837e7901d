"""`livecfg exp list|show|stop` as a person uses them; what `show` says of real counts is in tests/e2e/test_experiment.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.desk import Desk

FLAG_PATH, PATH = "flags/checkout/copy.yaml", "experiments/checkout/copy.yaml"
FLAG = """\
# texts of the checkout
flags:
  checkout.copy:
    state: ENABLED
    variants: {"on": true, "off": false, long-text: true}   # "on" is the new one
    defaultVariant: "off"   # until we know better
"""
EXPERIMENT = """\
experiment: copy   # the short text
hypothesis: A shorter text lifts paid orders.
owner: team-checkout
flag: checkout.copy
layer: {name: checkout, slots: [0, 50]}
arms: {"off": {weight: 50}, "on": {weight: 50}}   # half each
metrics: {primary: {name: paid, goal: increase}}
until: 2999-01-31
"""
RULE = """\
    targeting: {if: [{var: vip}, "on", null]}
"""


def begin(desk: Desk, flag: str = FLAG, path: str = FLAG_PATH, experiment: str = EXPERIMENT) -> None:
    desk.write(path, flag)
    desk.write(PATH, experiment)
    desk.run("commit", "-m", "Begin the experiment")


def given(desk: Desk, unit: str = "u1", *more: str) -> str:
    context = [word for pair in (f"targetingKey={unit}", *more) for word in ("--ctx", pair)]
    return str(desk.json("flags", "eval", "checkout.copy", *context)["data"]["variant"])


def all_given(desk: Desk) -> set[str]:
    rows = desk.json("flags", "simulate", "checkout.copy", "--units", "300")["data"]
    return {row["variant"] for row in rows if row["units"]}


def test_list_shows_every_experiment_with_its_state_and_file(desk: Desk) -> None:
    assert desk.json("exp", "list")["data"] == []
    begin(desk)
    (row,) = desk.json("exp", "list")["data"]
    assert (row["experiment"], row["arms"], row["layer"], row["path"]) == ("copy", {"off": 50, "on": 50}, "checkout 0-50", PATH)
    assert "copy        running until 2999-01-31  off 50, on 50  checkout 0-50  team-checkout  " + PATH in desk.run("exp", "list")


def test_stop_ships_a_variant_in_one_signed_commit_and_keeps_every_comment(desk: Desk) -> None:
    begin(desk)
    before = desk.head()
    made = desk.json("exp", "stop", "copy", "--ship", "on", "-m", "Ship the short text\n\nPaid orders rose.")
    assert made["data"]["did"] == "Stop the experiment copy and ship on"
    assert desk.git("rev-parse", "HEAD~1").strip() == before
    assert desk.git("log", "-1", "--format=%s %G?").startswith("Ship the short text ")
    assert (desk.conf / FLAG_PATH).read_text() == FLAG.replace('defaultVariant: "off"', 'defaultVariant: "on"')
    assert (desk.conf / PATH).read_text() == EXPERIMENT + 'shipped: "on"\n'
    assert all_given(desk) == {"on"}
    assert desk.json("flags", "eval", "checkout.copy")["data"]["reason"] == "STATIC"
    assert desk.json("exp", "list")["data"][0]["state"] == "stopped, shipped on"
    desk.run("verify")
    desk.run("check")


def test_the_flag_of_a_stopped_experiment_and_its_slots_are_free_again(desk: Desk) -> None:
    begin(desk)
    desk.run("exp", "stop", "copy", "--ship", "long-text")
    desk.write("experiments/checkout/again.yaml", EXPERIMENT.replace("experiment: copy", "experiment: again"))
    desk.run("commit", "-m", "Begin another one")
    assert all_given(desk) == {"on", "off", "long-text"}


@pytest.mark.parametrize(("choice", "vip", "other"), [("keep", "on", "long-text"), ("drop", "long-text", "long-text")])
def test_a_rule_of_the_flag_is_kept_or_dropped_as_the_person_says(desk: Desk, choice: str, vip: str, other: str) -> None:
    begin(desk, FLAG + RULE)
    state = desk.state()
    desk.run("exp", "stop", "copy", "--ship", "long-text", code=2)
    assert "--targeting drop, and all get long-text; or keep" in desk.talk
    assert desk.state() == state
    desk.run("exp", "stop", "copy", "--ship", "long-text", "--targeting", choice)
    assert (given(desk, "u1", "vip=true"), given(desk)) == (vip, other)


def test_flags_in_json_are_edited_too(desk: Desk) -> None:
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    begin(desk, json.dumps({"flags": {"checkout.copy": flag}}), "flags/checkout/copy.json")
    desk.run("exp", "stop", "copy", "--ship", "on")
    assert json.loads((desk.conf / "flags/checkout/copy.json").read_text())["flags"]["checkout.copy"]["defaultVariant"] == "on"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("gone", "--ship", "on"), 1, "gone is no experiment of checkout/default (there are: copy)"),
        (("copy", "--ship", "short"), 1, "checkout.copy has no variant short; it has on, off, long-text"),
        (("copy",), 2, "Missing option '--ship'"),
    ],
)
def test_what_cannot_be_stopped_is_told_and_nothing_is_changed(desk: Desk, words: tuple[str, ...], code: int, said: str) -> None:
    begin(desk)
    state = desk.state()
    desk.run("exp", "stop", *words, code=code)
    assert said in desk.talk
    assert desk.state() == state


def test_an_experiment_is_stopped_once(desk: Desk) -> None:
    begin(desk)
    desk.run("exp", "stop", "copy", "--ship", "on")
    desk.run("exp", "stop", "copy", "--ship", "off", code=1)
    assert "copy was stopped before, and on was shipped" in desk.talk


def test_a_stopped_experiment_is_still_checked(desk: Desk) -> None:
    begin(desk)
    desk.run("exp", "stop", "copy", "--ship", "on")
    desk.write(PATH, EXPERIMENT.replace("weight: 50", "weight: -1") + 'shipped: "on"\n')
    desk.run("check", code=1)


def test_without_a_hub_show_says_how_to_reach_one(desk: Desk) -> None:
    begin(desk)
    desk.run("exp", "show", "copy", "--hub", "127.0.0.1:9", code=4)
    assert "the hub at 127.0.0.1:9 cannot be reached" in desk.talk
    desk.run("exp", "show", "gone", "--hub", "127.0.0.1:9", code=1)
