"""Engines for the two databases that a hub can have: SQLite by default, PostgreSQL by URL.

Rules: SQLite: WAL, synchronous=FULL (an acknowledged row survives a power cut), foreign keys on,
BEGIN IMMEDIATE in the one writer, a busy timeout for the command line beside a running hub; its
file is 0600. PostgreSQL: psycopg 3; a server that has gone without a word is given up within
seconds, since whoever asks holds a thread; a NUL, which its texts cannot hold, becomes U+FFFD, so
that no text of a machine or of a request is a fault of ours.
Source: SQLAlchemy, "Using Begin/Savepoint with SQLite" (the driver's own BEGIN is turned off).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from hub import private_files
from hub.errors import SettingsError

BUSY_TIMEOUT_MS = 10_000
# libpq's; what the URL says wins.
PATIENCE = {
    "connect_timeout": 3,
    "tcp_user_timeout": 8_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


@dataclass(frozen=True)
class Engines:
    """Where units of work run; one engine twice for PostgreSQL."""

    reader: Engine
    writer: Engine
    has_one_writer: bool

    def dispose(self) -> None:
        """Close every connection."""
        self.reader.dispose()
        self.writer.dispose()


def open_engines(url: str, connections: int) -> Engines:
    """Open a database by its URL.

    Raises:
        SettingsError: no database that a hub can use.
    """
    backend = make_url(url).get_backend_name()
    if backend == "sqlite":
        return Engines(_sqlite(url, "BEGIN", connections), _sqlite(url, "BEGIN IMMEDIATE", 1), True)
    if backend == "postgresql":
        place = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(
            place,
            connect_args={name: PATIENCE[name] for name in PATIENCE.keys() - place.query.keys()},
            pool_size=connections,
            max_overflow=connections,
            pool_pre_ping=True,
        )
        event.listen(engine, "connect", _without_nul)
        return Engines(engine, engine, False)
    raise SettingsError(f"database_url: {backend} is not supported; use sqlite or postgresql")


class _Text(StrDumperUnknown):
    """The driver's own way to write a text, NUL apart."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _without_nul(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.adapters.register_dumper(str, _Text)


def _sqlite(url: str, begin: str, connections: int) -> Engine:
    path = make_url(url).database
    if not path or path == ":memory:":
        raise SettingsError("database_url: sqlite needs a file")
    private_files.touch(Path(path))
    engine = create_engine(url, pool_size=connections, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
