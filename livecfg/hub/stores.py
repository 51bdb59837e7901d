"""Hub stores: what was last known of every process, kept over a restart of the hub. It holds no configuration.

One contract (`Store`), the kinds, one table by URL scheme. Writes come in batches, once a second, from a thread: never on the
hub's event loop.
"""

from __future__ import annotations

import sqlite3
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

    def close(self) -> None:
        """Flush and let go."""
        ...


_SCHEMA = """
CREATE TABLE IF NOT EXISTS livecfg_hub_schema (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS livecfg_hub_processes (
    boot TEXT PRIMARY KEY, seen_at DOUBLE PRECISION NOT NULL, report {blob} NOT NULL
);
"""


class SqliteStore:
    """SQLite in WAL mode: one hub process. `sqlite:///relative`, `sqlite:////absolute`, or `sqlite://` in memory."""

    def __init__(self, url: str) -> None:
        path = urlsplit(url).path[1:]
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            with self._db:
                self._db.executescript(_SCHEMA.format(blob="BLOB"))
        except sqlite3.Error as error:
            raise LivecfgError(f"hub store {path or 'in memory'}: {error}") from error

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

        db = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        with db.transaction():
            for statement in filter(str.strip, _SCHEMA.format(blob="BYTEA").split(";")):
                db.execute(statement)
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
