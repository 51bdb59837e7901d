"""`livecfg kill`, `suspend` and `resume`: one signed commit each, that changes what it says and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.desk import Desk

FLAGS = "flags/checkout/flags.yaml"
TEXT = """flags:
  # asked for by the shop
  new-cart:
    state: ENABLED            # since spring
    variants: {shown: true, hidden: false}
    defaultVariant: shown
  shop.banner:
    state: ENABLED
    variants: {shown: true, hidden: false}
    defaultVariant: shown
"""
KILL = '{id: kill, paths: ["flags/**"], only: disable, allow: ["*"], fast: true}'
TEAM = '{id: all, paths: ["**"], allow: [ana@acme]}'


def write_flags(desk: Desk) -> None:
    desk.write(FLAGS, TEXT)
    desk.run("commit", "-m", "Add flags")


def test_a_kill_changes_the_state_alone_and_says_why(desk: Desk) -> None:
    write_flags(desk)
    said = desk.run("kill", "new-cart", "-m", "It charges twice")
    assert f"new-cart is off ({FLAGS})" in said
    assert (desk.conf / FLAGS).read_text() == TEXT.replace("ENABLED            #", "DISABLED            #")
    assert desk.git("log", "-1", "--format=%s").strip() == "Kill new-cart: It charges twice"
    desk.run("kill", "shop.banner", "-m", "Wrong text")
    assert desk.git("diff", "--stat", "HEAD~1").count("1 insertion(+), 1 deletion(-)") == 1
    assert "'new-cart' is off already" in refused(desk, "kill", "new-cart", "-m", "Again")
    assert "there is no flag 'old-cart'" in refused(desk, "kill", "old-cart", "-m", "Gone")
    assert "say why" in refused(desk, "kill", "new-cart", code=2)


def test_whoever_may_only_kill_can_kill_and_nothing_else(desk: Desk) -> None:
    write_flags(desk)
    line = (desk.key("oncall").with_suffix(".pub")).read_text().split()
    signers = ".livecfg/allowed_signers"
    desk.write(signers, (desk.conf / signers).read_text() + f"oncall@acme {line[0]} {line[1]}\n")
    desk.rules(TEAM, KILL)
    key = ("--key", str(desk.key("oncall")))
    desk.run("kill", "new-cart", "-m", "It charges twice", *key)
    assert "LC310" in refused(desk, "set", "timeout_ms", "7", *key, code=3) + desk.talk
    desk.run("verify")


def test_a_name_that_several_services_have_is_asked_back(desk: Desk) -> None:
    write_flags(desk)
    desk.write("config/billing/base.yaml", "{}\n")
    desk.write("flags/billing/flags.yaml", TEXT)
    desk.run("commit", "-m", "Add billing")
    said = refused(desk, "kill", "new-cart", "-m", "Both", code=2)
    assert "stands in flags/billing/flags.yaml, flags/checkout/flags.yaml: say --service NAME, or --all" in said
    desk.run("kill", "new-cart", "-m", "One", "--service", "billing")
    assert (desk.conf / FLAGS).read_text() == TEXT
    desk.run("kill", "new-cart", "-m", "All", "--all")
    assert "state: DISABLED            # since spring" in (desk.conf / FLAGS).read_text()


def test_suspend_writes_a_signed_file_and_resume_takes_it_away(desk: Desk) -> None:
    said = desk.run("suspend", "checkout", "--env", "prod", "--until", "2099-11-27T19:00+01:00", "-m", 'the "big" move: now')
    assert "checkout/prod is suspended until 2099-11-27T18:00:00Z" in said
    text = (desk.conf / "suspend/checkout/prod.yaml").read_text()
    assert text == 'reason: "the \\"big\\" move: now"\nuntil: 2099-11-27T18:00:00Z\n'
    desk.run("check")
    desk.run("suspend", "checkout", "--until", "2h", "-m", "all of it")
    desk.run("resume", "checkout", "--env", "prod", "-m", "moved")
    assert not (desk.conf / "suspend/checkout/prod.yaml").exists()
    assert "checkout/prod is not suspended" in refused(desk, "resume", "checkout", "--env", "prod")
    desk.run("resume", "checkout")
    desk.run("verify")
    for wrong in ("tomorrow", "2026-11-27T18:00", "0h"):
        assert "expected a time with its zone" in refused(desk, "suspend", "checkout", "--until", wrong, "-m", "x", code=2)
    assert "is no name of a service" in refused(desk, "suspend", "../x", "-m", "x", code=2)
    assert "is over already" in refused(desk, "suspend", "checkout", "--until", "2020-01-01T00:00Z", "-m", "x", code=2)


def test_a_suspension_of_what_has_no_file_is_made_and_said_to_be_odd(desk: Desk) -> None:
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod")
    desk.run("suspend", "checkout", "--env", "prod", "-m", "x")
    assert "no file" not in desk.talk
    for words in (("chekout",), ("checkout", "--env", "prdo")):
        desk.run("suspend", *words, "-m", "x")
        assert f"the layers have no file for {words[0]}" in desk.talk
        assert "There are checkout/prod" in desk.talk


def test_check_finds_a_malformed_suspension(desk: Desk) -> None:
    desk.write("suspend/checkout.yaml", "until: 2026-11-27T18:00:00Z\n")
    assert "reason is missing" in desk.run("check", code=1)


def refused(desk: Desk, *words: str, code: int = 1) -> str:
    return desk.run(*words, code=code) + desk.talk


FREEZE = """windows:
  - {id: freeze, paths: ["**"], deny: {weekdays: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", until: "24:00"}}
"""


def test_what_a_window_or_a_suspension_keeps_back_is_said_when_it_is_committed(desk: Desk) -> None:
    write_flags(desk)
    desk.run("suspend", "checkout", "-m", "the database moves")
    assert "not at once" not in desk.talk
    desk.run("kill", "new-cart", "-m", "It charges twice")
    assert "waits since checkout/default is suspended: the database moves" in desk.talk
    assert "livecfg resume" in desk.talk
    desk.run("rollback", "HEAD", "-y", "--reason", "It was not that")
    assert "not at once" not in desk.talk
    desk.run("resume", "checkout")
    policy = ".livecfg/policy.yaml"
    desk.write(policy, (desk.conf / policy).read_text() + FREEZE)
    desk.run("commit", "-m", "Freeze")
    (held,) = desk.json("kill", "new-cart", "-m", "It charges twice")["data"]["later"]
    assert "waits for the window 'freeze' until" in held
    assert "Livecfg-Window: override" in held
    assert desk.json("kill", "shop.banner", "-m", "Wrong\n\nLivecfg-Window: override freeze")["data"]["later"] == []
    desk.git("switch", "-q", "-c", "change")
    assert desk.json("set", "a", "1")["data"]["later"] == []


def test_going_back_neither_ends_a_suspension_nor_brings_an_old_one_back(desk: Desk) -> None:
    write_flags(desk)
    good = desk.head()
    desk.run("suspend", "checkout", "-m", "the database moves")
    during = desk.head()
    desk.run("kill", "new-cart", "-m", "It charges twice")
    desk.run("rollback", good, "--to", "-y", "--reason", "the last known good")
    assert (desk.conf / FLAGS).read_text() == TEXT
    assert (desk.conf / "suspend/checkout.yaml").exists()
    desk.run("resume", "checkout")
    desk.run("kill", "new-cart", "-m", "It charges twice")
    desk.run("rollback", during, "--to", "-y", "--reason", "as it was then")
    assert (desk.conf / FLAGS).read_text() == TEXT
    assert not (desk.conf / "suspend/checkout.yaml").exists()
