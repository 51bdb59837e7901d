"""Readers in eight threads and two hundred swaps: nobody ever sees two revisions in one snapshot or view."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Self

import pytest
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig
from livecfg.snapshot import Snapshot
from tests.e2e.support import FILES, eventually, numbered
from tests.simulator import ConfigRepo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READERS = 8
SWAPS = 200


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = 1.0
    number: int = -1


class Torn(LiveConfig[Checkout]):
    """A LiveConfig that swaps in two steps, configuration first and flags after: the mistake the readers must be able to see."""

    noticed: threading.Event

    def _publish(self, snapshot: Snapshot[Checkout]) -> None:
        old = self._applied
        if old is not None:
            half = Snapshot(
                snapshot.revision,
                snapshot.config,
                files=snapshot.files,
                flags=old.flags,
                splits=snapshot.splits,
                arms=snapshot.arms,
                recorder=snapshot.recorder,
                explainer=snapshot.explainer,
            )
            super()._publish(half)
            self.noticed.wait(5)
        super()._publish(snapshot)


class Readers:
    """Threads that read without a pause; `mixed` holds what no reader may see, `seen` the numbers they met."""

    def __init__(self, live: LiveConfig[Checkout]) -> None:
        self.live = live
        self.mixed: list[tuple[int, int, str]] = []
        self.seen: set[int] = set()
        self.backwards: list[tuple[int, int]] = []
        self.reads = 0
        self.noticed = threading.Event()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, name=f"reader-{i}") for i in range(READERS)]

    def _read(self) -> None:
        last, reads, seen = -1, 0, set()
        while not (self._stop.wait(0.001) if reads % 100 == 0 else self._stop.is_set()):  # a breath, for machines of two cores
            view = self.live.current.view({"targetingKey": "u1"})
            flag, number, again = view.flag("number", -1), view.config.number, view.snapshot.flag("number", -1, {})
            reads += 1
            seen.add(number)
            if not flag == number == again:
                self.mixed.append((flag, number, view.snapshot.revision.commit))
                self.noticed.set()
            if number < last:
                self.backwards.append((last, number))
            last = number
        self.reads += reads
        self.seen |= seen

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[ConfigRepo]:
    made = ConfigRepo(tmp_path / "git")
    made.found(FILES)
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def _switch_threads_often() -> Iterator[None]:
    """Let threads take turns 50 times as often as usual: more chances to see half a swap, and nobody starves the swap."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(usual)


def live_of(repo: ConfigRepo, kind: type[LiveConfig[Checkout]] = LiveConfig) -> LiveConfig[Checkout]:
    return kind(
        Checkout,
        source=GitSource(url=f"file://{repo.remote_path}"),
        trusted_root=repo.trusted_root,
        service="checkout",
        env="prod",
        home=repo.path / "home-of-livecfg",
        poll_interval_s=0.2,
    )


def test_no_reader_sees_two_revisions_in_one_snapshot_over_two_hundred_swaps(repo: ConfigRepo) -> None:
    with live_of(repo) as live, Readers(live) as readers:
        for number in range(1, SWAPS + 1):
            live.wait_for(repo.publish(numbered(number)), 20)
        assert live.current.config.number == SWAPS
    assert readers.mixed == []
    assert readers.backwards == []
    assert readers.reads > SWAPS * READERS
    assert SWAPS in readers.seen


def test_a_swap_in_two_steps_would_be_seen_by_these_readers(repo: ConfigRepo) -> None:
    """The test above can fail: the same readers catch the very mistake it guards against."""
    live = live_of(repo, Torn)
    assert isinstance(live, Torn)
    with live, Readers(live) as readers:
        live.noticed = readers.noticed
        live.wait_for(repo.publish(numbered(1)), 20)
        eventually(lambda: readers.mixed, 20)
    assert {(flag, number) for flag, number, _ in readers.mixed} == {(0, 1)}


def test_a_pinned_context_keeps_its_snapshot_over_a_swap(repo: ConfigRepo) -> None:
    with live_of(repo) as live:
        with live.pin() as pinned:
            live.wait_for(repo.publish(numbered(1)), 20)
            assert live.current is pinned
            assert live.current.config.number == live.current.flag("number", -1, {}) == 0
        assert live.current.config.number == live.current.flag("number", -1, {}) == 1
