"""How far a job is, for people: the file in hand, the bytes, the rate.

The file in flight is what rsync's sender holds open, as far as the system tells; else the last one
that it named. Source: contract 1.5 `backup_progress`; proc(5).
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import os

from workers.backup import itemize
from workers.backup.itemize import Item, Row
from workers.backup.meter import Progress
from workers.backup.sources import Source
from workers.loop import now_s
from workers.messages_backup import BackupStep


class Gauge:
    """See the module."""

    def __init__(self, op: str, total_bytes: int = 0) -> None:
        self._progress = Progress(now_s(), total_bytes)
        self._op = op
        self._word = op
        self._source: Source | None = None
        self._base_bytes = self._base_moved = 0
        self._still_bytes = self._carried = 0
        self._base_files = self._seen = 0
        self.file: bytes | None = None
        self.files = 0
        self.child_pid: int | None = None

    @property
    def done_bytes(self) -> int:
        return self._base_bytes + self._still_bytes + self._carried

    def set_total(self, total_bytes: int) -> None:
        """The total is known now."""
        self._progress.total_bytes = total_bytes

    def say(self, word: str) -> None:
        """Show another word than the operation's for the time being."""
        self._word = word

    def begin_source(self, source: Source) -> None:
        """A source starts, or starts again: what it did before counts once."""
        self._source = source
        self._word = self._op
        self._still_bytes = self._carried = 0
        self._seen = 0
        self.files = self._base_files

    def rows(self, rows: list[Row]) -> None:
        """Take note of regular files that are done."""
        if not rows:
            return
        self._seen += len(rows)
        self.files = self._base_files + self._seen
        self.file = rows[-1][5]
        self._still_bytes += sum(int(row[1]) for row in rows if row[0][0] not in b"<>")

    def item(self, item: Item) -> None:
        """Take note of one file that is done."""
        change = item.change
        if change[1] != 102:  # f
            return
        self._seen += 1
        self.files = self._base_files + self._seen
        self.file = item.name
        if change[0] not in b"<>":
            self._still_bytes += item.size

    def meter(self, transferred: int) -> None:
        """Take note of rsync's own count."""
        self._carried = max(self._carried, transferred)

    def add(self, name: bytes, size: int) -> None:
        """One file of a job of our own is done."""
        self.file = name
        self.files += 1
        self._still_bytes += size

    def source_done(self) -> None:
        """What a source has done stays counted."""
        self._base_bytes += self._still_bytes + self._carried
        self._base_moved += self._carried
        self._base_files = self.files
        self._still_bytes = self._carried = 0

    def end(self) -> None:
        """All is done."""
        self._progress.end()

    def step(self) -> BackupStep:
        """Return where the job stands now."""
        moved = self._base_moved + self._carried
        self._progress.move(now_s(), self.done_bytes, moved or self.done_bytes)
        prefix = b"" if self._source is None else os.fsencode(self._source.name) + b"/"
        name = self._in_flight()
        if name is None and self.file is not None:
            name = prefix + itemize.plain_name(self.file)
        return BackupStep(
            op=self._word,
            file=None if name is None else name.decode("utf-8", "replace"),
            name=None if name is None or _is_utf8(name) else name,
            percent=self._progress.percent,
            done_bytes=self._progress.done_bytes,
            total_bytes=max(self._progress.total_bytes, self._progress.done_bytes),
            files=self.files,
            bytes_per_s=self._progress.rate,
            eta_s=self._progress.eta_s,
        )

    def _in_flight(self) -> bytes | None:
        """Return the file below the source that our child holds open."""
        if self.child_pid is None or self._source is None:
            return None
        root = os.fsencode(self._source.real) + b"/"
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{self.child_pid}/fd"):
                with contextlib.suppress(OSError):
                    path = os.readlink(os.fsencode(f"/proc/{self.child_pid}/fd/{fd}"))
                    if path.startswith(root) and not os.path.isdir(path):
                        return os.fsencode(self._source.name) + b"/" + path[len(root) :]
        return None


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
