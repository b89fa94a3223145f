"""What a plan's last restore could not bring back, and where to: kept for another try.

Source: docs/reference/backup.rst.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers import backup_state
from workers.errors import BackupError

FILE = "failed"


class Failures(msgspec.Struct, frozen=True):
    """`paths` begin with their source's name; `to` None: the original place."""

    paths: list[bytes]
    to: str | None = None
    snapshot: str | None = None


def write(folder: Path, to: str | None, snapshot: str | None, paths: list[bytes]) -> None:
    """Keep them in place of earlier ones."""
    kept = Failures(paths=paths, to=to, snapshot=snapshot)
    backup_state.write_private(folder / FILE, msgspec.msgpack.encode(kept))


def clear(folder: Path) -> None:
    """Nothing has failed."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path) -> Failures:
    """Return them; raises BackupError `nothing_failed`."""
    try:
        found = msgspec.msgpack.decode((folder / FILE).read_bytes(), type=Failures)
    except (OSError, msgspec.MsgspecError):
        found = None
    if found is None or not found.paths:
        raise BackupError("nothing_failed", "the last restore of this plan left nothing out")
    return found
