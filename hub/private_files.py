"""Files and directories that are the hub's alone: made so, and refused when they are not.

Rules: no link is followed; 0600 and 0700; what is not as we left it is refused, never repaired. On
Windows, where a hub does not serve, access lists speak instead of modes.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path

from hub.errors import SettingsError

_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)


def create(path: Path, text: str) -> None:
    """Write a new file to the disk.

    Raises:
        SettingsError: it exists, or cannot be written.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, text: str) -> None:
    """Write a file whole, in place of what stood there.

    Raises:
        SettingsError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    create(beside, text)
    try:
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SettingsError(f"{path}: {error.strerror}") from error


def touch(path: Path) -> None:
    """Make an empty file where there is none.

    Raises:
        SettingsError: it is a link, or cannot be made.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | _NOFOLLOW, 0o600))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


def read(path: Path) -> str:
    """Read a file that must be ours alone.

    Raises:
        SettingsError: it is missing, a link, somebody else's, or readable by others.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _NOFOLLOW)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    with os.fdopen(fd, encoding="utf-8") as file:
        if not _is_ours_alone(os.fstat(file.fileno())):
            raise SettingsError(f"{path} must be ours and 0600")
        return file.read()


def check_directory(path: Path) -> None:
    """Refuse a directory that is not ours alone.

    Raises:
        SettingsError: with the cure.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; run `jackline hub init`") from error
    if not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"{path} is not a directory")
    if not _is_ours_alone(status):
        raise SettingsError(f"{path} must be ours and 0700: chown and chmod it")


def _is_ours_alone(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return True
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
