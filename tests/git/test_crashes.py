from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator import ConfigRepo

ROOT = Path(__file__).resolve().parents[2]


def crash(home: Path, repo: ConfigRepo, *words: str) -> int:
    """Run crash.py over the commits of the repository; gives the number of kills that hit a living process."""
    commits = repo.git("rev-list", "--reverse", "HEAD")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crash.py")), str(home), str(repo.remote_path), *words],
        input=commits,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[-1])


@pytest.fixture
def long_repo(repo: ConfigRepo) -> ConfigRepo:
    for number in range(30):
        repo.commit({"config/checkout/base.yaml": f"payment_timeout_s: {number}.5\n"})
    repo.push()
    return repo


def test_a_kill_at_any_change_of_a_file_leaves_a_valid_mirror_that_goes_on_by_itself(long_repo: ConfigRepo, home: Path) -> None:
    assert crash(home, long_repo, "points") > 20


def test_kills_at_random_moments_leave_a_valid_mirror(long_repo: ConfigRepo, home: Path) -> None:
    assert crash(home, long_repo, "30", "1") > 5


@pytest.mark.slow
def test_two_hundred_kills_at_random_moments_leave_a_valid_mirror(repo: ConfigRepo, home: Path) -> None:
    for number in range(200):
        repo.commit({"config/checkout/base.yaml": f"payment_timeout_s: {number}.5\n"})
    repo.push()
    assert crash(home, repo, "200", "2") > 30
