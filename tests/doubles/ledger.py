"""What the scripted hub keeps: final events on disk, floods as counts.

Rule of the finals file: a line is written and fsynced before its acknowledgement leaves, so that a
test can tell lost from doubled across `kill -9`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Contract 1.7, row `ack`.
FINAL_EVENTS = {
    "shell_closed",
    "admin_result",
    "backup_plan",
    "backup_complete",
    "backup_error",
    "backup_result",
    "keys_sync_result",
    "tool_result",
    "worker_result",
    "agent_update_result",
}


class FinalsFile:
    """Append-only JSON lines; a None path keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._fd = None
        if path is not None:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _cut_torn_line(self._fd, Path(path))

    def keep(self, event: str, payload: Any) -> None:
        if self._fd is None:
            return
        identity = payload.get("id") if isinstance(payload, dict) else None
        line = json.dumps({"id": identity, "event": event, "payload": payload}) + "\n"
        os.write(self._fd, line.encode())
        os.fsync(self._fd)


def _cut_torn_line(fd: int, path: Path) -> None:
    """Drop a last line that kill -9 cut short, and leave the offset at the end."""
    whole = path.read_bytes().rfind(b"\n") + 1
    os.ftruncate(fd, whole)
    os.lseek(fd, 0, os.SEEK_END)


@dataclass
class _Count:
    events: int = 0
    bytes: int = 0
    hash: Any = field(default_factory=hashlib.sha256)
    tail: str = ""


class Tally:
    """Counts what is too much to report, per event and session (or job)."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def add(self, event: str, payload: Any) -> None:
        fields = payload if isinstance(payload, dict) else {}
        key = f"{event} {fields.get('session') or fields.get('jobId') or ''}"
        count = self._counts.setdefault(key, _Count())
        data = raw_data(fields)
        count.events += 1
        count.bytes += len(data)
        count.hash.update(data)
        count.tail = (count.tail + data.decode("utf-8", "replace"))[-200:]

    def read(self) -> dict[str, dict[str, Any]]:
        return {
            key: {
                "events": count.events,
                "bytes": count.bytes,
                "sha256": count.hash.hexdigest(),
                "tail": count.tail,
            }
            for key, count in self._counts.items()
        }


def raw_data(payload: dict[str, Any]) -> bytes:
    """The raw stream's bytes that an output event carries."""
    data = payload.get("data") or ""
    if payload.get("encoding") == "base64":
        return base64.b64decode(data)
    return str(data).encode()
