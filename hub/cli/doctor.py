"""Look at a hub's files, keys, database and audit log, and say what would mend each."""

from __future__ import annotations

import argparse
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hub import keyring, private_files, settings
from hub.cli import audit, exits, options, output
from hub.db import migrate
from hub.db.database import Database
from hub.errors import HubError, SettingsError
from hub.settings import HubSettings

MIN_FREE_BYTES = 1024**3


class Finding(NamedTuple):
    """What was looked at, and how it is; `cure` is empty where nothing is wrong."""

    what: str
    state: str
    said: str
    cure: str = ""


def run(argv: list[str]) -> int:
    """Run `jackline hub doctor`."""
    parser = options.parser("doctor", "Look at a hub and say what would mend it.")
    output.add_format(parser)
    chosen = parser.parse_args(argv)
    found = list(look(chosen))
    if output.wants_json(chosen):
        output.print_json([one._asdict() for one in found])
    else:
        head = ("WHAT", "STATE", "SAID", "CURE")
        output.print_table(head, [(one.what, one.state, one.said, one.cure) for one in found])
    return exits.FAILED if any(one.state == "bad" for one in found) else exits.OK


def look(chosen: argparse.Namespace) -> Iterator[Finding]:
    """Look at one thing after the other; what rests on a bad one is not looked at."""
    state_dir = settings.state_dir_of(chosen.state_dir)
    try:
        private_files.check_directory(state_dir)
        found = settings.load(state_dir)
        keyring.load(state_dir)
    except SettingsError as error:
        yield Finding("files", "bad", str(error), "jackline hub init, or restore a backup")
        return
    yield Finding("files", "good", str(state_dir))
    yield _disk(state_dir)
    yield _modes(state_dir)
    yield _port(found)
    yield from _database(found, chosen)


def _disk(state_dir: Path) -> Finding:
    free = shutil.disk_usage(state_dir).free
    said = f"{free // 1024**2} MiB free"
    if free < MIN_FREE_BYTES:
        return Finding("disk", "bad", said, "make room: a full disk stops every result")
    return Finding("disk", "good", said)


def _modes(state_dir: Path) -> Finding:
    loose = [
        path.name
        for path in sorted(state_dir.iterdir())
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if loose:
        names = ", ".join(loose[:5])
        return Finding("modes", "bad", f"others may read {names}", f"chmod -R go= {state_dir}")
    return Finding("modes", "good", "nobody else reads them")


def _port(found: HubSettings) -> Finding:
    where = f"{found.host} port {found.port}"
    with socket.socket(socket.AF_INET6 if ":" in found.host else socket.AF_INET) as probe:
        probe.settimeout(2)
        is_answered = probe.connect_ex((_reachable(found.host), found.port)) == 0
    return Finding("port", "good", f"{where}: {'something answers' if is_answered else 'free'}")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _database(found: HubSettings, chosen: argparse.Namespace) -> Iterator[Finding]:
    database = Database(found.url)
    try:
        migrate.check(database)
        yield Finding("schema", "good", "this release's")
        yield _checked("database", lambda: _integrity(database))
        verdicts = _verdicts(chosen)
        for name, verdict in verdicts.items():
            what = f"audit {name}"
            if verdict.bad_seq is None:
                yield Finding(what, "good", f"{verdict.rows} rows, whole")
            else:
                said = f"broken at {verdict.bad_seq}: {verdict.why}"
                yield Finding(what, "bad", said, "somebody changed it: look at backups")
    except (SettingsError, HubError, SQLAlchemyError) as error:
        said = str(error).partition("\n")[0]
        yield Finding("database", "bad", said, "see `database_url`; jackline hub migrate")
    finally:
        database.close()


def _verdicts(chosen: argparse.Namespace) -> dict[str, Any]:
    with options.opened(chosen) as hub:
        return hub.database.read_now(None, lambda session: audit.verify_all(session, hub))


def _checked(what: str, look: Callable[[], str]) -> Finding:
    said = look()
    if said == "ok":
        return Finding(what, "good", "whole")
    return Finding(what, "bad", said, "restore the last backup")


def _integrity(database: Database) -> str:
    if database.engines.reader.dialect.name != "sqlite":
        return "ok"
    with database.engines.reader.connect() as connection:
        return str(connection.execute(text("PRAGMA quick_check")).scalar())
