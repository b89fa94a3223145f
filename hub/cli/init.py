"""Set a hub up, once: state directory, keyring, database, first tenant and admin."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sqlalchemy.orm import Session

from hub import keyring, private_files, settings
from hub.audit import service as audit
from hub.authorize import Role
from hub.cli import exits, options
from hub.db import migrate
from hub.db.database import Database
from hub.errors import SettingsError
from hub.operators import passwords, service
from hub.operators.models import User


def run(argv: list[str]) -> int:
    """Run `jackline hub init`.

    Raises:
        SettingsError: the directory is not ours, or the hub is set up already.
    """
    chosen = _options(argv)
    password = options.read_secret("password")
    if len(password) < passwords.MIN_CHARS:
        print(f"the password must have {passwords.MIN_CHARS} characters", file=sys.stderr)
        return exits.USAGE
    state_dir = settings.state_dir_of(chosen.state_dir)
    _make(state_dir)
    found = settings.load(state_dir)
    keyring.create(state_dir)
    database = Database(found.url)
    try:
        migrate.upgrade(database)
        password_hash = passwords.hash_password(password)
        admin = database.write_now(
            None, lambda session: _first_admin(session, chosen.admin, password_hash)
        )
    finally:
        database.close()
    print(f"{state_dir}: set up; log in as {admin.name}")
    print(f"next: jackline hub serve --state-dir {state_dir}")
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("init", "Set a hub up, once.")
    parser.add_argument("--admin", required=True, metavar="NAME", help="the first admin's name")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )
    return parser.parse_args(argv)


def _make(state_dir: Path) -> None:
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{state_dir}: {error.strerror}") from error
    if (state_dir / keyring.FILE_NAME).exists():
        raise SettingsError(f"{state_dir}: this hub is set up already")
    private_files.check_directory(state_dir)


def _first_admin(session: Session, name: str, password_hash: str) -> User:
    tenant = service.add_tenant(session, service.DEFAULT_TENANT)
    user = service.add_user(session, tenant.id, name, Role.SYSTEM_ADMIN, password_hash)
    audit.record(session, tenant.id, audit.SYSTEM, "users.write", of=("user", user.id), first=True)
    return user
