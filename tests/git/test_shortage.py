"""No file can be opened just now: that is said as such, and nothing is taken for missing, damaged or never written."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig
from livecfg.environment import instance_name
from livecfg.errors import FetchError, ShortageError
from livecfg.git.edge import Edge
from livecfg.git.mirror import Mirror
from livecfg.git.source import Limits
from livecfg.git.state import States
from livecfg.git.store import Store
from tests.simulator.descriptors import no_descriptor_left

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.simulator import ConfigRepo

SHORT = "too many open files"


def is_short(ask: Callable[[], object]) -> None:
    with no_descriptor_left(), pytest.raises(ShortageError, match=SHORT):
        ask()


def test_a_branch_is_there_though_nothing_can_be_opened(repo: ConfigRepo, home: Path) -> None:
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        mirror.fetch(None)
        mirror.promote()
        for _ in ("loose", "packed"):
            is_short(lambda: mirror.fetch(None))
            is_short(mirror.tip)
            assert mirror.tip() == repo.remote_tip()
            repo.git("pack-refs", "--all", at=repo.remote_path)
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == tip


def test_a_ref_that_is_a_folder_now_is_found_among_the_packed(repo: ConfigRepo, home: Path) -> None:
    repo.git("pack-refs", "--all", at=repo.remote_path)
    (repo.remote_path / "refs" / "heads" / "main").mkdir()  # as deleted branches leave them
    with Mirror(home, GitSource(str(repo.remote_path))) as mirror:
        assert mirror.fetch(None) is not None


def test_the_mirror_is_not_left_for_memory(repo: ConfigRepo, home: Path) -> None:
    mirror = Mirror(home, GitSource(str(repo.remote_path)))
    is_short(mirror.open)
    with mirror:
        mirror.fetch(None)
        mirror.promote()
        assert mirror.has_folder
        assert Store(mirror.folder / "mirror.git", 1 << 20).tip() == repo.remote_tip()


def test_an_object_is_neither_corrupt_nor_missing(repo: ConfigRepo, home: Path) -> None:
    tip = repo.remote_tip()
    loose = Store(repo.remote_path, 1 << 20)
    is_short(lambda: loose.read(tip))
    assert loose.read(tip)[0] == "commit"
    is_short(lambda: list(loose.all_names()))
    repo.git("repack", "-adq", at=repo.remote_path)
    os.utime(repo.remote_path / "objects" / "pack", (0, 0))  # no change of a moment ago, which would be looked at again
    packed = Store(repo.remote_path, 1 << 20)
    is_short(lambda: packed.read(tip))
    assert packed.read(tip)[0] == "commit"
    is_short(lambda: list(packed.all_names()))
    subprocess.run(["git", "clone", "-q", "--bare", "--shared", str(repo.remote_path), str(home)], check=True)
    os.utime(home / "objects" / "pack", (0, 0))
    shared = Store(home, 1 << 20, follow_alternates=True)
    assert tip not in shared
    is_short(lambda: shared.read(tip))
    assert shared.read(tip)[0] == "commit"


def test_what_was_kept_is_not_forgotten(tmp_path: Path) -> None:
    states = States(tmp_path / "m" / "state")
    states.save("a-b", b"{}", 1)
    is_short(lambda: states.load("a-b"))
    assert states.load("a-b") == b"{}"
    edge = Edge(tmp_path / "edge")
    edge.commit = "a" * 40
    edge.write()
    other = Edge(tmp_path / "edge")
    is_short(other.read)
    other.read()
    assert other.commit == "a" * 40
    name = instance_name(tmp_path)
    is_short(lambda: instance_name(tmp_path))
    is_short(lambda: instance_name(tmp_path / "new"))
    assert instance_name(tmp_path) == name


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = 1.0


def test_a_start_that_may_open_nothing_begins_again_and_remembers(
    repo: ConfigRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECFG_HOME", str(home))

    def live() -> LiveConfig[Checkout]:
        source = GitSource(str(repo.remote_path), limits=Limits(time_s=5.0))
        return LiveConfig(
            Checkout, source=source, trusted_root=repo.trusted_root, service="checkout", env="prod", start_timeout_s=2.0
        )

    old = repo.publish({"config/_shared/base.yaml": "{}\n", "config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
    repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 4.0\n"})
    with live() as first:
        assert first.current.config.payment_timeout_s == 4.0
    repo.git("update-ref", "refs/heads/main", old, at=repo.remote_path)  # rollback attack
    second = live()
    with no_descriptor_left(), pytest.raises(FetchError, match=SHORT):
        _ = second.current
    try:
        assert second.current.config.payment_timeout_s == 4.0
    finally:
        second.stop()
