"""Hub stores: what was last known of every process, and what was ever counted. They hold no configuration.

One contract (`Store`), the kinds, one table by URL scheme. Writes come in batches, once a second, from a thread: never on the
hub's event loop. Counts are kept per process and merged by maximum, so that a report may come twice, late or out of order; what
all processes counted is kept beside them, and stays when the process is gone. Migrations go forward only, each store's in one
transaction.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import urlsplit

from livecfg.errors import LivecfgError
from livecfg.hub._pb import hub_pb2
from livecfg.hub.totals import Totals, counter_of, events_of, row_key, total_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from livecfg.hub.totals import Key


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

    def put_counts(self, rows: Sequence[hub_pb2.ArmCounts]) -> None:
        """Keep the counts of arms, each unless more is known of it already; all or nothing."""
        ...

    def totals(self, kind: str, name: str) -> list[hub_pb2.ArmCounts]:
        """Give the counts of a split or an experiment, those of all processes of a service and env added."""
        ...

    def forget_counts(self, before: float, most: int) -> int:
        """Forget the counts that nobody reported since, and of more than `most` rows the oldest; give how many those were.

        The latter stay in the totals.
        """
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
_TOTALS = """
CREATE TABLE livecfg_hub_totals (
    kind TEXT NOT NULL, name TEXT NOT NULL, service TEXT NOT NULL, env TEXT NOT NULL, phase TEXT NOT NULL, arm TEXT NOT NULL,
    metric TEXT NOT NULL, seen_at DOUBLE PRECISION NOT NULL, counts {blob} NOT NULL,
    PRIMARY KEY (kind, name, service, env, phase, arm, metric)
)
"""
_MIGRATIONS = (_PROCESSES, _SIGNALS, _TOTALS)
"""By version, from 1. Only ever added to."""
_FIRST_WITH_TOTALS = 3
_ONE_TOTAL = """
SELECT counts FROM livecfg_hub_totals WHERE kind = {mark} AND name = {mark} AND service = {mark} AND env = {mark}
AND phase = {mark} AND arm = {mark} AND metric = {mark}
"""
_FORGET = "DELETE FROM {table} WHERE {row} IN (SELECT {row} FROM {table} ORDER BY seen_at LIMIT {mark})"
_AT_ONCE = 500


class _SqlStore:
    """What the databases have in common: all but how they are reached and a few words."""

    _WORDS: ClassVar[dict[str, str]]
    """What a parameter is written as (`mark`), a row's own id (`row`), the type of bytes (`blob`), a test for one of many."""
    _transaction: Callable[[], AbstractContextManager[Any]]
    """Gives a cursor; of two threads one waits."""

    def _sql(self, statement: str, values: int = 0, table: str = "") -> str:
        return statement.format(**self._WORDS, values=", ".join([self._WORDS["mark"]] * values), table=table)

    def _among(self, boots: list[str]) -> Any:
        return boots

    def _migrate(self, cursor: Any) -> None:
        """Bring a database to the newest version, inside a transaction of the caller.

        Raises:
            LivecfgError: a newer livecfg was here.

        """
        cursor.execute(_VERSION_TABLE)
        (found,) = cursor.execute("SELECT COALESCE(MAX(version), 0) FROM livecfg_hub_schema").fetchone()
        if found > len(_MIGRATIONS):
            raise LivecfgError(f"hub store: it is of version {found}, made by a newer livecfg; this one knows {len(_MIGRATIONS)}")
        for version, statement in enumerate(_MIGRATIONS[found:], found + 1):
            cursor.execute(self._sql(statement))
            cursor.execute(self._sql("INSERT INTO livecfg_hub_schema VALUES ({values})", 1), (version,))
            if version == _FIRST_WITH_TOTALS:
                self._total_all(cursor)

    def _total_all(self, cursor: Any) -> None:
        """Make the totals of a database that had none."""
        for kind, name in cursor.execute("SELECT DISTINCT kind, name FROM livecfg_hub_signals").fetchall():
            totals = Totals(lambda _: None)
            cursor.execute(
                self._sql("SELECT counts FROM livecfg_hub_signals WHERE kind = {mark} AND name = {mark}"), (kind, name)
            )
            while found := cursor.fetchmany(_AT_ONCE):
                for (counts,) in found:
                    totals.put(hub_pb2.ArmCounts.FromString(counts), None)
            self._put_totals(cursor, totals)

    def put(self, processes: Iterable[hub_pb2.Process]) -> None:
        """Upsert in one transaction."""
        rows = [(p.boot, p.seen_at, p.SerializeToString()) for p in processes]
        statement = """
            INSERT INTO livecfg_hub_processes VALUES ({values})
            ON CONFLICT (boot) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report
        """
        with self._transaction() as cursor:
            cursor.executemany(self._sql(statement, 3), rows)

    def remove(self, boots: Iterable[str]) -> None:
        """Delete in one transaction."""
        with self._transaction() as cursor:
            cursor.execute(self._sql("DELETE FROM livecfg_hub_processes WHERE {boots}"), (self._among(list(boots)),))

    def all(self) -> list[hub_pb2.Process]:
        """Read everything."""
        with self._transaction() as cursor:
            rows = cursor.execute("SELECT report FROM livecfg_hub_processes ORDER BY boot").fetchall()
        return [hub_pb2.Process.FromString(report) for (report,) in rows]

    def put_counts(self, rows: Sequence[hub_pb2.ArmCounts]) -> None:
        """Upsert rows and totals in one transaction; of two hubs one waits for the other."""
        statement = """
            INSERT INTO livecfg_hub_signals VALUES ({values}) ON CONFLICT (kind, name, boot, phase, arm, metric)
            DO UPDATE SET events = excluded.events, seen_at = excluded.seen_at, counts = excluded.counts
        """
        with self._transaction() as cursor:
            self._alone(cursor)
            known = self._known(cursor, rows)
            totals = Totals(lambda key: self._total(cursor, key))
            values = []
            for row in rows:
                key, events = row_key(row), events_of(row)
                old = known.get(key)
                if old is None or events >= events_of(old):
                    totals.put(row, old)
                    known[key] = row
                    values.append((*key, events, row.at, row.SerializeToString()))
            cursor.executemany(self._sql(statement, 9), values)
            self._put_totals(cursor, totals)

    def _alone(self, cursor: Any) -> None:
        """Let no other hub count until this transaction ends."""

    def _known(self, cursor: Any, rows: Iterable[hub_pb2.ArmCounts]) -> dict[Key, hub_pb2.ArmCounts]:
        """Give what is known of those who counted some rows."""
        counters: dict[tuple[str, str], dict[str, None]] = {}
        for row in rows:
            counters.setdefault((row.kind, row.name), {})[counter_of(row)] = None
        statement = self._sql("SELECT counts FROM livecfg_hub_signals WHERE kind = {mark} AND name = {mark} AND {boots}")
        known: dict[Key, hub_pb2.ArmCounts] = {}
        for of, asked in counters.items():
            among = list(asked)
            for start in range(0, len(among), _AT_ONCE):
                cursor.execute(statement, (*of, self._among(among[start : start + _AT_ONCE])))
                made = (hub_pb2.ArmCounts.FromString(counts) for (counts,) in cursor.fetchall())
                known |= {row_key(row): row for row in made}
        return known

    def _total(self, cursor: Any, key: Key) -> hub_pb2.ArmCounts | None:
        found = cursor.execute(self._sql(_ONE_TOTAL), key).fetchone()
        return hub_pb2.ArmCounts.FromString(found[0]) if found is not None else None

    def _put_totals(self, cursor: Any, totals: Totals) -> None:
        statement = """
            INSERT INTO livecfg_hub_totals VALUES ({values}) ON CONFLICT (kind, name, service, env, phase, arm, metric)
            DO UPDATE SET seen_at = excluded.seen_at, counts = excluded.counts
        """
        cursor.executemany(self._sql(statement, 9), [(*total_key(t), t.at, t.SerializeToString()) for t in totals.all()])

    def totals(self, kind: str, name: str) -> list[hub_pb2.ArmCounts]:
        """Read by the head of the primary key."""
        statement = """
            SELECT counts FROM livecfg_hub_totals WHERE kind = {mark} AND name = {mark} ORDER BY service, env, phase, arm, metric
        """
        with self._transaction() as cursor:
            rows = cursor.execute(self._sql(statement), (kind, name)).fetchall()
        return [hub_pb2.ArmCounts.FromString(counts) for (counts,) in rows]

    def forget_counts(self, before: float, most: int) -> int:
        """Delete in one transaction."""
        over = 0
        with self._transaction() as cursor:
            for table in ("livecfg_hub_totals", "livecfg_hub_signals"):
                cursor.execute(self._sql("DELETE FROM {table} WHERE seen_at < {mark}", table=table), (before,))
                (found,) = cursor.execute(self._sql("SELECT COUNT(*) FROM {table}", table=table)).fetchone()
                over = cursor.execute(self._sql(_FORGET, table=table), (max(found - most, 0),)).rowcount
        return over


