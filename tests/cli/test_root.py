"""Keys and root people: made, rotated, revoked; an application with an old pin follows the chain to new root people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig
from livecfg.errors import RefusedError
from tests.cli.desk import POLICY, PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path


class Config(BaseModel, frozen=True):
    a: int = 0


@pytest.fixture
def people(desk: Desk) -> dict[str, str]:
    """Keys of two more people, known to the policy; by name, for --key."""
    for name in ("bo", "cy"):
        desk.run("keys", "add", f"{name}@acme", f"{desk.key(name)}.pub")
    return {name: str(desk.key(name)) for name in ("bo", "cy")}


def live_config(desk: Desk, home: Path, root: bytes) -> LiveConfig[Config]:
    source = GitSource(url=str(desk.conf))
    settings = {"service": "checkout", "env": "prod", "poll_interval_s": 0.2, "start_timeout_s": 5.0}
    return LiveConfig(Config, source=source, trusted_root=root, home=home, **settings)  # type: ignore[arg-type]  # as they are


def put(desk: Desk, value: int) -> str:
    desk.write(PROD, f"a: {value}\n")
    desk.run("commit", "-m", f"Set it to {value}")
    return desk.head()


def test_an_application_with_the_old_pin_follows_the_chain_to_new_root_people(
    desk: Desk, people: dict[str, str], tmp_path: Path
) -> None:
    pin = (desk.path / "trusted_root.yaml").read_bytes()
    put(desk, 1)
    with live_config(desk, tmp_path / "running", pin) as running:
        assert running.current.config.a == 1
        data = desk.json("root", "rotate", "bo@acme", "cy@acme", "--threshold", "2")["data"]
        assert {(row["code"], row["rule"]) for row in data["waits"]} == {("LC312", "new-root")}
        change = data["commit"]
        assert desk.json("verify", code=1)["data"]["authorised"] != change
        desk.run("adopt", change, "--key", people["bo"])
        desk.run("verify", code=1)
        desk.run("adopt", change, "--key", people["cy"])
        desk.run("verify")
        tip = put(desk, 2)
        assert running.wait_for(tip, 20).config.a == 2
    with live_config(desk, tmp_path / "fresh", pin) as fresh:
        assert fresh.current.config.a == 2
    assert "waits:" in desk.run("keys", "revoke", "ana@acme", "--key", people["bo"]) + desk.talk
    before = desk.head()
    desk.run("adopt", before, code=3)  # ana is root no more
    assert "would not count" in desk.talk
    desk.run("adopt", before, "--key", people["cy"])
    desk.run("verify")
    assert "ana@acme" not in desk.run("keys", "list")


def test_the_old_people_alone_and_the_new_people_alone_change_no_root(desk: Desk, people: dict[str, str]) -> None:
    before = desk.head()
    for key, waits_for, rule in ((people["bo"], "ana@acme", "root"), ("", "bo@acme", "new-root")):
        desk.run("root", "rotate", "bo@acme", *(("--key", key) if key else ()))
        assert f"1 more of {waits_for}" in desk.talk
        shown = desk.json("verify", code=1)
        assert {f["rule"] for f in shown["findings"]} == {rule}
        assert shown["data"]["authorised"] == before
        desk.git("reset", "-q", "--hard", before)


def test_a_new_application_ships_an_anchored_file_after_a_change_of_root(
    desk: Desk, people: dict[str, str], tmp_path: Path
) -> None:
    put(desk, 1)
    desk.run("root", "rotate", "bo@acme")
    desk.run("adopt", "HEAD", "--key", people["bo"])
    desk.run("verify")
    plain = desk.run("root", "export").encode()
    assert "needs an anchor" in desk.talk
    with pytest.raises(RefusedError, match="LC303"):
        live_config(desk, tmp_path / "plain", plain).start()
    anchored = desk.run("root", "export", "--anchor").encode()
    tip = put(desk, 2)
    with live_config(desk, tmp_path / "anchored", anchored) as live:
        assert live.current.revision.commit == tip


@pytest.mark.parametrize("words", [(), ("--anchor",)])
def test_nobody_is_exported_whom_applications_would_not_follow(
    desk: Desk, people: dict[str, str], words: tuple[str, ...]
) -> None:
    """A host that serves a root change of its own, and a change that waits for people."""
    policy = (desk.conf / POLICY).read_text()
    desk.run("root", "rotate", "bo@acme", "--key", people["bo"])  # waits for ana
    assert desk.run("root", "export", *words, code=3) == ""
    assert "applications do not accept HEAD" in desk.talk
    desk.git("reset", "-q", "--hard", "HEAD~1")
    desk.write(POLICY, policy.replace("people: [ana@acme]", "people: [bo@acme]"))
    desk.commit_unsigned("evil")
    assert desk.run("root", "export", *words, code=3) == ""
    assert "LC301" in desk.talk


def test_a_root_that_only_the_repository_itself_vouches_for_is_said_to_be_so(desk: Desk, tmp_path: Path) -> None:
    known = desk.path / "trusted_root.yaml"
    desk.run("root", "export", "--anchor")
    assert "judged" not in desk.talk
    known.rename(tmp_path / "elsewhere.yaml")
    desk.run("root", "export", "--anchor")
    assert "no trusted root here to judge it by" in desk.talk


@pytest.mark.usefixtures("people")
def test_what_applications_would_refuse_is_said_before_anything_is_signed(desk: Desk) -> None:
    before = desk.state()
    for people, code, said in (
        ("eve@acme", 3, "eve@acme: no key of their own here"),
        ("bo@acme bo@acme", 2, "somebody is named twice"),
        ("bo@acme cy@acme --threshold 3", 2, "only 2 of them"),
        ("ana@acme", 1, "the root people already"),
    ):
        desk.run("root", "rotate", *people.split(), code=code)
        assert said in desk.talk
    assert desk.state() == before


def test_a_rotation_keeps_the_comments_of_the_policy(desk: Desk, people: dict[str, str]) -> None:
    before = (desk.conf / POLICY).read_text()
    assert people
    desk.run("root", "rotate", "ana@acme", "bo@acme")
    after = (desk.conf / POLICY).read_text()
    assert [line.partition("#")[2] for line in before.splitlines()] == [line.partition("#")[2] for line in after.splitlines()]


def test_a_key_is_rotated_with_an_overlap_and_the_old_one_ends_with_its_fingerprint(desk: Desk, people: dict[str, str]) -> None:
    new = desk.key("bo2")
    desk.run("keys", "rotate", "bo@acme", f"{new}.pub")
    rows = [row for row in desk.json("keys", "list")["data"] if row["person"] == "bo@acme"]
    assert len(rows) == 2
    for number, key in enumerate((people["bo"], str(new))):
        desk.write(PROD, f"a: {number}\n")
        desk.run("commit", "-m", "During the overlap", "--key", key)
    desk.run("verify")
    desk.run("keys", "revoke", rows[0]["fingerprint"])
    desk.write(PROD, "a: 9\n")
    assert "LC303" in desk.run("commit", "-m", "With the old one", "--key", people["bo"], code=3)
    desk.run("commit", "-m", "With the new one", "--key", str(new))
    desk.run("verify")


def test_a_key_of_somebody_without_one_is_not_rotated(desk: Desk) -> None:
    desk.run("keys", "rotate", "zoe@acme", f"{desk.key('zoe')}.pub", code=1)
    assert "keys add" in desk.talk


def test_keys_init_makes_a_key_that_plain_git_signs_with(desk: Desk) -> None:
    path = desk.home / "another"
    line = desk.run("keys", "init", "--path", str(path)).strip()
    person, _, public = line.partition(" ")
    assert person == "ana@acme"
    assert (path.stat().st_mode & 0o777) == 0o600
    desk.run("keys", "rotate", "ana@acme", public, "--key", str(desk.home / ".ssh" / "livecfg_ed25519"))
    desk.write(PROD, "a: 1\n")
    desk.git("add", "-A")
    desk.git("commit", "-q", "-m", "By plain git")
    desk.run("verify")
    before = path.read_bytes()
    desk.run("keys", "init", "--path", str(path))
    assert path.read_bytes() == before
    assert "is there already" in desk.talk
