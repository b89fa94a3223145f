"""What there is: the snapshots of a plan, its runs, or what one copy holds below a path.

Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

from typing import Any

from workers import backup_state
from workers.backup import copies, itemize, manifest
from workers.backup.ground import Ground
from workers.backup.steps import Job
from workers.errors import BackupError

MAX_ENTRIES = 5_000
_RUNS = 50


def ls(ground: Ground) -> Job[dict[str, Any]]:
    """List; raises BackupError where the copy or its manifest is not known."""
    last = {**backup_state.read(ground.folder)}
    runs = [_short(each) for each in backup_state.history(ground.folder)[-_RUNS:]]
    if not ground.spec.paths and not ground.spec.snapshot:
        listed: list[str] = []
        if ground.job.layout == "snapshot":
            ground.meet_target()
            yield from ground.survey(ground.names)
            listed = copies.listed(ground)
        return {"layout": ground.job.layout, "snapshots": listed, "runs": runs, "last": last}
    ground.meet_target()
    yield from ground.survey(ground.names)
    copy = copies.find(ground)
    path, _ = copies.need_manifest(copy)
    wanted = [each.strip("/").encode("utf-8", "surrogateescape") for each in ground.spec.paths]
    entries: list[dict[str, Any]] = []
    truncated = False
    for number, entry in enumerate(manifest.read(path)):
        if number % 20_000 == 0:
            yield None
        name = itemize.plain_name(entry.name)
        if wanted and not any(name == each or name.startswith(each + b"/") for each in wanted):
            continue
        if len(entries) >= MAX_ENTRIES:
            truncated = True
            break
        entries.append(
            {
                "path": name.decode("utf-8", "replace"),
                "size": entry.size,
                "mtime": entry.mtime.decode("ascii", "replace"),
                "mode": entry.mode.decode("ascii", "replace"),
                "checksum": entry.checksum.decode("ascii", "replace"),
            }
        )
    if wanted and not entries:
        raise BackupError("unknown_path", copies.without(wanted))
    return {"snapshot": copy.snapshot, "entries": entries, "truncated": truncated}


def _short(run: dict[str, Any]) -> dict[str, Any]:
    wanted = ("seq", "snapshot", "startedAt", "endedAt", "files", "bytes", "transferredBytes")
    return {name: run.get(name) for name in (*wanted, "partial", "errorCount")}
