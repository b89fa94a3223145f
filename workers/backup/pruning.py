"""Snapshots that the retention no longer keeps: shown, and removed with their manifests.

Rules: by sequence, with a preview, refused while the newest stamp lies in the future.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import time
from typing import Any

from workers import backup_state
from workers.backup import layout, lock
from workers.backup.ground import Ground
from workers.backup.layout import Snapshot
from workers.backup.steps import Job
from workers.errors import BackupError


def prune(ground: Ground) -> Job[dict[str, Any]]:
    """Do as the operation `prune` asks; with `dry_run` only say what would go.

    Raises:
        BackupError: `no_retention`, `clock`, or what the destination refuses.
    """
    if ground.job.layout != "snapshot" or not ground.job.retention:
        raise BackupError("no_retention", "set backup.layout snapshot and backup.retention first")
    ground.meet_target()
    yield from ground.survey(ground.names)
    if ground.spec.dry_run:
        keep, drop = judge(ground, ground.look.snapshots)
        return {"kept": _names(keep), "dropped": _names(drop), "dryRun": True}
    held = lock.take(ground.target.lock_file(), ground.job.plan_id)
    try:
        return (yield from remove(ground, ground.look.snapshots))
    finally:
        held.release()


def judge(ground: Ground, found: dict[str, list[Snapshot]]) -> tuple[set[Snapshot], set[Snapshot]]:
    """Return what is kept and what goes, over all sources; raises BackupError."""
    every = {snapshot for each in found.values() for snapshot in each if snapshot.is_finished}
    layout.refuse_future(every, time.time())  # noqa: TID251 - compared with stamps of that clock
    keep = layout.kept(every, ground.job.retention)
    return keep, every - keep


def remove(ground: Ground, found: dict[str, list[Snapshot]]) -> Job[dict[str, Any]]:
    """Remove what goes; the lock is held."""
    keep, drop = judge(ground, found)
    places = [f"{name}/{s.name}" for name, known in found.items() for s in known if s in drop]
    yield from ground.target.remove(places)
    for snapshot in drop:
        backup_state.manifest_path(ground.folder, snapshot.seq).unlink(missing_ok=True)
    return {"kept": _names(keep), "dropped": _names(drop), "dryRun": False}


def _names(snapshots: set[Snapshot]) -> list[str]:
    return [each.name for each in sorted(snapshots)]
