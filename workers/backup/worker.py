"""One step of a backup plan in one process: plan, run, verify, restore, ls or prune.

Source: contract 1.5, 1.7 `backup2`; docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

from workers.kind import Desk, StreamlessWorker
from workers.messages import Spec
from workers.messages_backup import BackupEnded, BackupSpec


def make(desk: Desk) -> StreamlessWorker:
    """Return the worker of one step."""
    if sys.platform != "win32":
        from workers.backup.worker_posix import BackupWorker

        return BackupWorker(desk)
    return Unsupported(desk)


class Unsupported(StreamlessWorker):
    """Where there is no rsync to be had."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, BackupSpec)
        sentence = "backups need rsync, which this system does not have"
        self._desk.finish(
            BackupEnded(op=spec.op, ok=False, duration_ms=0, error="unsupported", detail=sentence)
        )

    def end(self, reason: str) -> None:
        return None
