"""Hub stores: what was last known of every process, and what was ever counted. They hold no configuration.

One contract (`Store`), the kinds, one table by URL scheme. Writes come in batches, once a second, from a thread: never on the
hub's event loop. Counts are kept per process and merged by maximum, so that a report may come twice, late or out of order; they
stay when the process is gone. Migrations go forward only, each store's in one transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from livecfg.errors import LivecfgError
from livecfg.hub._pb import hub_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import psycopg


class Store(Protocol):
    """Keeps the newest report of each process, by boot id."""

    def put(self, processes: Iterable[hub_pb2.Process]) -> None:
        """Insert or replace, all or nothing."""
        ...

    def remove(self, boots: Iterable[str]) -> None:
        """Forget processes."""
        ...

    def all(self) -> list[hub_pb2.Process]:
        """Give every process that is known."""
        ...

    def put_counts(self, rows: Iterable[hub_pb2.ArmCounts]) -> None:
        """Keep the counts of arms, each unless more is known of it already; all or nothing."""
        ...

    def counts(self, kind: str, name: str) -> list[hub_pb2.ArmCounts]:
        """Give the counts of a split or an experiment, by process."""
        ...

    def forget_counts(self, before: float, most: int) -> int:
        """Forget the counts that nobody reported since, and of more than `most` rows the oldest; give how many those were."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


_VERSION_TABLE = "CREATE TABLE IF NOT EXISTS livecfg_hub_schema (version INTEGER NOT NULL)"
_PROCESSES = """
CREATE TABLE IF NOT EXISTS livecfg_hub_processes (
    boot TEXT PRIMARY KEY, seen_at DOUBLE PRECISION NOT NULL, report {blob} NOT NULL
)
"""  # IF NOT EXISTS: databases of before there were versions have it
_SIGNALS = """
CREATE TABLE livecfg_hub_signals (
    kind TEXT NOT NULL, name TEXT NOT NULL, boot TEXT NOT NULL, phase TEXT NOT NULL, arm TEXT NOT NULL, metric TEXT NOT NULL,
    events BIGINT NOT NULL, seen_at DOUBLE PRECISION NOT NULL, counts {blob} NOT NULL,
    PRIMARY KEY (kind, name, boot, phase, arm, metric)
)
"""
_MIGRATIONS = (_PROCESSES, _SIGNALS)
"""By version, from 1. Only ever added to."""
_PUT_COUNTS = """
INSERT INTO livecfg_hub_signals VALUES ({marks}) ON CONFLICT (kind, name, boot, phase, arm, metric) DO UPDATE
SET events = excluded.events, seen_at = excluded.seen_at, counts = excluded.counts
WHERE excluded.events >= livecfg_hub_signals.events
"""
_FORGET = """
DELETE FROM livecfg_hub_signals WHERE {row} IN (SELECT {row} FROM livecfg_hub_signals ORDER BY seen_at LIMIT {mark})
"""
_COUNTS = "SELECT counts FROM livecfg_hub_signals WHERE kind = {mark} AND name = {mark} ORDER BY boot, phase, arm, metric"


def _migrate(execute: Callable[[str], Any], blob: str) -> None:
    """Bring a database to the newest version, inside a transaction of the caller.

    Raises:
        LivecfgError: a newer livecfg was here.

    """
    execute(_VERSION_TABLE)
    (found,) = execute("SELECT COALESCE(MAX(version), 0) FROM livecfg_hub_schema").fetchone()
    if found > len(_MIGRATIONS):
        raise LivecfgError(f"hub store: it is of version {found}, made by a newer livecfg; this one knows {len(_MIGRATIONS)}")
    for version, statement in enumerate(_MIGRATIONS[found:], found + 1):
        execute(statement.format(blob=blob))
        execute(f"INSERT INTO livecfg_hub_schema VALUES ({version})")  # noqa: S608 - a number of ours


def events_of(row: hub_pb2.ArmCounts) -> int:
    """Say how much was counted: of two reports of one row the one with more is the newer."""
    return sum(row.observations) + sum(row.units)


def _rows(counts: Iterable[hub_pb2.ArmCounts]) -> list[tuple[Any, ...]]:
    return [(c.kind, c.name, c.boot, c.phase, c.arm, c.metric, events_of(c), c.at, c.SerializeToString()) for c in counts]


