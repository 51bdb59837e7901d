"""`livecfg approve`: a second person says yes on the branch, and a plain merge brings that along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path

ALL = '{id: all, paths: ["**", "!config/checkout/prod.yaml"], allow: ["*"]}'
BOTH = '{id: prod, paths: ["config/checkout/prod.yaml"], allow: [ana@acme, bo@acme], threshold: 2, four_eyes: %s}'


@pytest.fixture
def bo(desk: Desk) -> Path:
    """A second person; production needs both."""
    key = desk.key("bo")
    desk.run("keys", "add", "bo@acme", f"{key}.pub")
    desk.rules(ALL, BOTH % "false")
    return key


def propose(desk: Desk, value: int = 1) -> None:
    """Ana changes production on a branch of its own; the command says that it is a proposal."""
    if "change" not in desk.git("branch", "--list", "change"):
        desk.git("switch", "-q", "-c", "change")
    else:
        desk.git("switch", "-q", "change")
    desk.write(PROD, f"a: {value}\n")
    desk.run("commit", "-m", "Change production")
    desk.git("switch", "-q", "main")


def merge(desk: Desk, branch: str = "change") -> None:
    desk.git("merge", "-q", "--no-ff", "-S", "-m", f"Merge {branch}", branch)


def test_an_approval_that_a_plain_merge_brings_along_satisfies_a_threshold_of_two(desk: Desk, bo: Path) -> None:
    propose(desk)
    data = desk.json("approve", "change", "--key", str(bo))["data"]
    assert (data["person"], data["branch"], data["ref"]) == ("bo@acme", "change", "refs/heads/main")
    assert data["commit"] == desk.git("rev-parse", "change").strip()
    assert desk.git("symbolic-ref", "--short", "HEAD").strip() == "main"
    merge(desk)
    assert "\nok: " in "\n" + desk.run("verify")


@pytest.mark.usefixtures("bo")
def test_without_the_approval_the_same_merge_waits_for_the_second_person(desk: Desk) -> None:
    propose(desk)
    merge(desk)
    found = desk.json("verify", code=1)
    assert [(f["code"], f["path"], f["rule"]) for f in found["findings"]] == [("LC311", PROD, "prod")]
    assert "bo@acme" in found["findings"][0]["advice"]


def test_an_approval_by_the_author_is_not_a_second_person(desk: Desk, bo: Path) -> None:
    propose(desk)
    desk.run("approve", "change")
    merge(desk)
    assert "LC311" in desk.run("verify", code=1)
    assert bo.exists()


def test_a_change_after_the_approval_is_not_approved(desk: Desk, bo: Path) -> None:
    propose(desk)
    desk.run("approve", "change", "--key", str(bo))
    propose(desk, 2)
    merge(desk)
    assert "LC311" in desk.run("verify", code=1)


def test_an_approval_for_another_branch_does_not_count_here(desk: Desk, bo: Path) -> None:
    propose(desk)
    desk.git("branch", "release")
    desk.run("approve", "change", "--ref", "release", "--key", str(bo))
    merge(desk)
    assert "LC311" in desk.run("verify", code=1)


def test_with_four_eyes_the_approvals_of_two_others_are_needed_and_suffice(desk: Desk, bo: Path) -> None:
    cy = desk.key("cy")
    desk.run("keys", "add", "cy@acme", f"{cy}.pub")
    desk.rules(ALL, (BOTH % "true").replace("bo@acme]", "bo@acme, cy@acme]"))
    propose(desk)
    desk.run("approve", "change", "--key", str(bo))
    before = desk.head()
    merge(desk)
    assert "LC311" in desk.run("verify", code=1)
    desk.git("reset", "-q", "--hard", before)
    desk.run("approve", "change", "--key", str(cy))
    merge(desk)
    assert "\nok: " in "\n" + desk.run("verify")


def test_an_approval_says_who_is_still_missing_for_which_rule(desk: Desk, bo: Path) -> None:
    cy = desk.key("cy")
    desk.run("keys", "add", "cy@acme", f"{cy}.pub")
    desk.rules(ALL, (BOTH % "true").replace("bo@acme]", "bo@acme, cy@acme]"))
    propose(desk)
    desk.run("set", "b", "1", "--service", "checkout", "--env", "dev")  # main moved on
    (row,) = desk.json("approve", "change", "--key", str(bo))["data"]["missing"]
    assert (row["rule"], row["paths"], row["has"], row["needs"]) == ("prod", [PROD], 1, 2)
    desk.run("approve", "change", "--key", str(bo))
    assert f"still missing: rule prod: has 1 of 2 (ana@acme, bo@acme); 1 more of cy@acme: {PROD}" in desk.talk
    desk.run("approve", "change", "--key", str(cy))
    assert "nobody else is needed" in desk.talk
    assert "still missing" not in desk.talk
    merge(desk)
    assert "\nok: " in "\n" + desk.run("verify")


@pytest.mark.usefixtures("bo")
def test_the_author_and_one_approval_are_two_people(desk: Desk) -> None:
    propose(desk)
    desk.run("approve", "change")
    assert f"still missing: rule prod: has 1 of 2 (ana@acme); 1 more of bo@acme: {PROD}" in desk.talk
    desk.run("approve", "change", "--key", str(desk.key("bo")))
    assert "nobody else is needed" in desk.talk


def test_an_approval_says_what_to_do_next_and_leaves_files_and_index_alone(desk: Desk, bo: Path) -> None:
    propose(desk)
    desk.write("notes.txt", "not mine to commit\n")
    before = desk.state()
    assert "bo@acme approves change for main" in desk.run("approve", "change", "-m", "Looks right", "--key", str(bo))
    assert "git push origin change" in desk.talk
    assert desk.state() == before
    assert desk.git("log", "-1", "--format=%s", "change").strip() == "Looks right"


@pytest.mark.parametrize(
    ("branch", "code", "said"),
    [("nowhere", 2, "there is no local branch 'nowhere'"), ("main", 2, "livecfg adopt COMMIT")],
)
def test_what_cannot_be_approved_is_said_and_nothing_is_made(desk: Desk, branch: str, code: int, said: str) -> None:
    before = desk.state()
    desk.run("approve", branch, code=code)
    assert said in desk.talk
    assert desk.state() == before


@pytest.mark.usefixtures("bo")
def test_an_approval_by_a_key_that_policy_does_not_know_is_not_made(desk: Desk) -> None:
    propose(desk)
    before = desk.git("rev-parse", "change")
    found = desk.json("approve", "change", "--key", str(desk.key("eve")), code=3)
    assert [f["code"] for f in found["findings"]] == ["LC303"]
    assert desk.git("rev-parse", "change") == before


def test_of_a_branch_without_a_common_history_nobody_says_that_enough_approve_it(desk: Desk) -> None:
    tree = desk.git("rev-parse", "HEAD^{tree}").strip()
    lone = desk.git("commit-tree", "-m", "from nowhere", tree).strip()
    desk.git("branch", "lone", lone)
    assert desk.json("approve", "lone")["data"]["missing"] is None
    assert "cannot be told here" in desk.talk
    assert "has no history in common with main" in desk.talk
