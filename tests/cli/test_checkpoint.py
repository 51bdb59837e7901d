"""`livecfg checkpoint`: signed by one root person after the other, and where an application then begins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from livecfg.cli.checkpoint import _keep
from livecfg.cli.clone import Clone
from livecfg.cli.signing import load_key
from livecfg.errors import RefusedError
from livecfg.trust.checkpoint import NAMESPACE
from livecfg.trust.statement import write_statement
from tests.cli.desk import PROD, Desk
from tests.cli.test_root import live_config

if TYPE_CHECKING:
    from pathlib import Path

REF = "refs/livecfg/checkpoint"


@pytest.fixture
def bo(desk: Desk) -> str:
    """The second root person of two, who must both agree; the key, for --key."""
    key = str(desk.key("bo"))
    desk.run("keys", "add", "bo@acme", f"{key}.pub")
    desk.run("root", "rotate", "ana@acme", "bo@acme", "--threshold", "2")
    desk.run("adopt", "HEAD", "--key", key)
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One")
    return key


def test_two_people_sign_one_after_the_other_and_a_new_application_begins_there(desk: Desk, bo: str, tmp_path: Path) -> None:
    root = desk.run("root", "export").encode()  # ana and bo, two of two: the first commit was signed by ana alone
    with pytest.raises(RefusedError, match="LC31"):
        live_config(desk, tmp_path / "before", root).start()
    here = desk.head()
    data = desk.json("checkpoint")["data"]
    assert (data["commit"], data["position"], data["signed_by"], data["missing"]) == (here, 4, ["ana@acme"], 1)
    with pytest.raises(RefusedError, match="LC31"):
        live_config(desk, tmp_path / "one", root).start()
    desk.write(PROD, "a: 2\n")
    desk.run("commit", "-m", "Two")
    other = desk.path / "other"
    desk.git("clone", "-q", str(desk.conf), str(other))
    desk.git("fetch", "-q", "origin", f"+{REF}:{REF}", at=other)
    shown = desk.run("checkpoint", "--key", bo, at=other)
    assert f"{here[:10]}  checkpoint at position 4, until " in shown
    assert "signed by ana@acme, bo@acme" in shown
    desk.git("push", "-q", "origin", f"+{REF}", at=other)
    with live_config(desk, tmp_path / "two", root) as live:
        assert live.current.config.a == 2
        assert live.current.revision.position == 5


def test_what_cannot_be_signed_is_said_and_nothing_is_made(desk: Desk, bo: str) -> None:
    cy = desk.key("cy")
    desk.run("checkpoint", "--key", str(cy), code=3)
    assert "not one of the root people" in desk.talk
    desk.write(PROD, "a: 3\n")
    unsigned = desk.commit_unsigned("by hand")
    found = desk.json("checkpoint", unsigned, code=3)
    assert found["findings"][-1]["code"] == "LC301"
    assert REF not in desk.git("for-each-ref")
    desk.run("checkpoint", "HEAD~1")
    desk.run("checkpoint", "HEAD~1", code=3)
    assert "have signed it already" in desk.talk
    assert "waits for 1 more of bo@acme" in desk.run("checkpoint", "HEAD~2") + desk.talk, "another commit begins anew"
    assert desk.json("checkpoint", "--key", bo)["data"]["missing"] == 0


def test_one_that_says_something_else_than_history_is_not_signed_along(
    desk: Desk, bo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run("checkpoint")
    wrong = json.loads(desk.git("show", f"{REF}:statement").partition("\n")[0]) | {"position": 3}
    ana = load_key(desk.home / ".ssh" / "livecfg_ed25519")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ana")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ana@acme")
    _keep(Clone(desk.conf), write_statement(wrong, lambda line: ana.sign(line, NAMESPACE)))
    desk.run("checkpoint", "--key", bo, code=3)
    assert "do not sign it" in desk.talk
    desk.git("update-ref", REF, "HEAD")
    desk.run("checkpoint", code=3)
    assert f"{REF} holds no checkpoint" in desk.talk


def test_a_checkpoint_does_not_go_back_behind_the_one_there_is(desk: Desk, bo: str) -> None:
    older = desk.head()
    desk.write(PROD, "a: 2\n")
    desk.run("commit", "-m", "Two")
    desk.run("checkpoint")
    desk.run("checkpoint", "--key", bo)
    before = desk.git("rev-parse", REF)
    desk.run("checkpoint", older, "--key", bo, code=3)
    assert f"{older[:10]} is older than the checkpoint {desk.head()[:10]}" in desk.talk
    assert desk.git("rev-parse", REF) == before
    desk.git("update-ref", "-d", REF)
    desk.run("checkpoint", older)
    desk.run("checkpoint", "HEAD")  # forward it may go
    desk.run("checkpoint", older)
    assert "which waits for signatures and is dropped" in desk.talk
