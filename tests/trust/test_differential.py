"""We and OpenSSH, we and Git: the same verdict on every case, but where ARCHITECTURE.md says that we are stricter."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.trust.cases import STRICTER, Case, every_case
from tests.trust.peers import Git, openssh, ours, ours_of, signed_object

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
NEWEST_KNOWN = (9, 2)


def compare(cases: list[Case], verdicts: list[tuple[bool, bool]]) -> tuple[list[str], Counter[str]]:
    """Give the cases on which the two disagree without a reason, and how often each reason was one."""
    wrong, reasons = [], Counter[str]()
    for case, (we, they) in zip(cases, verdicts, strict=True):
        if they and not we and case.stricter:
            reasons[case.stricter] += 1
        elif we != they:
            wrong.append(f"{case.name}: we {'accept' if we else 'refuse'}, they {'accept' if they else 'refuse'}")
    return wrong, reasons


def test_two_hundred_cases_get_the_verdict_of_ssh_keygen(tmp_path: Path) -> None:
    every = list(every_case())
    cases = every[:: len(every) // 200]
    wrong, _ = compare(cases, [(ours(case), openssh(case, tmp_path)) for case in cases])
    assert wrong == []
    assert len(cases) >= 200


@pytest.mark.slow
def test_a_thousand_cases_get_the_verdict_of_ssh_keygen_but_where_we_are_stricter(tmp_path: Path) -> None:
    cases = list(every_case(flips=24))
    verdicts = [(ours(case), openssh(case, tmp_path)) for case in cases]
    wrong, reasons = compare(cases, verdicts)
    assert wrong == []
    assert len(cases) >= 1000
    assert sum(we for we, _ in verdicts) >= 150, "hardly any case is accepted: the generator is broken"
    version = subprocess.run(["ssh", "-V"], capture_output=True, check=True, text=True).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", version)
    assert found, version
    if (int(found[1]), int(found[2])) == NEWEST_KNOWN:  # a newer one may have become as strict
        assert set(reasons) == set(STRICTER), "a way in which we are said to be stricter, and are not"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundreds_of_commits_get_the_verdict_of_git_verify_commit_but_where_we_are_stricter(tmp_path: Path) -> None:
    cases = list(every_case(seed=1, flips=2))
    git = Git(tmp_path)
    objects = [signed_object(case) for case in cases]
    verdicts = [(ours_of(raw, case), git.accepts(raw, case)) for raw, case in zip(objects, cases, strict=True)]
    wrong, _ = compare(cases, verdicts)
    assert wrong == []
    assert len(cases) >= 200
    assert sum(we for we, _ in verdicts) >= 150


def test_every_way_in_which_we_are_stricter_stands_in_the_architecture_page() -> None:
    page = ARCHITECTURE.read_text().partition("## Where we are stricter than OpenSSH")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*: (.+)\.$", page, re.MULTILINE) == list(STRICTER.items())


def test_every_case_has_a_name_of_its_own() -> None:
    names = Counter(case.name for case in every_case())
    assert [name for name, count in names.items() if count > 1] == []
