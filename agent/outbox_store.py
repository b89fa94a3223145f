"""The outbox's file: finals that have not arrived yet, and results that may be asked for again.

Rules: SQLite, WAL, synchronous=FULL, so that a commit survives a power cut; 0600. Every function
may raise sqlite3.Error, and changes nothing then. A file that is no database, or a damaged one, is
moved aside under a name that says so and a new one begun: a damaged file must not keep the agent
from starting. Times are wall time, for people and for the seven days alone; order is by `seq`.

Source: architecture "Outbox"; contract 1.4 "Kept 7 days"; fault cases C and J.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import OutboxError
from wire import limits

_VERSION = 1
_SCHEMA = """
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    after TEXT,
    event TEXT NOT NULL,
    payload BLOB NOT NULL,
    stored_ms INTEGER NOT NULL,
    strikes INTEGER NOT NULL DEFAULT 0,
    parked TEXT
);
CREATE TABLE seen (key TEXT PRIMARY KEY, stored_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE results (
    job_id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    event TEXT NOT NULL,
    payload BLOB NOT NULL,
    stored_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX results_by_time ON results (stored_ms);
"""
# A check reads the whole file, so only what takes a few milliseconds is checked at each start.
_CHECKED_UP_TO = 4 * limits.MIB
_KEPT_DAMAGED = 3
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-128",
    "PRAGMA wal_autocheckpoint=128",
    "PRAGMA journal_size_limit=1048576",
    "PRAGMA temp_store=MEMORY",
)


class Draft(NamedTuple):
    """A final event that is to be stored."""

    id: str
    key: str
    after: str | None
    event: str
    payload: bytes
    job_id: str | None = None
    digest: str | None = None


class Row(NamedTuple):
    """A stored final event."""

    seq: int
    id: str
    key: str
    after: str | None
    event: str
    payload: bytes
    strikes: int


class Entry(NamedTuple):
    """What `outbox ls` shows of one event: nothing of its payload but the size."""

    seq: int
    id: str
    key: str
    event: str
    size: int
    stored_ms: int
    strikes: int
    parked: str | None


class Store:
    """One connection to the file; each thread has its own.

    Args:
        path: made when it is missing.
        is_damaged: move what is there aside unseen; another connection has found it wanting.

    Raises:
        OutboxError: the file cannot be opened, and could not be moved aside either.
    """

    def __init__(self, path: Path, *, is_damaged: bool = False) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        self.is_stand_in = False
        try:
            if is_damaged:
                self.moved_aside = _move_aside(path)
            self._db = self._begin(path)
        except (OSError, sqlite3.Error) as error:
            raise OutboxError(f"{path}: {error}") from error

    @classmethod
    def stand_in(cls, path: Path) -> Store:
        """Return what can be read where the disk takes nothing, not even SQLite's own files.

        Raises:
            OutboxError: what is there cannot be read without writing.
        """
        made = cls.__new__(cls)
        made.path, made.moved_aside, made.is_stand_in = path, None, True
        try:
            made._db = _open_as_it_is(path)
        except (OSError, sqlite3.Error) as error:
            raise OutboxError(f"{path}: {error}") from error
        return made

    def _begin(self, path: Path) -> sqlite3.Connection:
        try:
            return _open(path)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
        self.moved_aside = _move_aside(path)
        return _open(path)

    def close(self) -> None:
        self._db.close()

    # -- writing: the writer's thread ------------------------------------------------------------

    def add(self, drafts: Iterable[Draft], now_ms: int) -> list[int | None]:
        """Store finals in one transaction.

        Returns:
            for each its `seq`, or None where its key had been stored before.
        """
        with self._transaction():
            return [self._add(draft, now_ms) for draft in drafts]

    def remove(self, ids: Iterable[str]) -> None:
        """Forget finals that have arrived."""
        with self._transaction():
            self._db.executemany("DELETE FROM outbox WHERE id = ?", [(one,) for one in ids])

    def strike(self, event_id: str) -> int:
        """Count one more connection that ended while this event alone was on it."""
        with self._transaction():
            self._db.execute("UPDATE outbox SET strikes = strikes + 1 WHERE id = ?", (event_id,))
            found = self._db.execute("SELECT strikes FROM outbox WHERE id = ?", (event_id,))
            row = found.fetchone()
        return int(row[0]) if row else 0

    def park(self, event_id: str, reason: str) -> None:
        """Keep an event for a person to look at; it is not sent again."""
        with self._transaction():
            self._db.execute("UPDATE outbox SET parked = ? WHERE id = ?", (reason, event_id))

    def prune(self, now_ms: int) -> None:
        """Forget keys and results after seven days."""
        before = now_ms - limits.JOB_ID_KEPT_S * 1000
        with self._transaction():
            self._db.execute("DELETE FROM seen WHERE stored_ms < ?", (before,))
            self._db.execute("DELETE FROM results WHERE stored_ms < ?", (before,))

    def oldest_results(self, beyond_bytes: int) -> list[tuple[str, str, bytes]]:
        """Return the oldest results that do not fit into `beyond_bytes`, over 4 KiB each."""
        total = self._number("SELECT coalesce(sum(length(payload)), 0) FROM results")
        found: list[tuple[str, str, bytes]] = []
        rows = self._db.execute(
            "SELECT job_id, event, payload FROM results WHERE length(payload) > 4096"
            " ORDER BY stored_ms"
        )
        for job_id, event, payload in rows:
            if total <= beyond_bytes:
                break
            total -= len(payload)
            found.append((job_id, event, payload))
        return found

    def shorten_result(self, job_id: str, payload: bytes) -> None:
        """Replace a kept result by a shorter one."""
        with self._transaction():
            self._db.execute("UPDATE results SET payload = ? WHERE job_id = ?", (payload, job_id))

    # -- reading: any thread with its own connection ---------------------------------------------

    def after(self, seq: int, max_rows: int, max_bytes: int) -> list[Row]:
        """Return what is to be sent behind `seq`, oldest first; a row if there is one."""
        rows: list[Row] = []
        size = 0
        for values in self._db.execute(
            "SELECT seq, id, key, after, event, payload, strikes FROM outbox"
            " WHERE seq > ? AND parked IS NULL ORDER BY seq LIMIT ?",
            (seq, max_rows),
        ):
            row = Row(*values)
            size += len(row.payload)
            if rows and size > max_bytes:
                break
            rows.append(row)
        return rows

    def last_seq(self) -> int:
        return self._number("SELECT coalesce(max(seq), 0) FROM outbox")

    def totals(self) -> tuple[int, int, int]:
        """Return how many finals wait, the bytes of all, and how many are parked."""
        row = self._db.execute(
            "SELECT count(*) FILTER (WHERE parked IS NULL), coalesce(sum(length(payload)), 0),"
            " count(parked) FROM outbox"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def oldest_ms(self) -> int | None:
        """Return when the oldest final that is kept was stored; None: there is none."""
        row = self._db.execute("SELECT stored_ms FROM outbox ORDER BY seq LIMIT 1").fetchone()
        return None if row is None else int(row[0])

    def find_result(self, job_id: str) -> tuple[str, str, bytes] | None:
        """Return digest, event and payload of a job's result."""
        found: tuple[str, str, bytes] | None = self._db.execute(
            "SELECT digest, event, payload FROM results WHERE job_id = ?", (job_id,)
        ).fetchone()
        return found

    def has_seen(self, key: str) -> bool:
        """Was a final for this key ever stored, delivered or not?"""
        found = self._db.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone()
        return found is not None

    def unpark(self) -> int:
        """Give every parked final another chance; return how many there were."""
        with self._transaction():
            done = self._db.execute(
                "UPDATE outbox SET parked = NULL, strikes = 0 WHERE parked NOTNULL"
            )
        return done.rowcount

    def entries(self) -> list[Entry]:
        """Return everything that is kept to be sent, oldest first."""
        return _entries(self._db)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _add(self, draft: Draft, now_ms: int) -> int | None:
        seen = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (draft.key, now_ms))
        if seen.rowcount == 0:
            return None
        added = self._db.execute(
            "INSERT INTO outbox (id, key, after, event, payload, stored_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (draft.id, draft.key, draft.after, draft.event, draft.payload, now_ms),
        )
        if draft.job_id is not None and draft.digest is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)",
                (draft.job_id, draft.digest, draft.event, draft.payload, now_ms),
            )
        return added.lastrowid

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])


