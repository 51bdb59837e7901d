"""Nothing moves before policy has judged the commit: what would be skipped is not made, what waits says for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path

ALL = '{id: all, paths: ["**", "!config/checkout/prod.yaml"], allow: ["*"]}'
BO_ONLY = '{id: prod, paths: ["config/checkout/prod.yaml"], allow: [bo@acme]}'
BOTH = '{id: prod, paths: ["config/checkout/prod.yaml"], allow: [ana@acme, bo@acme], threshold: 2}'


@pytest.fixture
def bo(desk: Desk) -> Path:
    """A second person; the policy knows their key."""
    key = desk.key("bo")
    desk.run("keys", "add", "bo@acme", f"{key}.pub")
    return key


def test_what_policy_would_skip_is_not_committed_and_nothing_moves(desk: Desk, bo: Path) -> None:
    desk.rules(ALL, BO_ONLY)
    before = desk.state()
    words = ("set", "a", "1", "--env", "prod", "--service", "checkout", "--file", PROD)
    shown = desk.run(*words, code=3)
    assert "LC310" in shown
    assert "1 more of bo@acme" in shown
    assert desk.state() == before
    desk.write(PROD, "a: 1\n")
    before = desk.state()
    assert "LC310" in desk.run("commit", "-m", "Not mine", code=3)
    assert desk.state() == before
    desk.run("commit", "-m", "Mine", "--key", str(bo))
    assert desk.run("verify").startswith("ok")


@pytest.mark.usefixtures("bo")
def test_a_refused_commit_tells_scripts_every_refusal(desk: Desk) -> None:
    desk.rules(ALL, BO_ONLY)
    found = desk.json("set", "a", "1", "--service", "checkout", "--env", "prod", "--file", PROD, code=3)
    assert (found["command"], found["ok"], found["data"], found["error"]["exit"]) == ("set", False, None, 3)
    assert [(f["code"], f["path"], f["rule"]) for f in found["findings"]] == [("LC310", PROD, "prod")]


def test_an_unknown_key_signs_nothing(desk: Desk) -> None:
    before = desk.state()
    assert "LC303" in desk.run("set", "a", "1", "--service", "checkout", "--env", "x", "--key", str(desk.key("eve")), code=3)
    assert desk.state() == before


def test_what_only_waits_for_more_people_is_committed_and_says_for_whom(desk: Desk, bo: Path) -> None:
    desk.rules(ALL, BOTH)
    desk.write(PROD, "a: 1\n")
    data = desk.json("commit", "-m", "Needs two")["data"]
    assert [(r["code"], r["path"]) for r in data["waits"]] == [("LC311", PROD)]
    assert "bo@acme" in data["waits"][0]["advice"]
    assert desk.head() == data["commit"]
    desk.run("verify", code=1)
    before = desk.state()
    desk.run("adopt", "HEAD", code=3)  # ana stands behind it already
    assert "would not count" in desk.talk
    assert desk.state() == before
    desk.run("adopt", "HEAD", "--key", str(bo))
    assert "\nok: " in desk.run("verify")


@pytest.mark.usefixtures("bo")
def test_the_root_people_who_are_missing_are_named(desk: Desk) -> None:
    desk.rules('{id: all, paths: ["**"], allow: ["*"]}', root="ana@acme, bo@acme", threshold=1)
    desk.rules('{id: all, paths: ["**"], allow: ["*"]}', root="ana@acme, bo@acme", threshold=2)
    assert "LC312" in desk.talk
    assert "bo@acme" in desk.talk


def test_an_adoption_by_somebody_who_does_not_count_is_not_made(desk: Desk, bo: Path) -> None:
    desk.rules(ALL, '{id: prod, paths: ["config/checkout/prod.yaml"], allow: [ana@acme]}')
    desk.write(PROD, "a: 1\n")
    desk.commit_unsigned("by hand")
    desk.write("config/checkout/base.yaml", "b: 1\n")
    desk.commit_unsigned("again")
    before = desk.state()
    assert "LC310" in desk.run("adopt", "HEAD~1", "--key", str(bo), code=3)
    assert desk.state() == before
    desk.run("adopt", "HEAD~1")  # one of two: the other still holds the branch up, and the command says so
    assert "waits:" in desk.talk
    desk.run("adopt", "HEAD~1")
    assert "\nok: " in desk.run("verify")


def test_an_adoption_that_was_made_is_not_asked_for_again(desk: Desk, bo: Path) -> None:
    cy = desk.key("cy")
    desk.run("keys", "add", "cy@acme", f"{cy}.pub")
    desk.rules(ALL, '{id: prod, paths: ["config/checkout/prod.yaml"], allow: [ana@acme, bo@acme, cy@acme], threshold: 3}')
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Change production")
    made = desk.head()
    desk.run("set", "b", "1", "--service", "checkout", "--env", "dev")
    asks = f"2 more of bo@acme, cy@acme: `livecfg adopt {made[:10]}`"
    assert asks in desk.talk  # of the commit that changed it: to adopt the one on top would not help
    said = desk.run("verify", code=1)
    assert said.count(asks) == 2
    desk.run("adopt", made, "--key", str(bo))
    for words in (("verify",), ("policy", "explain", made)):
        said = desk.run(*words, code=1)
        assert f"1 more of cy@acme: `livecfg adopt {made[:10]}`" in said
        assert "2 more of" not in said
    desk.run("adopt", made, "--key", str(cy))
    for words, code in ((("verify",), 0), (("policy", "explain", made), 1)):
        said = desk.run(*words, code=code)
        assert f"nothing to do: since {desk.head()[:10]} the branch holds again" in said
        assert "more of" not in said


def test_a_locked_or_missing_key_is_found_before_a_file_is_edited(desk: Desk) -> None:
    before = desk.state()
    desk.run("set", "a", "1", "--service", "checkout", "--env", "x", "--key", "missing", code=2)
    assert "cannot read the key missing" in desk.talk
    locked = str(desk.key("locked", passphrase="secret"))
    desk.run("keys", "add", "bo@acme", f"{desk.key('bo')}.pub", "--key", locked, code=2)
    assert "ssh-add" in desk.talk
    assert desk.state() == before


@pytest.mark.usefixtures("bo")
def test_a_clone_without_the_trusted_root_judges_by_its_own_first_commit(desk: Desk) -> None:
    desk.rules(ALL, BO_ONLY)
    (desk.path / "trusted_root.yaml").unlink()
    assert "LC310" in desk.run("set", "a", "1", "--service", "checkout", "--env", "prod", "--file", PROD, code=3)
    assert "LC310" not in desk.run("set", "a", "1", "--service", "checkout", "--file", "config/checkout/base.yaml", "--env", "x")


def test_a_shallow_clone_judges_by_the_policy_of_its_head(desk: Desk, bo: Path) -> None:
    desk.rules(ALL, BO_ONLY)
    shallow = desk.path / "shallow"
    desk.git("clone", "-q", "--depth=1", f"file://{desk.conf}", str(shallow))
    words = ("set", "a", "1", "--service", "checkout", "--env", "prod", "--file", PROD)
    assert "LC310" in desk.run(*words, "--key", str(desk.home / ".ssh/livecfg_ed25519"), at=shallow, code=3)
    desk.run(*words, "--key", str(bo), at=shallow)


def test_a_file_with_changes_of_its_own_is_not_signed_along(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One")
    desk.write(PROD, "a: 1\nhidden: 2\n")
    before = desk.state()
    desk.run("set", "a", "3", code=3)
    assert "not committed" in desk.talk
    assert desk.state() == before


def test_other_changes_here_stay_out_of_the_commit(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One")
    desk.write("config/checkout/base.yaml", "half: [done\n")
    desk.run("set", "a", "3")
    assert desk.git("diff", "--name-only", "HEAD~1", "HEAD").split() == [PROD]
    assert desk.git("status", "--porcelain").split() == ["M", "config/checkout/base.yaml"]


def test_unset_takes_a_key_out(desk: Desk) -> None:
    desk.write(PROD, "a: 1\nb: 2\n")
    desk.run("commit", "-m", "Two")
    desk.run("set", "a", "--unset")
    assert (desk.conf / PROD).read_text() == "b: 2\n"
    desk.run("set", "a", "--unset", "--file", PROD, code=1)
    desk.run("set", "a", "1", "--unset", code=2)
    desk.run("set", "a", code=2)


def test_check_sees_what_verification_refuses(desk: Desk) -> None:
    (desk.conf / "link").symlink_to("README.md")
    assert "link: mode 120000" in desk.run("check", code=1)
    (desk.conf / "link").unlink()
    (desk.conf / "README.md").chmod(0o755)
    assert "README.md: mode 100755" in desk.run("check", code=1)
    (desk.conf / "README.md").chmod(0o644)
    desk.write(".hidden name", "x")
    assert ".hidden name: expected a name" in desk.run("check", code=1)
    desk.write(".gitignore", ".hidden name\n.venv/\n")
    desk.write(".venv/x y", "ignored")
    assert desk.run("check").startswith("ok")
    desk.git("init", "-q", "inside")
    assert "inside: mode 160000" in desk.run("check", code=1)


def test_check_finds_the_repository_from_a_folder_inside(desk: Desk) -> None:
    desk.write(PROD, "a: yes\n")
    assert f"{PROD}:1:4" in desk.run("check", at=desk.conf / "config/checkout", code=1)
