"""Which copy a verification, a listing or a restore means, and its manifest.

Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

from collections.abc import Sequence
from pathlib import Path

import msgspec

from workers import backup_state
from workers.backup import manifest
from workers.backup.ground import Ground
from workers.backup.hooks import DUMPS
from workers.errors import BackupError


class Copy(msgspec.Struct, frozen=True):
    """One copy: `snapshot` None in a mirror; `manifest` None where none is known."""

    snapshot: str | None
    manifest: Path | None

    def place(self, name: str) -> str:
        """Return where the copy of the source called `name` is below the root."""
        return name if self.snapshot is None else f"{name}/{self.snapshot}"


def find(ground: Ground) -> Copy:
    """Return the copy that was asked for: the newest if none was named.

    Raises:
        BackupError: `no_backup`: there is none, or none of that name.
    """
    asked = ground.spec.snapshot
    if ground.job.layout == "mirror":
        if asked:
            raise BackupError("no_backup", "a mirror has no snapshots")
        known = backup_state.known_manifests(ground.folder)[:1]
        if not known and not ground.look.exists:
            raise BackupError("no_backup", "this plan has never been run")
        return Copy(None, known[0] if known else None)
    every = {s for found in ground.look.snapshots.values() for s in found if s.is_finished}
    chosen = max(every, default=None)
    if asked:
        chosen = next((each for each in every if each.name == asked), None)
    if chosen is None:
        raise BackupError("no_backup", f"there is no snapshot {asked or 'yet'}")
    path = backup_state.manifest_path(ground.folder, chosen.seq)
    return Copy(chosen.name, path if path.exists() else None)


def need_manifest(copy: Copy) -> tuple[Path, str]:
    """Return a copy's manifest and the name of its checksums; raises BackupError `no_manifest`."""
    algorithm = None if copy.manifest is None else manifest.algorithm_of(copy.manifest)
    if copy.manifest is None or algorithm is None:
        raise BackupError("no_manifest", "no manifest of this copy is known here: run the plan")
    return copy.manifest, algorithm


def has_dumps(ground: Ground, copy: Copy) -> bool:
    """Tell whether a copy holds what the owner's commands wrote; they have no original place."""
    if not ground.job.commands or copy.manifest is None:
        return False
    prefix = DUMPS.encode() + b"/"
    return any(entry.name.startswith(prefix) for entry in manifest.read(copy.manifest))


def without(paths: Sequence[bytes]) -> str:
    """Say that a copy does not hold these."""
    named = ", ".join(path.decode("utf-8", "replace") for path in paths[:3])
    return f"the copy holds no {named}; `backup ls PLAN --path …` tells what it holds"


def listed(ground: Ground) -> list[str]:
    """Return the names of all finished snapshots, oldest first."""
    every = {s for found in ground.look.snapshots.values() for s in found if s.is_finished}
    return [each.name for each in sorted(every)]
