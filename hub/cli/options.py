"""What every word of `jackline hub` takes, and how each opens the hub's files.

Rules: a password or a token is never an argument: standard input or a file brings it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hub import keyring, private_files, settings
from hub.assembly import Hub
from hub.db import migrate
from hub.db.database import Database
from hub.settings import HubSettings


def parser(word: str, about: str) -> argparse.ArgumentParser:
    """Return a parser for `jackline hub WORD`."""
    made = argparse.ArgumentParser(
        prog=f"jackline hub {word}", description=about, allow_abbrev=False
    )
    made.add_argument("--state-dir", metavar="DIR", help="where the hub keeps its files")
    return made


def add_state_dir(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Let `--state-dir` stand behind a word's own word, too."""
    for word in words.choices.values():
        word.add_argument(
            "--state-dir", default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS
        )


def load(options: argparse.Namespace, **flags: object) -> HubSettings:
    """Read the settings for a command line.

    Raises:
        SettingsError: they, or the state directory, are not as they must be.
    """
    state_dir = settings.state_dir_of(options.state_dir)
    private_files.check_directory(state_dir)
    return settings.load(state_dir, flags)


@contextmanager
def opened(options: argparse.Namespace, **flags: object) -> Iterator[Hub]:
    """Open a hub's keys and database without serving; close them at the end.

    Raises:
        SettingsError: the hub is not set up, or its schema is not this release's.
    """
    found = load(options, **flags)
    keys = keyring.load(found.state_dir)
    database = Database(found.url)
    try:
        migrate.check(database)
        yield Hub(found, keys, database)
    finally:
        database.close()


def read_secret(what: str) -> str:
    """Read a secret from standard input: one line, without its newline."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"{what}: ")
    return sys.stdin.readline().rstrip("\r\n")