def read_entries(path: Path) -> list[Entry]:
    """List an outbox without its agent, changing nothing.

    Raises:
        OutboxError: there is no such file, or it cannot be read.
    """
    if not path.exists():
        return []
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            return _entries(db)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise OutboxError(f"{path}: {error}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Is it the file itself that is wrong, rather than its disk or its rights?"""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_for_want_of_space(error: OutboxError) -> bool:
    """Did the disk take nothing?"""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _move_aside(path: Path) -> Path:
    """Rename a damaged file, and keep only the latest few such."""
    elder = [path.with_name(f"{path.name}.damaged-{number}") for number in range(_KEPT_DAMAGED)]
    target = next((one for one in elder if not one.exists()), None)
    if target is None:
        target = min(elder, key=lambda one: one.stat().st_mtime_ns)
    if path.exists():
        os.replace(path, target)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return target


def _entries(db: sqlite3.Connection) -> list[Entry]:
    rows = db.execute(
        "SELECT seq, id, key, event, length(payload), stored_ms, strikes, parked"
        " FROM outbox ORDER BY seq"
    )
    return [Entry(*values) for values in rows]


def _open(path: Path) -> sqlite3.Connection:
    """Open the file, making it when it is missing.

    A symlink is not followed into: SQLite itself refuses nothing, so the file is opened first.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    os.close(os.open(path, flags, 0o600))
    # Autocommit: every transaction is opened and ended by name.
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            db.execute(pragma).fetchall()
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={_VERSION};COMMIT;")
        elif version != _VERSION:
            raise _damage(f"the file has version {version}")
        if path.stat().st_size <= _CHECKED_UP_TO:
            said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise _damage(str(said))
    except BaseException:
        db.close()
        raise
    return db


def _open_as_it_is(path: Path) -> sqlite3.Connection:
    """Read a file that was closed in order, or begin one in memory where there is none yet."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise sqlite3.OperationalError("its write-ahead log cannot be read without writing")
    if path.exists() and path.stat().st_size:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    else:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(f"{_SCHEMA}PRAGMA user_version={_VERSION};")
    try:
        db.execute("SELECT count(*) FROM outbox").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _damage(sentence: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(sentence)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
