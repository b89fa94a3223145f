"""What a saved hub is: a tar file of its database, its keys and its settings.

Rules: the database is copied as it was at one moment, while the hub goes on (SQLite's online
backup; pg_dump for PostgreSQL); every file is 0600; a restore takes the known names alone, never
over what is there, and writes the database last, so that a torn one is seen by its absence.
Artifacts and recordings are large and are left to the machine's own backup.
Source: SQLite, "Online Backup API"; PostgreSQL, pg_dump.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from hub import keyring, private_files, settings
from hub.audit import service as audit
from hub.clock import now_ms
from hub.db import migrate
from hub.db.database import Database
from hub.db.rows import affected
from hub.errors import SettingsError
from hub.heartbeat import authority
from hub.jobs import sweeps
from hub.operators.models import Login
from hub.settings import HubSettings

SQLITE, DUMP = "hub.db", "hub.pgdump"
KEPT = (keyring.FILE_NAME, settings.FILE_NAME, authority.FILE_NAME)
MAX_SMALL_BYTES = 4 * 1024 * 1024


def save(found: HubSettings, file: Path) -> list[str]:
    """Write a backup to a new file; returns what it holds.

    Raises:
        SettingsError: something is missing, or the file is there already.
    """
    keyring.load(found.state_dir)
    private_files.create(file, "")
    try:
        with (
            tempfile.TemporaryDirectory(dir=file.parent, prefix=".jackline-") as folder,
            tarfile.open(file, "w") as tar,
        ):
            database = _copy(found, Path(folder))
            members = [*(found.state_dir / name for name in _small(found)), database]
            for path in members:
                tar.add(path, path.name, filter=_private)
        _sync(file)
    except (OSError, sqlite3.Error) as error:
        file.unlink(missing_ok=True)
        raise SettingsError(f"{file}: {error}") from error
    except SettingsError:
        file.unlink(missing_ok=True)
        raise
    return [path.name for path in members]


def restore(file: Path, state_dir: Path) -> None:
    """Bring a backup back.

    Raises:
        SettingsError: it is none, there is a hub already, or its release is newer than ours.
    """
    if (state_dir / keyring.FILE_NAME).exists():
        raise SettingsError(f"{state_dir}: there is a hub; restore into an empty directory")
    try:
        with tarfile.open(file) as tar:
            names = tar.getnames()
            if keyring.FILE_NAME not in names or not {SQLITE, DUMP} & set(names):
                raise SettingsError(f"{file}: this is no hub's backup")
            for name in names:
                if name in KEPT:
                    private_files.create(state_dir / name, _text(tar, name))
            _database(tar, names, state_dir)
    except (OSError, tarfile.TarError, UnicodeError) as error:
        raise SettingsError(f"{file}: {error}") from error
    database = Database(settings.load(state_dir).url)
    try:
        migrate.upgrade(database)
        database.write_now(None, _settle)
    finally:
        database.close()


def _settle(session: Session) -> None:
    """End what may have happened since: jobs that waited may have run, sessions may be revoked."""
    jobs = sweeps.after_restore(session)
    sessions = update(Login).where(Login.kind == "session", Login.revoked_ms.is_(None))
    ended = affected(session, sessions.values(revoked_ms=now_ms()))
    audit.record(
        session, audit.SYSTEM_CHAIN, audit.SYSTEM, "hub.restored", jobs=jobs, sessions=ended
    )


def _small(found: HubSettings) -> list[str]:
    return [name for name in KEPT if (found.state_dir / name).exists()]


def _copy(found: HubSettings, folder: Path) -> Path:
    url = make_url(found.url)
    if url.get_backend_name() == "postgresql":
        dump = folder / DUMP
        # The system's own scope sees every row: row-level security hides none of them.
        argv = ["--format=custom", "--enable-row-security", f"--file={dump}"]
        _run(_tool("pg_dump"), *argv, url=url)
        return dump
    copy = folder / SQLITE
    with (
        closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
    return copy


def _database(tar: tarfile.TarFile, names: list[str], state_dir: Path) -> None:
    with tempfile.TemporaryDirectory(dir=state_dir, prefix=".restore-") as folder:
        name = SQLITE if SQLITE in names else DUMP
        copy = Path(folder) / name
        with open(copy, "wb") as target:
            shutil.copyfileobj(_member(tar, name), target)
        _sync(copy)
        copy.chmod(0o600)
        if name == SQLITE:
            os.replace(copy, state_dir / SQLITE)
            return
        url = make_url(settings.load(state_dir).url)
        if url.get_backend_name() != "postgresql":
            raise SettingsError("the backup is of PostgreSQL: set `database_url` to an empty one")
        _run(
            _tool("pg_restore"), "--no-owner", "--exit-on-error", "--single-transaction",
            f"--dbname={url.database}", str(copy), url=url,
        )  # fmt: skip


def _text(tar: tarfile.TarFile, name: str) -> str:
    return _member(tar, name).read(MAX_SMALL_BYTES).decode()


def _member(tar: tarfile.TarFile, name: str) -> io.BufferedReader:
    member = tar.getmember(name)
    found = tar.extractfile(member) if member.isreg() else None
    if found is None:
        raise SettingsError(f"{name} in the backup is no file")
    return found  # type: ignore[return-value]


def _private(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode, member.uid, member.gid, member.uname, member.gname = 0o600, 0, 0, "", ""
    return member


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _tool(name: str) -> str:
    return shutil.which(name) or _missing(name)


def _missing(name: str) -> str:
    raise SettingsError(f"{name} is not installed: it saves and restores PostgreSQL")


def _run(*argv: str, url: URL) -> None:
    """Run a tool of PostgreSQL; the password goes by the environment, never by the arguments."""
    done = subprocess.run(
        argv, env=_environ(url), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no word why"]
        raise SettingsError(f"{Path(argv[0]).name}: {last[0]}")


def _environ(url: URL) -> dict[str, str]:
    given = {
        "PGHOST": url.host or url.query.get("host"),
        "PGPORT": str(url.port or url.query.get("port") or ""),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": url.query.get("sslmode"),
    }
    plain = {name: str(value) for name, value in given.items() if value}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **plain}
