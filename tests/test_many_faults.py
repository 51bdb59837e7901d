"""Thousands of faults, by mistake or on purpose: a hundred are told, the rest costs nobody anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg.document import read
from livecfg.errors import RefusedError, RollbackError
from livecfg.git.worktree import WorkingTree
from livecfg.layers import Process
from livecfg.loader import load
from livecfg.reconciler import Reconciler
from livecfg.refusal import MOST_FAULTS
from livecfg.revision import Revision
from livecfg.scope import Scope, UnsafeTree
from livecfg.signals import Signals
from livecfg.testing import snapshot
from livecfg.trust.verify import MAX_TOLD
from livecfg.validation import validate
from tests.simulator.memory import MemoryRepo
from tests.trust.test_windows import MemoryMirror

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.refusal import Refusal
    from livecfg.revision import Kind, Objects

ANA = "ana@acme"


class Config(BaseModel, frozen=True):
    ports: list[int] = []


class Counted:
    """Objects that count how often they are read."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.reads = 0

    def read(self, object_id: str, kind: Kind) -> bytes:
        self.reads += 1
        return self.objects.read(object_id, kind)


def test_of_a_document_of_faulty_flags_a_hundred_faults_are_told() -> None:
    faulty = {"variants": {"a": 1}, "x": 1, "y": 2}
    with pytest.raises(RefusedError) as refused:
        snapshot(flags=json.dumps({"flags": {f"f{i}": faulty for i in range(1000)}}))
    assert len(refused.value.refusals) == MOST_FAULTS
    assert refused.value.refusals[-1].message.endswith("; and there is more")


@pytest.mark.parametrize("faults", [MOST_FAULTS, MOST_FAULTS + 1, 5000])
def test_a_hundred_faults_against_the_model_are_told(faults: int) -> None:
    document = read(json.dumps({"ports": ["no"] * faults}).encode(), "base.json")
    with pytest.raises(RefusedError) as refused:
        validate(Config, document)
    assert len(refused.value.refusals) == MOST_FAULTS
    assert [r.message.endswith("and there is more") for r in refused.value.refusals] == [False] * 99 + [faults > MOST_FAULTS]


def test_behind_a_hundred_faults_no_more_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "flags").mkdir()
    (tmp_path / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\nflags: [flags/**]\n")
    (tmp_path / "base.yaml").write_text("ports: []\n")
    for n in range(1000):
        (tmp_path / f"flags/{n:04}.yaml").write_text("flags: {a: 1}\n")
    tree = WorkingTree(tmp_path)
    tree_id = tree.tree_id()
    counted = Counted(tree.objects)
    commit = UnsafeTree(Revision("working-tree", tree_id), tree_id)
    with pytest.raises(RefusedError) as refused:
        load(commit, counted, Scope(Config, Process("shop", "dev"), Signals(), lambda: 0))
    assert len(refused.value.refusals) == MOST_FAULTS
    assert counted.reads < 2 * MOST_FAULTS


class Follows:
    """A process that follows a repository in memory; `reads` counts the objects that it looked at since it was last asked."""

    def __init__(self) -> None:
        self.repo = MemoryRepo()
        rules = [{"id": "all", "paths": ["**"], "allow": ["*"]}]
        files = {"livecfg.yaml": b"version: 1\nlayers: [base.yaml]\n", "base.yaml": b"ports: []\n"}
        self.first = self.tip = self.repo.found((ANA,), rules, files)
        self.mirror = MemoryMirror(self.repo)
        self.served: list[str] = []
        self.reconciler = Reconciler(
            self.mirror,
            self.repo.trusted(),
            Scope(Config, Process("shop", "prod"), Signals(), lambda: 0),
            state="shop",
            prepare=lambda _old, _new: None,
            swap=lambda new: self.served.append(new.revision.commit),
        )

    def commit(self, number: int, by: str = "") -> None:
        self.tip = self.repo.commit({"base.yaml": b"ports: [%d]\n" % number}, on=(self.tip,), by=by)

    def reconcile(self) -> tuple[Refusal, ...]:
        self.mirror.tip = self.tip
        self.mirror.objects = self._counted = Counted(self.repo)  # type: ignore[assignment]  # those of the same repository
        return self.reconciler.reconcile(float(self.repo.clock + 60))

    @property
    def reads(self) -> int:
        return self._counted.reads


def test_commits_that_nobody_allowed_are_told_up_to_a_thousand_and_walked_over_once() -> None:
    process = Follows()
    for n in range(MAX_TOLD + 50):
        process.commit(n)
    told = process.reconcile()
    assert (len(told), told[-1].commit) == (MAX_TOLD, process.tip)
    assert process.reconcile() == told, "from the last good commit to the same tip"
    assert process.reconcile() == told
    assert process.reads < 10
    process.tip = process.repo.commit({"base.yaml": b"ports: []\n"}, on=(process.tip,), by=ANA)
    assert process.reconcile()[-1] in told
    assert process.served == [process.first, process.tip]


def test_a_branch_without_the_last_good_commit_is_walked_down_once() -> None:
    process = Follows()
    process.commit(1, by=ANA)
    process.reconcile()
    good, process.tip = process.tip, process.first
    for n in range(100):
        process.commit(n + 2, by=ANA)
    for reads in (100, 0):
        with pytest.raises(RollbackError, match="no longer contains the last good commit"):
            process.reconcile()
        assert reads <= process.reads < reads + 10
    process.tip = good
    process.commit(200, by=ANA)
    process.reconcile()
    assert process.served[-1] == process.tip
