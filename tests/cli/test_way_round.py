"""Two people push at once: a pull that merges hides what applications run, and every verb says so before it is pushed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from livecfg.cli.clone import Clone
from livecfg.errors import RollbackError
from livecfg.revision import Candidate
from livecfg.trust.root import Trusted, TrustedRoot
from livecfg.trust.verify import verify
from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "config/checkout/test.yaml"
FAR = 4e9
SET = ("set", "--service", "checkout", "--env", "prod", "a")


@pytest.fixture
def remote(desk: Desk) -> Path:
    """A remote that holds the branch and has moved on since: a colleague's commit, which applications run."""
    bare, theirs = desk.path / "remote.git", desk.path / "theirs"
    desk.git("init", "-q", "--bare", "-b", "main", str(bare))
    desk.git("remote", "add", "origin", str(bare))
    desk.git("push", "-q", "-u", "origin", "main")
    desk.git("clone", "-q", str(bare), str(theirs))
    key = desk.git("config", "user.signingkey").strip()
    desk.run("set", "b", "2", "--service", "checkout", "--env", "test", "--key", key, at=theirs)
    desk.git("push", "-q", at=theirs)
    return bare


@pytest.fixture
def merged(desk: Desk, remote: Path) -> str:
    """A branch that was merged by `git pull`; gives the colleague's commit."""
    desk.run(*SET, "1")
    desk.git("pull", "-q", "--no-ff", "--no-rebase", "--no-edit")
    assert desk.git("log", "-1", "--format=%G?").strip() == "G"
    return desk.git("rev-parse", "main", at=remote).strip()


def test_a_pull_does_not_merge_whatever_the_person_is_used_to(desk: Desk, remote: Path) -> None:
    habits = desk.home / "habits"
    habits.write_text("[pull]\n\trebase = false\n")
    environ = desk.environ | {"GIT_CONFIG_GLOBAL": str(habits)}
    desk.git("clone", "-q", str(remote), str(desk.path / "third"))
    desk.git("reset", "-q", "--hard", "HEAD~1", at=desk.path / "third")
    desk.run("keys", "init", "--path", str(desk.key("bo")), at=desk.path / "third")
    for clone in (desk.conf, desk.path / "third"):
        key = desk.git("config", "user.signingkey").strip()
        desk.run(*SET, "1", "--key", key, at=clone)
        before = desk.git("rev-parse", "HEAD", at=clone)
        pull = ["git", "pull", "-q", "--no-edit"]
        done = subprocess.run(pull, cwd=clone, env=environ, capture_output=True, check=False)
        assert (done.returncode != 0, desk.git("rev-parse", "HEAD", at=clone)) == (True, before)
    desk.git("pull", "-q", "--rebase")
    assert desk.run("verify").startswith("ok: 3 commits")
    desk.git("push", "-q")


def test_verify_and_every_verb_refuse_what_was_merged_the_wrong_way_round(desk: Desk, merged: str) -> None:
    shown = desk.run("verify", code=3)
    assert "LC320" in shown
    assert "git rebase -S origin/main" in shown
    before = desk.state()
    for words in ((*SET, "3"), ("adopt", "HEAD", "--key", str(desk.key("bo")))):
        assert "LC320" in desk.run(*words, code=3)
    assert desk.state() == before
    desk.git("rebase", "-q", "-S", "origin/main")
    assert merged in desk.git("rev-list", "--first-parent", "HEAD")
    assert desk.run("verify").startswith("ok: 3 commits")
    desk.run(*SET, "3")
    desk.git("push", "-q")


def test_a_proposal_may_take_the_branch_in(desk: Desk, remote: Path) -> None:  # noqa: ARG001 - it moved on
    desk.git("switch", "-q", "-c", "change")
    desk.run(*SET, "1")
    desk.git("fetch", "-q")
    desk.git("merge", "-q", "--no-ff", "--no-edit", "origin/main")
    desk.run(*SET, "2")
    desk.run("verify")
    desk.git("switch", "-q", "main")
    desk.git("pull", "-q")
    desk.git("merge", "-q", "--no-ff", "-S", "--no-edit", "change")
    assert "origin/main" not in desk.run("verify")


def test_applications_come_out_of_it_as_the_advice_says_without_force(desk: Desk, remote: Path, merged: str) -> None:
    bad = desk.head()
    desk.git("push", "-q")  # past every check: nothing on that side looks
    desk.git("fetch", "-q")
    clone = Clone(desk.conf)
    path = desk.path / "trusted_root.yaml"
    root = TrustedRoot.parse(path.read_bytes(), str(path))
    running = verify(Candidate("main", merged, clone), Trusted.start(root, "main"), FAR).trusted
    with pytest.raises(RollbackError):
        verify(Candidate("main", bad, clone), running, FAR)
    assert "git merge --no-ff -S" in desk.run("explain", "LC320")
    desk.git("switch", "-q", "-C", "main", merged)
    desk.git("merge", "-q", "--no-ff", "-S", "--no-edit", bad)
    desk.git("push", "-q", "origin", "main")
    tip = desk.git("rev-parse", "main", at=remote).strip()
    found = verify(Candidate("main", tip, Clone(desk.conf)), running, FAR)
    assert found.good is not None
    assert found.good.commit.id == tip
    assert ((desk.conf / PROD).read_text(), (desk.conf / OTHER).read_text()) == ("a: 1\n", "b: 2\n")
