"""Is this commit in the chain of that tip: asked again and again while somebody waits, over histories of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livecfg.trust.history import Ancestry
from tests.simulator.memory import MemoryRepo
from tests.trust.test_windows import Service

if TYPE_CHECKING:
    import pytest

    from livecfg.revision import Kind


class Counted(MemoryRepo):
    """A repository that counts how often it is read."""

    reads = 0

    def read(self, object_id: str, kind: Kind) -> bytes:
        self.reads += 1
        return super().read(object_id, kind)


def chain(repo: MemoryRepo, length: int) -> list[str]:
    tree = repo.tree({"a": b"1"})
    commits: list[str] = []
    for n in range(length):
        parent = f"parent {commits[-1]}\n" if commits else ""
        who = f"ana <ana@acme> {1_700_000_000 + n} +0000"
        raw = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\nNumber {n}\n"
        commits.append(repo.add("commit", raw.encode()))
    return commits


def test_a_commit_is_found_where_it_stands_by_its_id_or_the_beginning_of_it() -> None:
    repo = Counted()
    commits = chain(repo, 50)
    ancestry = Ancestry()
    for n in (0, 7, 49):
        assert ancestry.holds(repo, commits[n], commits[49])
        assert ancestry.holds(repo, commits[n][:7], commits[49])
    assert not ancestry.holds(repo, commits[30], commits[29])
    assert not ancestry.holds(repo, commits[0][:6], commits[49]), "too short to name one"
    assert ancestry.holds(repo, commits[30], commits[31]), "on another tip it is looked for again"


def test_what_a_tip_does_not_stand_on_is_looked_for_once() -> None:
    repo = Counted()
    commits = chain(repo, 1000)
    ancestry = Ancestry()
    wanted = commits[999][:12]
    assert not ancestry.holds(repo, wanted, commits[900])
    assert repo.reads == 901
    for tip in commits[900:999]:
        assert not ancestry.holds(repo, wanted, tip)
    assert repo.reads == 901 + 98, "each new commit once"
    assert ancestry.holds(repo, wanted, commits[999])


def test_a_shallow_history_that_is_deepened_is_looked_through_again() -> None:
    repo = Counted()
    commits = chain(repo, 10)
    below = {name: repo.objects.pop(name) for name in commits[:5]}
    ancestry = Ancestry()
    assert not ancestry.holds(repo, commits[2], commits[9])
    repo.objects |= below
    assert ancestry.holds(repo, commits[2], commits[9])


def test_waiting_for_a_commit_that_has_not_come_does_not_walk_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    reads = []
    read = MemoryRepo.read
    monkeypatch.setattr(MemoryRepo, "read", lambda *words: (reads.append(words), read(*words))[1])
    assert not service.reconciler.contains("0" * 40)
    assert reads == []
    assert service.reconciler.contains(service.mirror.tip)