class SqliteStore(_SqlStore):
    """SQLite in WAL mode: one hub process. `sqlite:///relative`, `sqlite:////absolute`, or `sqlite://` in memory."""

    _WORDS: ClassVar = {"mark": "?", "row": "rowid", "blob": "BLOB", "boots": "boot IN (SELECT value FROM json_each(?))"}

    def __init__(self, url: str) -> None:
        self._lock = threading.Lock()
        path = urlsplit(url).path[1:]
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._connect(path or ":memory:")
        except sqlite3.Error as error:
            raise LivecfgError(f"hub store {path or 'in memory'}: {error}") from error

    def _connect(self, path: str) -> sqlite3.Connection:
        with ExitStack() as opened:
            db = opened.enter_context(closing(sqlite3.connect(path, check_same_thread=False)))
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            with db:
                self._migrate(db.cursor())
            opened.pop_all()  # it stays open
        return db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield self._db.cursor()

    def _among(self, boots: list[str]) -> str:
        return json.dumps(boots)

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class PostgresStore(_SqlStore):
    """PostgreSQL through psycopg (extra `postgres`): `postgresql://user@host/database`; connects again when it was cut off."""

    _WORDS: ClassVar = {"mark": "%s", "row": "ctid", "blob": "BYTEA", "boots": "boot = ANY(%s)"}

    def __init__(self, url: str) -> None:
        try:
            import psycopg  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise LivecfgError("a postgresql:// store needs psycopg: pip install 'livecfg[postgres]'") from error
        self._lock = threading.Lock()
        self._url = url
        try:
            self._db = self._connect()
        except psycopg.Error as error:
            raise LivecfgError(f"hub store: {type(error).__name__}: cannot use the database") from error

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg  # noqa: PLC0415 - as above

        with ExitStack() as opened:
            db = opened.enter_context(closing(psycopg.connect(self._url, autocommit=True, connect_timeout=5)))
            with db.transaction(), db.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('livecfg_hub_schema'))")  # replicas that start together
                self._migrate(cursor)
            opened.pop_all()  # it stays open
        return db

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """Begin on a connection that was not seen to break; what breaks now is tried again with the next batch."""
        with self._lock:
            if self._db.broken or self._db.closed:
                self._db = self._connect()
            with self._db.transaction(), self._db.cursor() as cursor:
                yield cursor

    def _alone(self, cursor: Any) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('livecfg_hub_totals'))")

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
