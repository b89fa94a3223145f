"""A plan: what a run would copy, counted from rsync's own dry run, or from a walk without rsync.

Source: contract 1.5 `backup_plan`; docs/reference/backup.rst.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import stat
from collections.abc import Iterable
from typing import Any

from workers.backup import itemize, outcomes, versions, walk
from workers.backup.argv import Transfer
from workers.backup.ground import Ground
from workers.backup.itemize import Batch, Item, Line, Row, Skipped
from workers.backup.layout import Snapshot
from workers.backup.sources import Source
from workers.backup.steps import Job
from workers.errors import BackupError

SAMPLES = 25
FOLDERS = 20
_MAX_FOLDERS = 50_000
_MAX_NAMED = 200
_BLANK = b" " * 9
_NEW = b"+" * 9
_ALL_READ = b"rrr"
_NEVER_MADE = Snapshot(999999, "19700101T000000Z", "-unfinished")
_NO_FOLDER = b"/"  # no name begins with it


class Counts:
    """What is counted over all sources."""

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self.new = self.changed = self.deleted = self.unchanged = 0
        self.moved_bytes = 0
        self.links_are_new = False
        self.sample: list[str] = []
        self.modified: list[str] = []
        self.gone: list[str] = []
        self.skipped: dict[str, int] = {}
        self.skipped_names: list[str] = []
        self.errors: list[str] = []
        self.folders: dict[bytes, list[int]] = {}
        self._folder: list[int] = [0, 0]
        self._folder_start = _NO_FOLDER

    def enter_source(self) -> None:
        """Another source begins: its folders are others."""
        self._folder_start = _NO_FOLDER

    def take(self, source: Source, batch: Batch) -> None:
        """Count what a chunk of lines says."""
        self._count_rows(os.fsencode(source.name), batch.files)
        self._look_at_rights(source, batch.files)
        self.take_lines(source, batch.others)

    def take_lines(self, source: Source, lines: Iterable[Line]) -> None:
        """Count what some lines say."""
        prefix = os.fsencode(source.name)
        for line in lines:
            if type(line) is Item:
                change = line.change
                if change[1] == 102 and change[0] != 42:  # f, not a deletion
                    self._count(prefix, line)
                elif change[1] == 100 and change[0] != 42:  # d
                    self.enter_directory(source, line)
                elif change[0] == 42:
                    self.deleted += 1
                    if len(self.gone) < SAMPLES:
                        self.gone.append(shown(prefix, line.name))
            elif type(line) is Skipped:
                self.skip(source, line)

    def _count_rows(self, prefix: bytes, rows: list[Row]) -> None:
        """Count regular files; the first few, and changed ones, in full."""
        room = max(0, SAMPLES - len(self.sample))
        for row in rows[:room]:
            self._count(prefix, itemize.item_of(row))
        for row in rows[room:]:
            state, size, name = row[0][2:], int(row[1]), row[5]
            if state == _BLANK:
                self.unchanged += 1
            elif state == _NEW:
                self.new += 1
                self.moved_bytes += size
            else:
                self._count(prefix, itemize.item_of(row))
                continue
            self.files += 1
            self.bytes += size
            if not name.startswith(self._folder_start):
                self._enter_folder(prefix, name)
            folder = self._folder
            folder[0] += 1
            folder[1] += size

    def _look_at_rights(self, source: Source, rows: list[Row]) -> None:
        """Name what the run could not read: a dry run of rsync opens no file."""
        for change, _, _, _, mode, name, _ in rows:
            if mode[0:7:3] != _ALL_READ and change[2:] != _BLANK:
                plain = itemize.plain_name(name)
                if not source.may_read(plain):
                    self.miss(f"{shown(os.fsencode(source.name), name)}: may not be read")

    def miss(self, sentence: str) -> None:
        """Count something that cannot be read."""
        self.skipped["unreadable"] = self.skipped.get("unreadable", 0) + 1
        if len(self.errors) < _MAX_NAMED:
            self.errors.append(sentence)

    def _count(self, prefix: bytes, item: Item) -> None:
        size, name, change = item.size, item.name, item.change
        self.files += 1
        self.bytes += size
        if len(self.sample) < SAMPLES:
            self.sample.append(shown(prefix, name))
        is_blank = change.endswith(b"         ")
        # A dry run does not mark a hard link that it would make as new.
        is_new_link = is_blank and self.links_are_new and item.target != b""
        if is_blank and not is_new_link:
            self.unchanged += 1
        elif is_new_link or change[2] == 43:  # +
            self.new += 1
            self.moved_bytes += 0 if is_new_link else size
        else:
            self.changed += 1
            if change[0] in b"<>":
                self.moved_bytes += size
            if len(self.modified) < SAMPLES:
                self.modified.append(shown(prefix, name))
        if not name.startswith(self._folder_start):
            self._enter_folder(prefix, name)
        self._folder[0] += 1
        self._folder[1] += size

    def _enter_folder(self, prefix: bytes, name: bytes) -> None:
        """The folder of a file counts from now on: the first two below the source."""
        first = name.find(b"/")
        second = name.find(b"/", first + 1) if first >= 0 else -1
        self._folder_start = name[: second + 1] if second >= 0 else _NO_FOLDER
        key = prefix + b"/" + name[: second if second >= 0 else max(first, 0)]
        if key not in self.folders and len(self.folders) >= _MAX_FOLDERS:
            key = prefix
        self._folder = self.folders.setdefault(key, [0, 0])

    def enter_directory(self, source: Source, item: Item) -> None:
        """Count a directory that is made and left empty, for another file system is there."""
        if item.name != b"./" and source.is_elsewhere(itemize.plain_name(item.name)):
            self.skip(source, Skipped("mount", item.name.rstrip(b"/")))

    def skip(self, source: Source, skipped: Skipped) -> None:
        """Count something that is never copied, by what it is."""
        name = itemize.plain_name(skipped.name)
        why = "other file system" if skipped.why == "mount" else _special(source, name)
        self.skipped[why] = self.skipped.get(why, 0) + 1
        if len(self.skipped_names) < _MAX_NAMED:
            self.skipped_names.append(shown(os.fsencode(source.name), skipped.name))

    def found(self) -> dict[str, Any]:
        """Return it as the result."""
        biggest = sorted(self.folders.items(), key=lambda each: -each[1][1])[:FOLDERS]
        return {
            "totalFiles": self.files,
            "totalBytes": self.bytes,
            "files": self.sample,
            "modifies": self.modified,
            "new": self.new,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "deletes": self.gone,
            "transferBytes": self.moved_bytes,
            "folders": [
                {"path": _text(key.rstrip(b"/")), "files": count, "bytes": size}
                for key, (count, size) in biggest
            ],
            "skipped": self.skipped,
            "skippedNames": self.skipped_names,
            "errors": self.errors,
        }


def plan(ground: Ground) -> Job[dict[str, Any]]:
    """Make a plan.

    Raises:
        BackupError: nothing is known then.
    """
    ground.check()
    ground.open_sources()
    for name in ground.names:
        ground.filter_file(name)  # a bad glob is told before anything starts
    ground.meet_target()
    counts = Counts()
    if ground.tools.rsync is None:
        yield from walk.count(ground, counts)
        ground.notes.append("this machine has no rsync: counts only; install it before a run")
        return {**counts.found(), "rsync": None, "notes": ground.notes}
    yield from ground.survey(ground.names)
    for source in ground.sources:
        yield from _plan_source(ground, source, counts)
    package = ground.version.package or (yield from ground.tools.package_version())
    there = ground.look.version
    return {
        **counts.found(),
        "rsync": {
            "version": ground.version.text,
            "package": package,
            "remote": None if there in (None, versions.UNKNOWN) else there.text,
        },
        "notes": ground.notes,
    }


def transfer_of(ground: Ground, source: Source, unfinished: Snapshot | None) -> Transfer:
    """Return the arguments that a plan and its run share.

    Args:
        unfinished: the snapshot that a run makes; a plan names one that is never made.
    """
    name = source.name
    place = name
    links: tuple[Snapshot, ...] = ()
    if ground.job.layout == "snapshot":
        assert unfinished is not None
        known = [each for each in ground.look.snapshots.get(name, []) if each != unfinished]
        place, links = f"{name}/{unfinished.name}", _bases(known)
    return Transfer(
        source="./",
        dest=ground.target.argument(place),
        filter_file=ground.filter_file(name),
        link_dests=tuple(ground.target.path(f"{name}/{each.name}") for each in links),
        delete=ground.may_delete(),
    )


def _bases(known: list[Snapshot]) -> tuple[Snapshot, ...]:
    """What unchanged files are linked to: the newest finished one, and what was broken off since.

    A broken-off one is never continued in place: its files may share their content with an earlier
    snapshot, and rsync would set new modes on both.
    """
    finished = [each for each in known if each.is_finished][-1:]
    since = finished[0].seq if finished else 0
    broken = [each for each in known if not each.is_finished and each.seq > since]
    return (*finished, *broken[-8:])


def _plan_source(ground: Ground, source: Source, counts: Counts) -> Job[None]:
    transfer = transfer_of(ground, source, _NEVER_MADE)
    counts.links_are_new = not transfer.link_dests
    source.enter()
    counts.enter_source()
    # rsync 3.5.0 misses what the dry run itself has kept it from making.
    job = ground.rsync(
        transfer,
        lambda batch: counts.take(source, batch),
        dry_run=True,
        unsaid=_NEVER_MADE.name,
    )
    code, words = yield from job
    outcome = outcomes.judge(code, words)
    if outcome.verdict in ("again", "failed"):
        raise BackupError(outcome.error, outcome.sentence)
    for error in words.errors():
        counts.miss(error)


def shown(prefix: bytes, name: bytes) -> str:
    """Return a name for people and for JSON, below its source's name."""
    return _text(prefix + b"/" + itemize.plain_name(name))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _special(source: Source, name: bytes) -> str:
    try:
        mode = os.stat(name, dir_fd=source.fd, follow_symlinks=False).st_mode
    except OSError:
        return "special"
    if stat.S_ISFIFO(mode):
        return "FIFO"
    return "socket" if stat.S_ISSOCK(mode) else "device"
