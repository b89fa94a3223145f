"""Bring a saved hub back, into an empty state directory.

Rules: never over a hub that is there; the hub is stopped meanwhile; agents reconcile when they
link, so that nothing which ran since runs again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hub import private_files, settings
from hub.cli import archive, exits, options


def run(argv: list[str]) -> int:
    """Run `jackline hub restore FILE`.

    Raises:
        SettingsError: the file is no backup, or there is a hub already.
    """
    chosen = _options(argv)
    state_dir = settings.state_dir_of(chosen.state_dir)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_files.check_directory(state_dir)
    archive.restore(chosen.file, state_dir)
    print(f"{state_dir}: restored")
    print(f"next: jackline hub serve --state-dir {state_dir}")
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("restore", "Bring a saved hub back.")
    parser.add_argument("file", type=Path, metavar="FILE", help="what `hub backup` wrote")
    return parser.parse_args(argv)
