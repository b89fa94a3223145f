"""A token that stands in a file: read it there, and leave none of it behind.

Rules: the token is taken out of a file only once it has been burnt; what else the file holds stays;
a file that held nothing else is removed. A file that cannot be changed (a mounted secret) is told.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from agent.errors import EnrolmentError
from agent.exits import NOT_FOUND, USAGE
from agent.identity import replace_file
from wire.enroltoken import read as read_token
from wire.errors import WireError

MAX_BYTES = 64 * 1024


def read(path: Path) -> str:
    """Return the token that a file holds: the whole file, or the one word of it that is a token.

    Raises:
        EnrolmentError: there is none, or the file cannot be read.
    """
    text = _text(path)
    words = text.replace('"', " ").replace("'", " ").replace("=", " ").split()
    found = sorted({word.rstrip(",") for word in words if word.startswith(("jle_", "jlc_"))})
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise EnrolmentError(
            USAGE, f"{path}: holds {len(found)} tokens; leave the one that is meant"
        )
    if len(words) == 1:
        return words[0]
    raise EnrolmentError(USAGE, f"{path}: holds no enrolment token")


def scrub(path: Path, token: str) -> str | None:
    """Take a token out of a file.

    Returns:
        None, or why it is still there, as a sentence.
    """
    target = path.resolve()
    try:
        text = target.read_bytes()
        left = text.replace(token.encode(), b"")
        if left.strip():
            _replace(target, left)
            return None
        _overwrite(target, len(text))
        target.unlink()
        if path.is_symlink():
            path.unlink()
    except OSError as e:
        return f"{path}: still holds the token, which is worth nothing now: {e.strerror}"
    return None


def is_token(text: str) -> bool:
    """Is this an enrolment token, whole and unharmed?"""
    try:
        read_token(text)
    except WireError:
        return False
    return True


def _replace(path: Path, text: bytes) -> None:
    """Who could read the file can do so still, whoever takes the token out."""
    found = path.stat()
    is_root = sys.platform != "win32" and os.geteuid() == 0
    owner = (found.st_uid, found.st_gid) if is_root else None
    replace_file(path, text, stat.S_IMODE(found.st_mode), owner)


def _overwrite(path: Path, length: int) -> None:
    """Best effort: a journal or a flash disk may keep what was there all the same."""
    with open(path, "r+b") as file:
        file.write(b"\0" * length)
        file.flush()
        os.fsync(file.fileno())


def _text(path: Path) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise EnrolmentError(USAGE, f"{path}: is not a regular file")
            return file.read(MAX_BYTES).decode()
    except OSError as e:
        raise EnrolmentError(NOT_FOUND, f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise EnrolmentError(USAGE, f"{path}: is not text") from e
