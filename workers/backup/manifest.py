"""What a run has copied: kind, mode, size, mtime, checksum and name of every file.

One line a file, tabs between, names as rsync escapes them; the first line says what it is. Written
while the run goes on (`.open`), renamed when it is over: what is left of one that was broken off
still tells the checksums of the files that it did copy. Unchanged files take theirs from earlier
manifests, read along in step: both follow rsync's order, so little is ever held in memory.
Source: docs/reference/backup.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from workers.backup.itemize import Item, Row

HEADER = b"#jackline-manifest 1 "
NONE = b"-"


class Entry(NamedTuple):
    """One file or symbolic link; `name` starts with its source's name, escaped."""

    kind: bytes
    mode: bytes
    size: int
    mtime: bytes
    checksum: bytes
    name: bytes


class Earlier:
    """Checksums of an earlier manifest, asked for in about the order that they stand in."""

    def __init__(self, path: Path) -> None:
        self._rows = _rows(path)
        self._passed: dict[bytes, list[bytes]] = {}

    def find(self, name: bytes, size: bytes, mtime: bytes) -> bytes | None:
        """Return the checksum of a regular file that is still the same; each is found once."""
        found = self._passed.pop(name, None)
        if found is None:
            for row in self._rows:
                if row[5] == name:
                    found = row
                    break
                if row[0] == b"f":
                    self._passed[row[5]] = row
        if found is None or found[2] != size or found[3] != mtime or found[4] == NONE:
            return None
        return found[4]


class Writer:
    """A manifest in the making.

    Args:
        path: where it will be; `.open` is added until `finish`.
        earlier: newest first; their checksums stand for files that have not changed. One that has
            checksums of another kind is of no use.
    """

    def __init__(self, path: Path, algorithm: str, earlier: list[Path]) -> None:
        self._path = path
        self._open = path.with_name(path.name + ".open")
        same = [each for each in earlier if algorithm_of(each) == algorithm]
        self._earlier = [Earlier(each) for each in same]
        self._file = self._open.open("wb", buffering=256 << 10)
        os.chmod(self._open, 0o600)
        self._file.write(HEADER + algorithm.encode() + b"\n")
        self._links: list[tuple[Entry, bytes]] = []
        self.unknown = 0

    def add_files(self, prefix: bytes, rows: list[Row]) -> None:
        """Note regular files of the source called `prefix`."""
        start = prefix + b"/"
        self._file.writelines(
            b"f\t%b\t%b\t%b\t%b\t%b%b\n"
            % (
                mode,
                size,
                mtime,
                checksum or self._carried(start + name, size, mtime),
                start,
                name,
            )
            for _, size, checksum, mtime, mode, name, _ in rows
        )

    def add(self, prefix: bytes, item: Item) -> None:
        """Note anything else; directories are not noted."""
        kind = item.kind
        if kind not in (b"f", b"L"):
            return
        whole = prefix + b"/" + item.name
        checksum = item.checksum or NONE
        if kind == b"f" and checksum == NONE:
            if item.target:
                entry = Entry(kind, item.mode, item.size, item.mtime, NONE, whole)
                self._links.append((entry, prefix + b"/" + item.target))
                return
            checksum = self._carried(whole, b"%d" % item.size, item.mtime)
        self._write(Entry(kind, item.mode, item.size, item.mtime, checksum, whole))

    def flush(self) -> None:
        """Let what was noted outlive this process."""
        self._file.flush()

    def finish(self) -> None:
        """Put the manifest in its place for good."""
        self._write_links()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._open, self._path)
        sync_directory(self._path.parent)

    def leave(self) -> None:
        """Stop here; the next run reads it as an earlier one."""
        with contextlib.suppress(OSError):
            self._write_links()
        self._file.close()

    def _write_links(self) -> None:
        """The further names of a file take the checksum of the first one."""
        wanted = {leader for _, leader in self._links}
        if not wanted:
            return
        self._file.flush()
        sums = {entry.name: entry.checksum for entry in read(self._open) if entry.name in wanted}
        links, self._links = self._links, []
        for entry, leader in links:
            checksum = sums.get(leader, NONE)
            self.unknown += checksum == NONE
            self._write(entry._replace(checksum=checksum))

    def _carried(self, name: bytes, size: bytes, mtime: bytes) -> bytes:
        for earlier in self._earlier:
            checksum = earlier.find(name, size, mtime)
            if checksum is not None:
                return checksum
        self.unknown += 1
        return NONE

    def _write(self, entry: Entry) -> None:
        kind, mode, size, mtime, checksum, name = entry
        self._file.write(b"%b\t%b\t%d\t%b\t%b\t%b\n" % (kind, mode, size, mtime, checksum, name))


def algorithm_of(path: Path) -> str | None:
    """Return what the checksums of a manifest are, or None: it is none."""
    try:
        with path.open("rb") as file:
            line = file.readline(256)
    except OSError:
        return None
    return line[len(HEADER) :].strip().decode("ascii", "replace") if _is_header(line) else None


def read(path: Path) -> Iterator[Entry]:
    """Yield the entries; a last line that was broken off, or is none, is left out."""
    for kind, mode, size, mtime, checksum, name in _rows(path):
        yield Entry(kind, mode, int(size), mtime, checksum, name)


def _rows(path: Path) -> Iterator[list[bytes]]:
    try:
        file = path.open("rb", buffering=256 << 10)
    except OSError:
        return
    with file:
        if not _is_header(file.readline(256)):
            return
        for line in file:
            parts = line.split(b"\t", 5)
            if len(parts) == 6 and line.endswith(b"\n") and parts[2].isdigit():
                parts[5] = parts[5][:-1]
                yield parts


def sync_directory(path: Path) -> None:
    """Make a renamed file's new name survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_header(line: bytes) -> bool:
    return line.startswith(HEADER) and line.endswith(b"\n")
