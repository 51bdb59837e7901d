"""`livecfg rollback`: a signed commit takes a change back, says why, and never takes another person's work along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from livecfg.cli.clone import Clone
from livecfg.trust.windows import waiting
from tests.cli.desk import POLICY, PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "config/checkout/staging.yaml"


def put(desk: Desk, value: int, path: str = PROD, message: str = "Change") -> str:
    desk.write(path, f"a: {value}\n")
    desk.run("commit", "-m", message)
    return desk.head()


def text(desk: Desk, path: str = PROD) -> str:
    return (desk.conf / path).read_text()


def test_the_last_change_is_taken_back_and_history_keeps_both_with_the_reason(desk: Desk) -> None:
    first = put(desk, 1)
    second = put(desk, 2, message="Too much")
    data = desk.json("rollback", "-y", "--reason", "payments time out")["data"]
    assert text(desk) == "a: 1\n"
    assert data["commit"] == desk.head()
    message = desk.git("log", "-1", "--format=%B")
    assert message.startswith(f"Take back {second[:10]}: Too much\n\npayments time out\n")
    assert f"\nLivecfg-Rollback: {first}\n" in message
    assert desk.git("rev-list", "--count", f"{first}..HEAD").strip() == "2"
    assert "\nok: " in "\n" + desk.run("verify")
    assert desk.git("status", "--porcelain") == ""


@pytest.mark.parametrize("reason", [(), ("--reason", ""), ("--reason", "  ")])
def test_a_rollback_without_a_reason_is_not_made(desk: Desk, reason: tuple[str, ...]) -> None:
    put(desk, 1)
    put(desk, 2)
    before = desk.state()
    desk.run("rollback", "-y", *reason, code=2)
    assert "say why: --reason" in desk.talk
    assert desk.state() == before


def test_an_older_commit_is_taken_back_alone(desk: Desk) -> None:
    put(desk, 1)
    wrong = put(desk, 2)
    put(desk, 7, OTHER)
    desk.run("rollback", wrong, "-y", "--reason", "wrong")
    assert (text(desk), text(desk, OTHER)) == ("a: 1\n", "a: 7\n")


def test_a_file_that_was_added_is_removed_again_and_one_removed_comes_back(desk: Desk) -> None:
    added = put(desk, 7, OTHER)
    desk.run("rollback", added, "-y", "--reason", "not needed")
    assert not (desk.conf / OTHER).exists()
    desk.run("rollback", "-y", "--reason", "needed after all")
    assert text(desk, OTHER) == "a: 7\n"


def test_what_somebody_changed_again_is_not_taken_back_along(desk: Desk) -> None:
    put(desk, 1)
    wrong = put(desk, 2)
    later = put(desk, 3)
    before = desk.state()
    desk.run("rollback", wrong, "-y", "--reason", "wrong", code=3)
    assert f"{PROD} was changed again by {later[:10]}" in desk.talk
    assert "--to" in desk.talk
    assert desk.state() == before


def test_going_back_to_a_commit_restores_everything_but_who_may_do_what(desk: Desk) -> None:
    good = put(desk, 1)
    put(desk, 2)
    desk.run("keys", "add", "bo@acme", f"{desk.key('bo')}.pub")
    put(desk, 9, OTHER)
    signers = text(desk, ".livecfg/allowed_signers")
    desk.run("rollback", good, "--to", "-y", "--reason", "the last known good")
    assert text(desk) == "a: 1\n"
    assert not (desk.conf / OTHER).exists()
    assert text(desk, ".livecfg/allowed_signers") == signers
    assert "bo@acme" in signers
    assert f"Go back to {good[:10]}" in desk.git("log", "-1", "--format=%s")
    desk.run("rollback", good, "--to", "-y", "--reason", "again", code=1)
    assert "nothing to take back" in desk.talk


def test_what_is_not_on_the_branch_and_the_first_commit_are_not_taken_back(desk: Desk) -> None:
    first = desk.head()
    desk.run("rollback", first, "-y", "--reason", "all of it", code=2)
    assert "nothing before it" in desk.talk
    desk.git("switch", "-q", "-c", "side")
    aside = put(desk, 5)
    desk.git("switch", "-q", "main")
    before = desk.state()
    desk.run("rollback", aside, "-y", "--reason", "x", code=2)
    assert "not on this branch" in desk.talk
    assert desk.state() == before


def test_a_rollback_to_values_that_no_longer_fit_is_refused_with_every_fault(desk: Desk) -> None:
    desk.write(PROD, "a: [1\n")
    broken = desk.commit_unsigned("by hand")
    desk.write(PROD, "a: 1\n")
    desk.git("add", "-A")
    desk.git("-c", "user.name=Ana", "-c", "user.email=ana@acme", "commit", "-q", "--no-verify", "-S", "-m", "Mend")
    before = desk.state()
    found = desk.json("rollback", broken, "--to", "--reason", "as it was", code=1)
    assert [f["path"] for f in found["findings"]] == [PROD]
    assert desk.state() == before


def test_a_file_with_changes_of_its_own_is_not_overwritten(desk: Desk) -> None:
    put(desk, 1)
    put(desk, 2)
    desk.write(PROD, "a: 5\n")
    before = desk.state()
    desk.run("rollback", "-y", "--reason", "x", code=3)
    assert f"{PROD} has changes that are not committed" in desk.talk
    assert desk.state() == before


def test_somebody_whom_policy_does_not_let_change_the_path_takes_nothing_back(desk: Desk) -> None:
    bo = desk.key("bo")
    desk.run("keys", "add", "bo@acme", f"{bo}.pub")
    put(desk, 1)
    put(desk, 2)
    desk.rules('{id: all, paths: ["**"], allow: [ana@acme]}')
    before = desk.state()
    desk.run("rollback", "HEAD~1", "-y", "--reason", "x", "--key", str(bo), code=3)
    assert desk.state() == before


def test_without_a_terminal_and_without_yes_nothing_is_committed(desk: Desk) -> None:
    put(desk, 1)
    put(desk, 2)
    before = desk.state()
    desk.run("rollback", "--reason", "x", code=2)
    assert "--yes" in desk.talk
    assert "a" in desk.talk.splitlines()[0], "the effect on values is shown before the question"
    assert desk.state() == before


def test_json_asks_as_text_does(desk: Desk) -> None:
    put(desk, 1)
    put(desk, 2)
    before = desk.state()
    found = desk.json("--no-input", "rollback", "--reason", "x", code=2)
    assert "--yes" in found["error"]["message"]
    assert desk.state() == before


def test_taking_back_who_may_do_what_is_said_before_the_question(desk: Desk) -> None:
    desk.rules('{id: all, paths: ["**"], allow: [ana@acme]}')
    desk.run("rollback", "--reason", "x", code=2)
    assert f"it changes who may do what, or which files count: {POLICY}" in desk.talk


def test_a_rollback_passes_a_closed_window(desk: Desk) -> None:
    put(desk, 1)
    put(desk, 2)
    hours = "{weekdays: [mon, tue, wed, thu, fri, sat, sun], from: '00:00', until: '23:59', zone: UTC}"
    window = f"windows:\n  - {{id: never, paths: ['**'], deny: {hours}, override: root}}\n"
    desk.write(POLICY, (desk.conf / POLICY).read_text() + window)
    desk.run("commit", "-m", "Close the window")
    desk.run("rollback", "HEAD~1", "-y", "--reason", "x")
    put(desk, 4)
    clone, noon = Clone(desk.conf), 1_899_979_200.0
    before, back, on = (clone.resolve(name) for name in ("HEAD~2", "HEAD~1", "HEAD"))
    assert waiting(clone, before, back, noon) is None
    assert waiting(clone, back, on, noon) is not None


def test_the_key_is_found_before_anything_is_asked_or_changed(desk: Desk, tmp_path: Path) -> None:
    put(desk, 1)
    put(desk, 2)
    before = desk.state()
    desk.run("rollback", "-y", "--reason", "x", "--key", str(tmp_path / "missing"), code=2)
    assert "cannot read the key" in desk.talk
    assert desk.state() == before
