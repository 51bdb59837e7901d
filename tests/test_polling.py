"""Without a hub: one small question a poll, at times that differ between processes, and ever fewer while nobody answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig, RefusedError, Snapshot
from livecfg.errors import FetchError
from tests.e2e.support import eventually
from tests.simulator import ConfigRepo, Fault, GitHttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from livecfg.follower import Follower

BASE = "config/checkout/base.yaml"


class Config(BaseModel, frozen=True):
    number: int = 1


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"config/_shared/base.yaml": "{}\n", BASE: "number: 1\n"})
    return repo


@pytest.fixture
def server(repo: ConfigRepo) -> Iterator[GitHttpServer]:
    with GitHttpServer(repo.path) as server:
        yield server


def live_of(repo: ConfigRepo, url: str, home: Path, poll_interval_s: float) -> LiveConfig[Config]:
    source = GitSource(url=url)
    return LiveConfig(
        Config,
        source=source,
        trusted_root=repo.trusted_root,
        service="checkout",
        env="prod",
        home=home,
        poll_interval_s=poll_interval_s,
    )


def test_a_poll_that_finds_nothing_new_is_one_question_for_one_ref(
    repo: ConfigRepo, server: GitHttpServer, tmp_path: Path
) -> None:
    with live_of(repo, server.url(repo.remote_path), tmp_path / "home", 0.05) as live:
        checked = live.status.checked_at
        eventually(lambda: live.status.checked_at != checked)
        attempts, begin = live._followers[os.getpid()]._attempts, len(server.requests)
        eventually(lambda: live._followers[os.getpid()]._attempts >= attempts + 10)
        asked = server.requests[begin:]  # first: it goes on polling
        polls = live._followers[os.getpid()]._attempts - attempts
    assert {method for method, _, _ in asked} == {"POST"}, "protocol 2: no advertisement of all refs"
    assert {path.rpartition("/")[2] for _, path, _ in asked} == {"git-upload-pack"}
    assert len(asked) <= polls + 2


def follower_of(live: LiveConfig[Config]) -> Follower[Config]:
    return live._follower()


def test_polls_are_spread_and_grow_rarer_while_nobody_answers(repo: ConfigRepo, tmp_path: Path) -> None:
    follower = follower_of(live_of(repo, "http://127.0.0.1:9/x.git", tmp_path / "home", 30.0))
    steady = [follower._delay_s(jitter) for jitter in (0.0, 0.5, 1.0)]
    assert steady == pytest.approx([24.0, 30.0, 36.0])
    delays = []
    for failures in range(1, 12):
        follower._failures = failures
        low, high = follower._delay_s(0.0), follower._delay_s(1.0)
        assert low == pytest.approx(high / 2)
        delays.append(high)
    assert delays == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30])


def test_a_remote_that_fails_is_asked_ever_less_often_and_its_return_is_noticed(
    repo: ConfigRepo, server: GitHttpServer, tmp_path: Path
) -> None:
    with live_of(repo, server.url(repo.remote_path), tmp_path / "home", 2.0) as live:
        server.fault = Fault.HTTP_500
        follower = live._followers[os.getpid()]
        eventually(lambda: follower._failures >= 3)
        server.fault = None
        assert live.wait_for(repo.publish({BASE: "number: 2\n"})).config.number == 2
        eventually(lambda: follower._failures == 0)


# --- a veto -----------------------------------------------------------------------------------------------------------------


def test_a_vetoed_revision_is_tried_once_however_often_the_remote_is_asked(repo: ConfigRepo, tmp_path: Path) -> None:
    live = live_of(repo, str(repo.remote_path), tmp_path / "home", 0.02)
    tried: list[int] = []

    @live.prepare
    def veto(_: Snapshot[Config] | None, new: Snapshot[Config]) -> None:
        tried.append(new.config.number)
        if new.config.number == 13:
            raise ValueError("unlucky")

    with live:
        follower = live._followers[os.getpid()]
        repo.publish({BASE: "number: 13\n"})
        eventually(lambda: 13 in tried)
        attempts = follower._attempts
        eventually(lambda: follower._attempts > attempts + 10)
        assert isinstance(follower._error, RefusedError)
        assert not isinstance(follower._error, FetchError)
        assert tried.count(13) == 1
        assert live.current.config.number == 1
        live.wait_for(repo.publish({BASE: "number: 14\n"}))
    assert tried[-1] == 14
    assert tried.count(13) == 1
