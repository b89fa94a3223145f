"""The kill switch: a file in the state directory that refuses every new job but telemetry.

Rules: any file of that name means *on*, whatever is in it, so that a person can set it with
`touch`; asking costs one system call, because it is asked at every start of a job.
Source: architecture "Policy, one engine"; cases E "Kill-switch file present".
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = "paused"


def is_on(state_dir: Path) -> bool:
    """Does the machine's owner want no jobs now?"""
    return os.path.lexists(state_dir / FILE_NAME)


def turn_on(state_dir: Path, reason: str = "") -> None:
    """Refuse jobs from now on; those that run go on.

    Raises:
        OSError: the state directory cannot be written.
    """
    told = {"reason": reason[:500], "since": datetime.now(UTC).isoformat(timespec="seconds")}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(state_dir / FILE_NAME, flags, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(told, file)
        file.flush()
        os.fsync(fd)


def turn_off(state_dir: Path) -> bool:
    """Take jobs again; tell whether the switch was on.

    Raises:
        OSError: the state directory cannot be written.
    """
    try:
        os.unlink(state_dir / FILE_NAME)
    except FileNotFoundError:
        return False
    return True


def why(state_dir: Path) -> dict[str, str]:
    """Return what `turn_on` wrote (`reason`, `since`); empty for a file that a person touched."""
    try:
        fd = os.open(state_dir / FILE_NAME, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(fd, "rb") as file:
            told = json.loads(file.read(4096))
    except (OSError, ValueError):
        return {}
    return {k: str(v) for k, v in told.items()} if isinstance(told, dict) else {}
