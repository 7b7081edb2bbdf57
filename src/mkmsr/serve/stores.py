"""Where sessions live: in SQLite, in memory for one worker or in a file for several, or in Redis for several machines.

A store knows nothing about sessions. It keeps short byte strings under keys for as long as they are in use, changes
several of them as one transaction, and holds the ordered log of catalogue changes. Each is called from one thread.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from mkmsr.errors import ServiceError

Change: TypeAlias = Callable[[Mapping[bytes, bytes]], Mapping[bytes, bytes | None]]
"""Given what is stored under the keys, what is to be stored; None removes. It may be called again after a conflict."""

_GONE_SECONDS = 3600.0
"""A worker that has not reported for so long is struck off."""

_BUSY_SECONDS = 2.0
"""How long SQLite is waited for while another worker writes."""


class StoreDown(ServiceError):
    """The store does not answer."""


@contextmanager
def _asking(server: str, errors: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """What a server's errors come to: its kind, since texts of network errors may hold addresses."""
    try:
        yield
    except errors as error:
        raise StoreDown(f"{server}: {error if server == 'SQLite' else type(error).__name__}") from None


class SessionStore(Protocol):
    """What keeps sessions.

    `idle` is after how many seconds without a change a value is gone. `capacity` is how many bytes all take together;
    beyond it the ones longest unchanged go first; None where the server has a limit of its own.
    """

    name: str
    is_local: bool
    """Whether it answers at once, without leaving the process."""

    def transact(self, keys: Sequence[bytes], change: Change) -> None:
        """Read, change and write values as one transaction."""

    def sample(self, count: int) -> list[bytes]:
        """Return some values."""

    def purge(self) -> None:
        """Remove the bytes of what was removed or is out of date."""

    def erased_when(self) -> str:
        """Remove the bytes of what was removed, and say when they are gone."""

    def append_change(self, record: bytes) -> int:
        """Append to the log of catalogue changes and return the record's number, from 1."""

    def changes(self, after: int) -> list[tuple[int, bytes]]:
        """Return the records behind a number, in order."""

    def compact(self, number: int, record: bytes, superseded: Sequence[int]) -> None:
        """Put another record at a number of the log, and take out records before it."""

    def report(self, worker: str, position: int) -> None:
        """Note that a worker lives and which record it applied last."""

    def positions(self, seconds: float) -> dict[str, int]:
        """Return the last applied record of each worker that reported within so many seconds."""

    def close(self) -> None:
        """Let go of it."""


