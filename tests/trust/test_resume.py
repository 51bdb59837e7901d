"""A crash in the middle of a walk: whoever takes over comes to the verdict of a process that was never killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import ConfigRepo

TOP = Path(__file__).parents[2]
BASE, PROD = "config/shop/base.yaml", "config/shop/prod.yaml"
RULES = [
    {"id": "all", "paths": ["**"], "allow": ["*"]},
    {"id": "prod", "paths": ["config/*/prod.yaml"], "allow": ["bo@acme", "cy@acme"], "threshold": 2},
]


def history(path: Path) -> tuple[ConfigRepo, str]:
    """Skipped, adopted, pending, merged and root commits; the half-way tip is one whose change waits for a second person."""
    repo = ConfigRepo(path)
    for person in ("ana@acme", "bo@acme", "cy@acme"):
        repo.person(person)
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "a: 1\n", PROD: "b: 1\n"}, policy={"rules": RULES})
    bad = repo.commit({BASE: "a: 2\n"}, signed=False)
    repo.adopt(bad, by="bo@acme")
    pending = repo.commit({PROD: "b: 2\n"}, by="bo@acme")
    half = repo.commit({BASE: "a: 666\n"}, signed=False)
    repo.commit({BASE: "a: 2\n"}, by="cy@acme")
    repo.adopt(pending, by="cy@acme")
    repo.commit({".livecfg/policy_tests.yaml": "version: 1\ntests: []\n"})
    repo.branch("side")
    repo.switch("side")
    repo.commit({PROD: "b: 3\n"}, by="bo@acme")
    repo.switch("main")
    repo.merge("side", by="cy@acme")
    repo.commit({BASE: "a: 667\n"}, signed=False)
    repo.push()
    return repo, half


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_read_of_a_walk_changes_no_verdict(tmp_path: Path, step: int) -> None:
    repo, half = history(tmp_path / "repo")
    root = tmp_path / "root.yaml"
    root.write_bytes(repo.trusted_root)
    command = [sys.executable, "-m", "tests.trust.resume", str(tmp_path), str(repo.remote_path), str(root), str(step)]
    done = subprocess.run(command, input=f"{half} {repo.tip()}", capture_output=True, text=True, cwd=TOP, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *after_a_kill = done.stdout.splitlines()
    assert '"a":2,"b":3' in whole
    assert len(after_a_kill) > 20 // step
    assert set(after_a_kill) == {whole}
