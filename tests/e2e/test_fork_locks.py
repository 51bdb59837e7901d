"""A fork at the worst moment: while another thread holds a lock of the mirror."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError
from livecfg.git.lock import Election, exclusive

if TYPE_CHECKING:
    from pathlib import Path


def _child_that_stays() -> tuple[int, int]:
    """Fork a child that does nothing until told to end; gives its id and the pipe that ends it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover - the child
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    return pid, writing


def _end(pid: int, writing: int) -> None:
    os.close(writing)
    os.waitpid(pid, 0)


def test_a_child_forked_while_a_lock_was_held_does_not_keep_it(tmp_path: Path) -> None:
    """It did: the kernel keeps a flock while any copy of its descriptor is open, and every process of the host hung."""
    with exclusive(tmp_path / "lock"):
        child = _child_that_stays()
    with exclusive(tmp_path / "lock", wait_s=1):
        pass
    _end(*child)


def test_a_child_forked_while_its_parent_fetched_does_not_keep_the_election(tmp_path: Path) -> None:
    election, other = Election(tmp_path / "lock"), Election(tmp_path / "lock")
    assert election.elect()
    child = _child_that_stays()
    assert not other.elect()
    election.resign()
    assert other.elect()
    other.resign()
    _end(*child)


def test_a_lock_that_somebody_keeps_is_an_error_after_a_moment_and_not_a_hang(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"), pytest.raises(FetchError, match="locking lock"), exclusive(tmp_path / "lock", wait_s=0.05):
        pass