_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_age ON sessions (expires);
CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY AUTOINCREMENT, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS workers (worker TEXT PRIMARY KEY, position INTEGER NOT NULL, seen REAL NOT NULL);
"""


class SqliteStore(SessionStore):
    """Sessions of several processes of one machine, in one file.

    The write-ahead log survives the end of every process; after a power failure the last moments may be missing.
    Removed bytes are overwritten in the file at once (`secure_delete`), and in the log when it is rewritten.
    """

    name = "sqlite"
    is_local = False

    def __init__(self, path: Path, *, idle: float, capacity: int):
        self._idle, self._capacity = idle, capacity
        try:
            if not self.is_local:
                path.touch(mode=0o600)
            self._file = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            mode = self._with_log()
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute("PRAGMA secure_delete=ON")
            self._file.executescript(_SCHEMA)
            self._page = int(self._file.execute("PRAGMA page_size").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise ServiceError(f"{path}: cannot keep sessions here: {error}") from None
        if mode != ("memory" if self.is_local else "wal"):
            raise ServiceError(f"{path}: this file system has no write-ahead log for SQLite; choose a local disk")
        self._next_purge = 0.0

    def _with_log(self) -> str:
        """Turn the write-ahead log on; SQLite itself does not wait where another worker does the same."""
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                mode: str = self._file.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                return mode
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def transact(self, keys: Sequence[bytes], change: Change) -> None:
        with self._transaction():
            self._change(keys, change)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _asking("SQLite", sqlite3.Error):
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            finally:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")

    def _change(self, keys: Sequence[bytes], change: Change) -> None:
        now = time.time()
        found: dict[bytes, bytes] = {}
        for begin in range(0, len(keys), 500):
            some = keys[begin : begin + 500]
            marks = ",".join("?" * len(some))
            rows = self._file.execute(
                f"SELECT key, value FROM sessions WHERE key IN ({marks}) AND expires > ?", [*some, now]
            )
            found.update(rows)
        changed = change(found)
        kept = [(key, value, now + self._idle) for key, value in changed.items() if value is not None]
        gone = [(key,) for key, value in changed.items() if value is None]
        self._file.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", kept)
        self._file.executemany("DELETE FROM sessions WHERE key = ?", gone)
        if now > self._next_purge:
            self._next_purge = now + 1
            self._trim(now)

    def _trim(self, now: float) -> None:
        """Remove what is out of date, and beyond the capacity what changed longest ago; a bounded number at a time."""
        oldest = "DELETE FROM sessions WHERE key IN (SELECT key FROM sessions {} ORDER BY expires LIMIT 2000)"
        self._file.execute(oldest.format("WHERE expires < ?"), (now,))
        self._file.execute("DELETE FROM workers WHERE seen < ?", (now - _GONE_SECONDS,))
        pages = self._file.execute("PRAGMA page_count").fetchone()[0]
        unused = self._file.execute("PRAGMA freelist_count").fetchone()[0]
        # The log of changes is not theirs: the facts of a large shop would otherwise push all sessions out.
        of_changes = self._file.execute("SELECT total(length(record)) FROM changes").fetchone()[0]
        if (pages - unused) * self._page - of_changes > self._capacity:
            self._file.execute(oldest.format(""))

    def sample(self, count: int) -> list[bytes]:
        rows = self._read("SELECT value FROM sessions WHERE expires > ? LIMIT ?", (time.time(), count))
        return [value for (value,) in rows]

    def purge(self) -> None:
        self.transact([], lambda found: {})
        self._checkpoint()

    def erased_when(self) -> str:
        for _ in range(5):
            if self._checkpoint():
                return "gone: overwritten in the file, and its log was rewritten"
            time.sleep(0.02)
        return "overwritten in the file; its log is rewritten within 60 seconds"

    def _checkpoint(self) -> bool:
        return not self._read("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]

    def append_change(self, record: bytes) -> int:
        with _asking("SQLite", sqlite3.Error):
            return int(self._file.execute("INSERT INTO changes (record) VALUES (?)", (record,)).lastrowid or 0)

    def changes(self, after: int) -> list[tuple[int, bytes]]:
        return self._read("SELECT number, record FROM changes WHERE number > ? ORDER BY number", (after,))

    def compact(self, number: int, record: bytes, superseded: Sequence[int]) -> None:
        with self._transaction():
            self._file.execute("UPDATE changes SET record = ? WHERE number = ?", (record, number))
            self._file.executemany("DELETE FROM changes WHERE number = ?", [(each,) for each in superseded])

    def report(self, worker: str, position: int) -> None:
        self._read("INSERT OR REPLACE INTO workers VALUES (?, ?, ?)", (worker, position, time.time()))

    def positions(self, seconds: float) -> dict[str, int]:
        return dict(self._read("SELECT worker, position FROM workers WHERE seen > ?", (time.time() - seconds,)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with _asking("SQLite", sqlite3.Error):
            return self._file.execute(statement, values).fetchall()


class MemoryStore(SqliteStore):
    """Sessions of a single process, which end with it."""

    name = "memory"
    is_local = True

    def __init__(self, *, idle: float, capacity: int):
        super().__init__(Path(":memory:"), idle=idle, capacity=capacity)

    def erased_when(self) -> str:
        return "gone: they were in memory alone"


_ATTEMPTS = 20
"""How often a transaction is tried when other workers change the same sessions meanwhile."""


class RedisStore(SessionStore):
    """Sessions of several machines, in Redis or Valkey.

    Args:
        address: Such as redis://host:6379/0, rediss://... or unix:///run/redis.sock.
        idle: Seconds without a change after which a value is gone. Its memory is bounded by the server's maxmemory.
    """

    name = "redis"
    is_local = False

    def __init__(self, address: str, *, idle: float):
        try:
            import redis
        except ImportError:
            raise ServiceError("a Redis store needs the package redis: pip install 'mkmsr[serve]'") from None
        try:
            self._server = redis.Redis.from_url(address, socket_timeout=0.5, socket_connect_timeout=0.5)
        except ValueError:
            raise ServiceError("the store should read redis://.., rediss://.. or unix://..") from None
        self._idle, self._errors, self._conflict = int(idle * 1000), (redis.RedisError, OSError), redis.WatchError

    def transact(self, keys: Sequence[bytes], change: Change) -> None:
        names = [_session_name(key) for key in keys]
        with _asking("Redis", self._errors):
            for attempt in range(_ATTEMPTS):
                if attempt:  # a random wait, so that workers which met once do not meet again
                    time.sleep(random.random() * min(2**attempt, 64) / 1000)
                with self._server.pipeline() as pipe:
                    if names:
                        pipe.watch(*names)  # type: ignore[no-untyped-call]
                    values: Any = pipe.mget(names) if names else []
                    found = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
                    changed = change(found)
                    if not changed:
                        return
                    pipe.multi()
                    for key, value in changed.items():
                        if value is None:
                            pipe.delete(_session_name(key))
                        else:
                            pipe.set(_session_name(key), value, px=self._idle)
                    with suppress(self._conflict):
                        pipe.execute()
                        return
        raise StoreDown("Redis: other workers change the same sessions all the time")

    def sample(self, count: int) -> list[bytes]:
        names = self._ask("scan", 0, match="mkmsr:session:*", count=4 * count)[1][:count]
        values = self._ask("mget", names) if names else []
        return [value for value in values if value is not None]

    def purge(self) -> None:
        """Nothing: the server does it."""

    def erased_when(self) -> str:
        try:
            kept = self._server.info("persistence")
            if kept.get("aof_enabled"):
                self._server.bgrewriteaof()
                return "gone from memory; the server rewrites its append-only file now"
            if kept.get("rdb_last_save_time") and self._server.config_get("save").get("save"):
                self._server.bgsave()
                return "gone from memory; the server writes its snapshot anew now"
        except self._errors:
            return "gone from memory; what the server keeps on disk is gone when it writes that anew"
        return "gone: the server keeps sessions in memory alone"

    def append_change(self, record: bytes) -> int:
        return int(self._ask("rpush", "mkmsr:changes", record))

    def changes(self, after: int) -> list[tuple[int, bytes]]:
        records = self._ask("lrange", "mkmsr:changes", after, -1)
        return [(number, record) for number, record in enumerate(records, start=after + 1) if record]

    def compact(self, number: int, record: bytes, superseded: Sequence[int]) -> None:
        with _asking("Redis", self._errors), self._server.pipeline() as pipe:
            pipe.execute_command("LSET", "mkmsr:changes", number - 1, record)  # type: ignore[no-untyped-call]
            for each in superseded:
                pipe.execute_command("LSET", "mkmsr:changes", each - 1, b"")  # type: ignore[no-untyped-call]
            pipe.execute()

    def report(self, worker: str, position: int) -> None:
        self._ask("hset", "mkmsr:workers", worker, f"{position} {self._now()}")

    def positions(self, seconds: float) -> dict[str, int]:
        living, now = {}, self._now()
        for worker, entry in self._ask("hgetall", "mkmsr:workers").items():
            position, seen = entry.split()
            if float(seen) > now - seconds:
                living[worker.decode()] = int(position)
            elif float(seen) < now - _GONE_SECONDS:
                self._ask("hdel", "mkmsr:workers", worker)
        return living

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _now(self) -> float:
        """The server's time, since the clocks of several machines may differ."""
        return float(self._ask("time")[0])

    def _ask(self, command: str, *values: Any, **options: Any) -> Any:
        with _asking("Redis", self._errors):
            return getattr(self._server, command)(*values, **options)


def _session_name(key: bytes) -> bytes:
    return b"mkmsr:session:" + key
