"""Repositories as Git makes them: SHA-256 objects, linked working trees, filters, zones; plain git agrees each time."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path


def test_everything_works_in_a_sha256_repository(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.git("init", "-q", "-b", "main", "--object-format=sha256", str(desk.conf), at=tmp_path)
    desk.run("init", "conf", "--service", "checkout", "--person", "ana@acme", at=tmp_path)
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One")
    desk.run("set", "a", "2")
    desk.run("keys", "add", "bo@acme", f"{desk.key('bo')}.pub")
    desk.run("adopt", "HEAD~1", "--key", str(desk.key("bo")))
    assert len(desk.head()) == 64
    assert desk.git("log", "--format=%G?").split() == ["G"] * 5
    assert desk.git("fsck", "--strict", "--no-dangling") == ""
    assert desk.git("status", "--porcelain") == ""
    assert desk.run("verify").startswith("ok: 5 commits")
    assert [row["value"] for row in desk.json("log", "a")["data"]] == [2, 1]
    assert desk.json("log", "--rev", desk.head()[:9], "-n", "1")["data"][0]["commit"] == desk.head()
    assert 'anchor:\n  commit: "sha256:' in desk.run("root", "export", "--anchor")
    assert desk.run("check").startswith("ok")


def test_a_commit_carries_the_offset_that_holds_at_its_moment(desk: Desk) -> None:
    for zone in ("Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Etc/GMT+9", "UTC"):
        desk.run("set", "zone", zone, "--service", "checkout", "--env", "prod", TZ=zone)
        moment, offset = desk.git("log", "-1", "--format=%at %ad", "--date=format:%z").split()
        date = ["date", "-d", f"@{moment}", "+%z"]
        shown = subprocess.run(date, env=desk.environ | {"TZ": zone}, capture_output=True, check=True)
        assert offset == shown.stdout.decode().strip()


def test_the_moment_of_a_commit_can_be_given_as_git_takes_it(desk: Desk) -> None:
    dates = {"GIT_AUTHOR_DATE": "1900000000 -0330", "GIT_COMMITTER_DATE": "@1900000001 +0545"}
    words = ("set", "a", "1", "--service", "checkout", "--env", "prod")
    desk.run(*words, code=2, GIT_COMMITTER_DATE="yesterday")
    assert "GIT_COMMITTER_DATE" in desk.talk
    desk.run("commit", "-m", "nothing", code=1, **dates)
    past = {name: date.replace("1900000", "1790000") for name, date in dates.items()}
    shown = desk.run(*words, code=3, **past)
    assert "LC306" in shown  # dated well before the commit under it


def test_a_linked_working_tree_is_a_clone_of_its_own(desk: Desk) -> None:
    desk.git("worktree", "add", "-q", "-b", "side", str(desk.path / "side"))
    side, before = desk.path / "side", desk.state()
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod", at=side)
    assert desk.state() == before
    assert desk.git("log", "-1", "--format=%G? %D", "side").strip() == "G side"
    assert desk.git("status", "--porcelain", at=side) == ""
    desk.run("check", at=side / "config")
    desk.run("verify", at=side)
    desk.git("fsck", "--strict")


def test_the_reflog_knows_what_livecfg_did(desk: Desk) -> None:
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod")
    assert "commit: Set a to 1" in desk.git("reflog", "-1")


def test_line_ends_of_a_file_stay_in_git_too(desk: Desk) -> None:
    (desk.conf / PROD).write_bytes(b"a: 1\r\nb: 2\r\n")
    desk.run("commit", "-m", "From Windows")
    desk.run("set", "a", "3")
    assert (desk.conf / PROD).read_bytes() == b"a: 3\r\nb: 2\r\n"
    blob = subprocess.run(["git", "cat-file", "blob", f"HEAD:{PROD}"], cwd=desk.conf, capture_output=True, check=True)
    assert blob.stdout == b"a: 3\r\nb: 2\r\n"


def test_packed_refs_and_packed_objects_are_read(desk: Desk) -> None:
    desk.git("gc", "-q")
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod")
    desk.run("verify")
    assert desk.git("fsck", "--strict") == ""


@pytest.mark.parametrize("words", [("verify",), ("log",), ("diff", "HEAD~3"), ("adopt", "HEAD~1"), ("checkpoint",)])
def test_a_shallow_clone_says_that_it_is_one(desk: Desk, words: tuple[str, ...]) -> None:
    for value in range(3):
        desk.run("set", "a", str(value), "--service", "checkout", "--env", "prod")
    shallow = desk.path / "shallow"
    desk.git("clone", "-q", "--depth=2", f"file://{desk.conf}", str(shallow))
    desk.run(*words, at=shallow, code=4)
    assert "this clone is shallow and ends before" in desk.talk
    assert "git fetch --unshallow" in desk.talk
