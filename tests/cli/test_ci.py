"""`livecfg ci init`, and the pre-receive hook: a Git host runs the same functions as every process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cli.desk import PROD, ROOT, Desk

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = {"github": ".github/workflows/livecfg.yaml", "gitea": ".gitea/workflows/livecfg.yaml", "gitlab": ".gitlab-ci.yml"}


def scripts(text: str) -> list[str]:
    """The shell of each step, without the one that installs livecfg."""
    document = yaml.safe_load(text)
    if "livecfg" in document:
        lines = document["livecfg"]["script"]
    else:
        lines = [step["run"] for step in document["jobs"]["check"]["steps"] if "run" in step]
    assert lines[0] == "pip install livecfg"
    return [str(line) for line in lines[1:]]


def run_workflow(desk: Desk, path: str, folder: Path, trusted_root: str) -> tuple[int, str]:
    """Run the steps in a fresh clone, by the shell that the host would use; stops at the first that fails."""
    work = folder / "checkout" / "repo"
    desk.git("clone", "-q", str(desk.conf), str(work))
    command = folder / "bin" / "livecfg"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m livecfg "$@"\n')
    command.chmod(0o755)
    environ = desk.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "CI_COMMIT_BRANCH": "main"}
    environ["LIVECFG_TRUSTED_ROOT"] = trusted_root
    said = ""
    for script in scripts((work / path).read_text()):
        done = subprocess.run(["sh", "-ec", script], cwd=work, env=environ, capture_output=True, text=True, check=False)
        said += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, said
    return 0, said


def pinned(desk: Desk, host: str) -> str:
    """What the variable holds: the text, or at GitLab the path of a file with it."""
    file = desk.path / "trusted_root.yaml"
    return str(file) if host == "gitlab" else file.read_text()


@pytest.mark.parametrize("host", ["github", pytest.param("gitea", marks=pytest.mark.slow), "gitlab"])  # gitea's is github's
def test_the_workflow_passes_what_is_signed_and_fails_what_is_not(desk: Desk, tmp_path: Path, host: str) -> None:
    if host != "github":  # init wrote that one
        assert desk.json("ci", "init", host)["data"]["did"] == HOSTS[host]
    assert run_workflow(desk, HOSTS[host], tmp_path / "good", pinned(desk, host))[0] == 0
    code, said = run_workflow(desk, HOSTS[host], tmp_path / "unset", "")
    assert code != 0
    assert "LIVECFG_TRUSTED_ROOT" in said
    desk.write(PROD, "a: 1\n")
    desk.commit_unsigned("by hand")
    code, said = run_workflow(desk, HOSTS[host], tmp_path / "unsigned", pinned(desk, host))
    assert code == 1
    assert "LC301" in said
    desk.run("adopt", "HEAD")
    desk.write(PROD, "a: [\n")
    desk.commit_unsigned("broken")
    code, said = run_workflow(desk, HOSTS[host], tmp_path / "broken", pinned(desk, host))
    assert code == 1
    assert PROD in said


def test_the_workflow_is_a_signed_commit_and_one_that_is_there_is_left_alone(desk: Desk) -> None:
    desk.run("ci", "init", "gitlab")
    assert "\nok: " in "\n" + desk.run("verify")
    before = desk.state()
    desk.run("ci", "init", "gitlab", code=1)
    assert ".gitlab-ci.yml is there already" in desk.talk
    assert desk.state() == before
    assert "HOST" in desk.run("ci", "init", "--help")


# --- the hook of a Git server ---------------------------------------------------------------------------------------------


@pytest.fixture
def server(desk: Desk) -> Path:
    """A bare repository whose pre-receive hook judges each push."""
    bare = desk.path / "server.git"
    desk.git("init", "-q", "--bare", "-b", "main", str(bare))
    hook = bare / "hooks" / "pre-receive"
    root = desk.path / "trusted_root.yaml"
    command = f"{sys.executable} -m livecfg verify --pre-receive --ref main --trusted-root {root}"
    hook.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {command}\n")
    hook.chmod(0o755)
    desk.git("remote", "add", "origin", str(bare))
    return bare


def push(desk: Desk, *words: str) -> tuple[bool, str]:
    command = ["git", "push", *words]
    done = subprocess.run(command, cwd=desk.conf, env=desk.environ, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def tip_of(desk: Desk, server: Path) -> str:
    return desk.git("rev-parse", "main", at=server).strip()


def test_the_server_takes_what_applications_would_apply(desk: Desk, server: Path) -> None:
    taken, said = push(desk, "origin", "main")
    assert taken, said
    assert "is authorised" in said
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "More")
    assert push(desk, "origin", "main")[0]
    assert tip_of(desk, server) == desk.head()


def test_the_server_refuses_what_applications_would_skip_and_says_why(desk: Desk, server: Path) -> None:
    push(desk, "origin", "main")
    before = tip_of(desk, server)
    desk.write(PROD, "a: 1\n")
    desk.commit_unsigned("by hand")
    taken, said = push(desk, "origin", "main")
    assert not taken
    assert "LC301" in said
    assert "applications would skip" in said
    assert tip_of(desk, server) == before
    desk.run("adopt", "HEAD")
    taken, said = push(desk, "origin", "main")
    assert taken, said
    assert tip_of(desk, server) == desk.head()


def test_the_server_refuses_a_rewritten_and_a_deleted_branch(desk: Desk, server: Path) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One")
    push(desk, "origin", "main")
    before = tip_of(desk, server)
    desk.git("reset", "-q", "--hard", "HEAD~1")
    desk.write(PROD, "a: 2\n")
    desk.run("commit", "-m", "Another")
    taken, said = push(desk, "--force", "origin", "main")
    assert not taken
    assert "LC320" in said
    assert not push(desk, "origin", ":main")[0]
    assert tip_of(desk, server) == before


def test_the_server_takes_what_waits_for_more_people_and_names_them(desk: Desk, server: Path) -> None:
    desk.run("keys", "add", "bo@acme", f"{desk.key('bo')}.pub")
    desk.rules('{id: all, paths: ["**"], allow: [ana@acme, bo@acme], threshold: 2}')
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Needs two")
    taken, said = push(desk, "origin", "main")
    assert taken, said
    assert "waits" in said
    assert "bo@acme" in said
    assert tip_of(desk, server) == desk.head()


def test_the_server_lets_other_branches_be(desk: Desk, server: Path) -> None:
    push(desk, "origin", "main")
    desk.git("switch", "-q", "-c", "draft")
    desk.write(PROD, "a: 1\n")
    desk.commit_unsigned("a draft")
    assert push(desk, "origin", "draft")[0]
    assert tip_of(desk, server) != desk.head()


def test_a_push_of_a_branch_and_the_followed_one_is_judged_whole(desk: Desk, server: Path) -> None:
    push(desk, "origin", "main")
    before = tip_of(desk, server)
    desk.write(PROD, "a: 1\n")
    desk.commit_unsigned("by hand")
    assert not push(desk, "origin", "main", "main:copy")[0]
    assert tip_of(desk, server) == before
    assert "copy" not in desk.git("branch", at=server)
