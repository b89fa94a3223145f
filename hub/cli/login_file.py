"""Where an operator's log-in is kept: `login.json`, 0600, in their configuration directory.

Rules: `JACKLINE_HUB_URL` and `JACKLINE_TOKEN` win over the file; `JACKLINE_CONFIG_DIR` moves it.
A file that others may read is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from hub import private_files
from hub.cli import exits
from hub.errors import CliError, SettingsError

FILE_NAME = "login.json"


class Saved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which hub, and by which session or API token."""

    hub: str
    token: str | None = None
    user: str | None = None
    expires_at: str | None = None
    ca_file: str | None = None
    insecure: bool = False


def path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the file is."""
    moved = environ.get("JACKLINE_CONFIG_DIR")
    if moved:
        return Path(moved) / FILE_NAME
    import platformdirs

    return platformdirs.user_config_path("jackline") / FILE_NAME


def load(environ: Mapping[str, str] = os.environ) -> Saved:
    """Read who is logged in.

    Raises:
        CliError: nobody, or the file is damaged or readable by others.
    """
    url, token = environ.get("JACKLINE_HUB_URL"), environ.get("JACKLINE_TOKEN")
    if url and token:
        return Saved(hub=url, token=token, ca_file=environ.get("JACKLINE_HUB_CA_FILE"))
    file = path(environ)
    if not file.exists():
        raise CliError("nobody is logged in: `jackline login --hub URL`", exits.NOT_PERMITTED)
    try:
        return msgspec.json.decode(private_files.read(file), type=Saved)
    except (SettingsError, msgspec.DecodeError) as error:
        raise CliError(f"{file}: {error}; log in again", exits.CONFIGURATION) from error


def save(saved: Saved, environ: Mapping[str, str] = os.environ) -> Path:
    """Keep a log-in.

    Raises:
        CliError: it cannot be written.
    """
    file = path(environ)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_files.replace(file, msgspec.json.encode(saved).decode())
    except (OSError, SettingsError) as error:
        raise CliError(f"{file}: {error}", exits.FAILED) from error
    return file


def forget(environ: Mapping[str, str] = os.environ) -> None:
    """Remove the file, if there is one."""
    path(environ).unlink(missing_ok=True)
