"""`livecfg policy show|test|explain`: who may change what, whether that is as meant, and what it said of a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path

TESTS = ".livecfg/policy_tests.yaml"
ALL = '{id: all, paths: ["**", "!config/checkout/prod.yaml"], allow: ["*"]}'
BOTH = '{id: prod, paths: ["config/checkout/prod.yaml"], allow: [ana@acme, bo@acme], threshold: 2, bind_ref: true}'


@pytest.fixture
def bo(desk: Desk) -> Path:
    """A second person; production needs both."""
    key = desk.key("bo")
    desk.run("keys", "add", "bo@acme", f"{key}.pub")
    desk.rules(ALL, BOTH)
    return key


@pytest.mark.usefixtures("bo")
def test_show_names_every_rule_with_its_people_paths_and_conditions(desk: Desk) -> None:
    shown = desk.run("policy", "show")
    assert "root  1 of ana@acme" in shown
    assert "prod  2 of ana@acme, bo@acme, bind ref" in shown
    assert "for config/checkout/prod.yaml" in shown
    data = desk.json("policy", "show")["data"]
    assert [(r["id"], r["people"], r["threshold"]) for r in data["rules"]] == [
        ("all", ["ana@acme", "bo@acme"], 1),
        ("prod", ["ana@acme", "bo@acme"], 2),
    ]
    first = desk.json("policy", "show", "--rev", desk.git("rev-list", "--max-parents=0", "HEAD").strip())["data"]
    assert [r["id"] for r in first["rules"]] == ["all"]


def cases(*rows: str) -> str:
    return "version: 1\ntests:\n" + "".join(f"  - {row}\n" for row in rows)


ONE = "{name: one is not enough, paths: [config/checkout/prod.yaml], by: [ana@acme], expect: denied, rule: prod}"
TWO = "{name: two are, paths: [config/checkout/prod.yaml], by: [ana@acme, bo@acme], expect: %s}"


@pytest.mark.usefixtures("bo")
def test_the_table_tests_pass_and_a_wrong_one_fails_with_its_line(desk: Desk) -> None:
    desk.run("policy", "test", code=1)
    assert f"there is no {TESTS}" in desk.talk
    desk.write(TESTS, cases(ONE, TWO % "allowed"))
    shown = desk.run("policy", "test", "-v")
    assert shown.count("ok  ") == 2
    assert "lacks  config/checkout/prod.yaml  rule prod: needs 2, has 1 (ana@acme)" in shown
    desk.write(TESTS, cases(ONE, TWO % "denied"))
    assert f"fails  {TESTS}:4  two are: expected denied, got allowed" in desk.run("policy", "test", code=1)
    found = desk.json("policy", "test", code=1)
    assert [(f["code"], f["path"], f["line"]) for f in found["findings"]] == [("LC313", TESTS, 4)]
    assert [row["ok"] for row in found["data"]] == [True, False]
    assert f"::error file={TESTS},line=4" in desk.run("policy", "test", "-o", "github", code=1)


@pytest.mark.usefixtures("bo")
def test_check_runs_the_table_tests_too_so_that_ci_needs_one_command(desk: Desk) -> None:
    desk.write(TESTS, cases(TWO % "denied"))
    assert "two are: expected denied, got allowed" in desk.run("check", code=1)


@pytest.mark.usefixtures("bo")
def test_a_malformed_table_is_said_with_its_place(desk: Desk) -> None:
    desk.write(TESTS, cases("{name: x, paths: [a], by: [ana@acme], expect: perhaps}"))
    desk.run("policy", "test", code=1)
    assert f"{TESTS}:3" in desk.talk


def test_explain_says_step_by_step_who_stood_behind_a_commit_and_who_mended_it(desk: Desk, bo: Path) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Needs two")
    landed = desk.head()
    shown = desk.run("policy", "explain", code=1)
    assert '"Needs two": skipped' in shown
    assert "signed by ana@acme SHA256:" in shown
    assert f"lacks  {PROD}  rule prod: needs 2, has 1 (ana@acme)" in shown
    assert "LC311" in shown
    desk.run("adopt", landed, "--key", str(bo))
    adoption = desk.head()
    shown = desk.run("policy", "explain", landed, code=1)
    assert f"adopted in {adoption[:10]} by bo@acme" in shown
    assert f"since {adoption[:10]} the branch holds again" in shown
    data = desk.json("policy", "explain", landed, code=1)["data"]
    assert (data["authorised"], data["adopted_by"], data["healed_by"]) == (False, [adoption], adoption)
    shown = desk.run("policy", "explain")
    assert "authorised" in shown
    assert f"holds  {PROD}  rule prod: needs 2, has 2 (ana@acme, bo@acme)" in shown


def test_explain_says_of_an_unsigned_commit_that_nobody_known_signed_it(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.commit_unsigned("by hand")
    shown = desk.run("policy", "explain", code=1)
    assert "signed by nobody known" in shown
    assert "LC301" in shown


def test_explain_of_a_commit_that_has_not_landed_says_so(desk: Desk) -> None:
    desk.git("switch", "-q", "-c", "side")
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Aside")
    aside = desk.head()
    assert "authorised" in desk.run("policy", "explain"), "on a branch its own history is judged"
    desk.git("switch", "-q", "main")
    desk.write("config/checkout/base.yaml", "b: 1\n")
    desk.run("commit", "-m", "Main goes on")
    desk.git("merge", "-q", "--no-ff", "-S", "-m", "Merge side", "side")
    desk.run("policy", "explain", aside)
    assert "\nok: " in "\n" + desk.run("verify")


def test_verify_of_a_range_shows_its_commits_alone_with_signers_and_vouchers(desk: Desk, bo: Path) -> None:
    base = desk.head()
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Needs two")
    landed = desk.head()
    desk.run("adopt", landed, "--key", str(bo))
    adoption = desk.head()
    found = desk.json("verify", f"{base}..HEAD")
    assert found["data"]["authorised"] == adoption
    rows = [(row["commit"], row["ok"], row["signer"], row["vouchers"]) for row in found["data"]["commits"]]
    assert rows == [(landed, False, "ana@acme", ["ana@acme"]), (adoption, True, "bo@acme", ["ana@acme", "bo@acme"])]
    assert [(f["code"], f["commit"]) for f in found["findings"]] == [("LC311", landed)]
    assert desk.json("verify", f"{base}..{landed}", code=1)["data"]["authorised"] == base
