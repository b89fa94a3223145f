"""Save a hub: database, keyring and settings in one file, while it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from hub.cli import archive, exits, options


def run(argv: list[str]) -> int:
    """Run `jackline hub backup FILE`.

    Raises:
        SettingsError: the hub is not set up, or the file cannot be written.
    """
    chosen = _options(argv)
    found = options.load(chosen)
    written = archive.save(found, chosen.file)
    print(f"{chosen.file}: {', '.join(written)}; it opens every secret of this hub: keep it so")
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("backup", "Save a hub while it runs.")
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file; it is made 0600")
    return parser.parse_args(argv)
