from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulator import ConfigRepo, GitDaemon, GitHttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    """A founded and pushed repository with one configuration file."""
    made = ConfigRepo(tmp_path / "upstream")
    made.found({"config/checkout/base.yaml": "payment_timeout_s: 2.0\n"})
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """LIVECFG_HOME."""
    return tmp_path / "home"


@pytest.fixture
def http(repo: ConfigRepo) -> Iterator[GitHttpServer]:
    with GitHttpServer(repo.path) as server:
        yield server


@pytest.fixture
def daemon(repo: ConfigRepo) -> Iterator[GitDaemon]:
    with GitDaemon(repo.path) as server:
        yield server
