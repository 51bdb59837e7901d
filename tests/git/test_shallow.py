"""A mirror that begins at a checkpoint: what lies below stays away until somebody needs it, and nothing is lost by that."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError, MissingObjectError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource
from tests.simulator import ConfigRepo, Fault, GitDaemon, GitHttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = "config/checkout/base.yaml"


class Upstream:
    """Ten commits; the sixth is the checkpoint."""

    def __init__(self, repo: ConfigRepo, url: str) -> None:
        self.repo, self.url = repo, url
        self.chain = [repo.commit({BASE: f"a: {number}\n"}) for number in range(10)]
        repo.push()
        self.edge, self.tip = self.chain[5], self.chain[-1]

    def mirror(self, home: Path, *, shallow: bool = True) -> Mirror:
        mirror = Mirror(home, GitSource(url=self.url)).open()
        if shallow:
            mirror.begin_at(self.edge)
        return mirror


@pytest.fixture(params=["http", "git"])
def upstream(request: pytest.FixtureRequest, repo: ConfigRepo) -> Iterator[Upstream]:
    with ExitStack() as stack:
        server = stack.enter_context(GitHttpServer(repo.path) if request.param == "http" else GitDaemon(repo.path))
        yield Upstream(repo, server.url(repo.remote_path))


def has(mirror: Mirror, commit: str) -> bool:
    try:
        mirror.objects.read(commit, "commit")
    except MissingObjectError:
        return False
    return True


def stored(mirror: Mirror) -> set[str]:
    """The commits on disk, asked without leaving a complaint."""
    return {name for name in mirror._store.all_names() if mirror._store.read(name)[0] == "commit"}


def test_the_first_fetch_leaves_out_what_lies_below_the_checkpoint(upstream: Upstream, home: Path) -> None:
    with upstream.mirror(home) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == upstream.tip
        mirror.promote()
        assert stored(mirror) == set(upstream.chain[5:])
        assert mirror.fetch(upstream.tip) is None, "nothing new is no reason to fetch more"
        assert not mirror.is_damaged


def test_without_a_checkpoint_everything_is_fetched(upstream: Upstream, home: Path) -> None:
    with upstream.mirror(home, shallow=False) as mirror:
        mirror.fetch(None)
        mirror.promote()
        assert set(upstream.chain) < stored(mirror)


def test_it_goes_on_after_a_restart_also_past_a_branch_that_left_below_the_checkpoint(upstream: Upstream, home: Path) -> None:
    with upstream.mirror(home) as mirror:
        mirror.fetch(None)
        mirror.promote()
    repo = upstream.repo
    repo.branch("old", upstream.chain[2])
    side = repo.commit({"config/other.yaml": "b: 1\n"})
    repo.switch("main")
    merge = repo.merge("old")
    repo.push()
    with upstream.mirror(home) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == merge
        mirror.promote()
        assert {side, *upstream.chain[:3]} <= stored(mirror), "what the branch stands on came along"
        assert not {*upstream.chain[3:5]} & stored(mirror)
        later = repo.commit({BASE: "a: 99\n"})
        repo.push()
        found = mirror.fetch(None)
        assert found is not None
        assert found.tip == later


def test_what_is_missed_below_is_fetched_by_the_next_look_at_the_remote(upstream: Upstream, home: Path) -> None:
    with upstream.mirror(home) as mirror:
        mirror.fetch(None)
        mirror.promote()
        assert not has(mirror, upstream.chain[4])
        assert mirror.is_damaged, "the fetcher is woken"
        mirror.fetch(None)
        assert has(mirror, upstream.chain[0])
        assert "began at a checkpoint, older history was needed" in mirror.notes[0]
        assert not (mirror.folder / "edge").exists()
    with upstream.mirror(home) as mirror:
        mirror.fetch(None)
        assert has(mirror, upstream.chain[0]), "a checkpoint is for those who have nothing"


def test_a_checkpoint_that_the_remote_does_not_have_costs_nothing_but_the_history(upstream: Upstream, home: Path) -> None:
    upstream.edge = "0123456789" * 4
    with upstream.mirror(home) as mirror:
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert has(mirror, upstream.chain[0])


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.TRUNCATE, Fault.FLIP])
def test_a_remote_that_spoils_the_first_answer_is_asked_again(
    repo: ConfigRepo, http: GitHttpServer, home: Path, fault: Fault
) -> None:
    upstream = Upstream(repo, http.url(repo.remote_path))
    with upstream.mirror(home) as mirror:
        http.fault = fault
        with pytest.raises(FetchError):
            mirror.fetch(None)
        http.fault = None
        assert mirror.fetch(None) is not None
        assert has(mirror, upstream.tip)


def test_a_remote_in_a_folder_is_copied_whole(repo: ConfigRepo, home: Path) -> None:
    upstream = Upstream(repo, str(repo.remote_path))
    with upstream.mirror(home) as mirror:
        mirror.fetch(None)
        assert has(mirror, upstream.chain[0])
