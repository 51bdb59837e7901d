"""A working tree in development: followed as it is edited, verified by nobody, never where policy protects the environment."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import LiveConfig, RefusedError, UnsafeNoVerification
from tests.e2e.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = 'version: 1\nlayers: [base.yaml, "config/{service}/{env}.yaml"]\n'


class Config(BaseModel, frozen=True):
    number: int = 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grown(tmp_path / "tree", 1)


def grown(path: Path, number: int) -> Path:
    path.mkdir()
    (path / "livecfg.yaml").write_text(MANIFEST)
    (path / "base.yaml").write_text(f"number: {number}\n")
    return path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="dev", poll_interval_s=600)
    yield made
    made.stop()


def test_edits_are_followed_also_in_folders_made_later(live: LiveConfig[Config], tree: Path) -> None:
    assert live.current.config.number == 1
    (tree / "base.yaml").write_text("number: 2\n")
    eventually(lambda: live.current.config.number == 2, 10)
    (tree / "config/checkout").mkdir(parents=True)
    (tree / "config/checkout/dev.yaml").write_text("number: 3\n")
    eventually(lambda: live.current.config.number == 3, 10)


def test_a_folder_that_another_one_replaced_is_followed(live: LiveConfig[Config], tree: Path) -> None:
    assert live.current.config.number == 1
    for number in (2, 3):
        new = grown(tree.with_name(f"new{number}"), number)
        tree.rename(tree.with_name(f"old{number}"))
        new.rename(tree)
        eventually(lambda n=number: live.current.config.number == n, 10)  # type: ignore[misc]


def test_a_mistake_is_refused_with_its_place_and_the_last_good_state_stays(live: LiveConfig[Config], tree: Path) -> None:
    assert live.current.config.number == 1
    (tree / "base.yaml").write_text("nummer: 2\n")
    eventually(lambda: live.status.refusals, 10)
    (refusal,) = live.status.refusals
    assert (refusal.code, refusal.path, refusal.line, live.current.config.number) == ("LC204", "base.yaml", 1, 1)


def test_each_start_warns_and_the_source_says_so_in_the_status(
    live: LiveConfig[Config], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        live.start()
    assert [r.levelname for r in caplog.records if "without any verification" in r.getMessage()] == ["WARNING"]
    assert "unverified" in live.status.source


def test_an_environment_that_policy_protects_takes_no_working_tree(live: LiveConfig[Config], tree: Path) -> None:
    (tree / ".livecfg").mkdir()
    (tree / ".livecfg/policy.yaml").write_text(
        'version: 1\nrepo_id: "6f1c0c1e9a0f4f7f8a5e1d7f0c1b2a33"\nroot: {people: [ana@acme], threshold: 1}\n'
        "rules: []\nprotected: {envs: [dev]}\n"
    )
    with pytest.raises(RefusedError, match="dev"):
        live.start()