class SqliteStore:
    """SQLite in WAL mode: one hub process. `sqlite:///relative`, `sqlite:////absolute`, or `sqlite://` in memory."""

    def __init__(self, url: str) -> None:
        path = urlsplit(url).path[1:]
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._connect(path or ":memory:")
        except sqlite3.Error as error:
            raise LivecfgError(f"hub store {path or 'in memory'}: {error}") from error

    @staticmethod
    def _connect(path: str) -> sqlite3.Connection:
        with ExitStack() as opened:
            db = opened.enter_context(closing(sqlite3.connect(path, check_same_thread=False)))
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            with db:
                _migrate(db.execute, "BLOB")
            opened.pop_all()  # it stays open
        return db

    def put(self, processes: Iterable[hub_pb2.Process]) -> None:
        """Insert or replace in one transaction."""
        rows = [(p.boot, p.seen_at, p.SerializeToString()) for p in processes]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO livecfg_hub_processes VALUES (?, ?, ?)", rows)

    def remove(self, boots: Iterable[str]) -> None:
        """Delete in one transaction."""
        with self._db:
            self._db.executemany("DELETE FROM livecfg_hub_processes WHERE boot = ?", [(boot,) for boot in boots])

    def all(self) -> list[hub_pb2.Process]:
        """Read everything."""
        rows = self._db.execute("SELECT report FROM livecfg_hub_processes ORDER BY boot").fetchall()
        return [hub_pb2.Process.FromString(report) for (report,) in rows]

    def put_counts(self, rows: Iterable[hub_pb2.ArmCounts]) -> None:
        """Upsert in one transaction."""
        with self._db:
            self._db.executemany(_PUT_COUNTS.format(marks="?, ?, ?, ?, ?, ?, ?, ?, ?"), _rows(rows))

    def counts(self, kind: str, name: str) -> list[hub_pb2.ArmCounts]:
        """Read by the head of the primary key."""
        rows = self._db.execute(_COUNTS.format(mark="?"), (kind, name)).fetchall()
        return [hub_pb2.ArmCounts.FromString(counts) for (counts,) in rows]

    def forget_counts(self, before: float, most: int) -> int:
        """Delete in one transaction."""
        with self._db:
            self._db.execute("DELETE FROM livecfg_hub_signals WHERE seen_at < ?", (before,))
            (found,) = self._db.execute("SELECT COUNT(*) FROM livecfg_hub_signals").fetchone()
            return self._db.execute(_FORGET.format(row="rowid", mark="?"), (max(found - most, 0),)).rowcount

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class PostgresStore:
    """PostgreSQL through psycopg (extra `postgres`): `postgresql://user@host/database`; connects again when it was cut off."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise LivecfgError("a postgresql:// store needs psycopg: pip install 'livecfg[postgres]'") from error
        self._url = url
        try:
            self._db = self._connect()
        except psycopg.Error as error:
            raise LivecfgError(f"hub store: {type(error).__name__}: cannot use the database") from error

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg  # noqa: PLC0415 - as above

        with ExitStack() as opened:
            db = opened.enter_context(closing(psycopg.connect(self._url, autocommit=True, connect_timeout=5)))
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(hashtext('livecfg_hub_schema'))")  # replicas that start together
                _migrate(lambda statement: db.execute(statement.encode()), "BYTEA")
            opened.pop_all()  # it stays open
        return db

    def _connected(self) -> psycopg.Connection[Any]:
        """Give a connection that was not seen to break; what breaks now is tried again with the next batch."""
        if self._db.broken or self._db.closed:
            self._db = self._connect()
        return self._db

    def put(self, processes: Iterable[hub_pb2.Process]) -> None:
        """Upsert in one statement."""
        rows = [(p.boot, p.seen_at, p.SerializeToString()) for p in processes]
        db = self._connected()
        with db.transaction(), db.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO livecfg_hub_processes VALUES (%s, %s, %s) "
                "ON CONFLICT (boot) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report",
                rows,
            )

    def remove(self, boots: Iterable[str]) -> None:
        """Delete in one statement."""
        self._connected().execute("DELETE FROM livecfg_hub_processes WHERE boot = ANY(%s)", (list(boots),))

    def all(self) -> list[hub_pb2.Process]:
        """Read everything."""
        rows = self._connected().execute("SELECT report FROM livecfg_hub_processes ORDER BY boot").fetchall()
        return [hub_pb2.Process.FromString(bytes(report)) for (report,) in rows]

    def put_counts(self, rows: Iterable[hub_pb2.ArmCounts]) -> None:
        """Upsert in one transaction."""
        db = self._connected()
        with db.transaction(), db.cursor() as cursor:
            cursor.executemany(_PUT_COUNTS.format(marks="%s, %s, %s, %s, %s, %s, %s, %s, %s").encode(), _rows(rows))

    def counts(self, kind: str, name: str) -> list[hub_pb2.ArmCounts]:
        """Read by the head of the primary key."""
        rows = self._connected().execute(_COUNTS.format(mark="%s").encode(), (kind, name)).fetchall()
        return [hub_pb2.ArmCounts.FromString(bytes(counts)) for (counts,) in rows]

    def forget_counts(self, before: float, most: int) -> int:
        """Delete in one transaction."""
        db = self._connected()
        with db.transaction(), db.cursor() as cursor:
            cursor.execute("DELETE FROM livecfg_hub_signals WHERE seen_at < %s", (before,))
            (found,) = cursor.execute("SELECT COUNT(*) FROM livecfg_hub_signals").fetchone() or (0,)
            return cursor.execute(_FORGET.format(row="ctid", mark="%s").encode(), (max(found - most, 0),)).rowcount

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


STORES: dict[str, Callable[[str], Store]] = {"sqlite": SqliteStore, "postgresql": PostgresStore, "postgres": PostgresStore}


def open_store(url: str) -> Store:
    """Open the store a URL names.

    Raises:
        LivecfgError: an unknown scheme, or the store cannot be used.

    """
    scheme = urlsplit(url).scheme
    if scheme not in STORES:
        raise LivecfgError(f"hub store: expected one of {', '.join(sorted(STORES))}://, got {scheme or 'no scheme'}")
    return STORES[scheme](url)
