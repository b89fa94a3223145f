"""rsync's standard output, line by line: what is done with each file, and how far it is.

The format is our own (`OUT_FORMAT`), control characters in names stay escaped by rsync, so a line
is a line whatever a name holds. Rules: total; a line that is none of ours is counted, never
trusted; a line is cut at 64 KiB. Runs once for each file of a million beside an rsync that takes
15 us for one: so the lines of regular files come as bare rows, a chunk of them taken apart by one
regular expression (2 us a file where one object and one call for each were 10).
Source: rsync(1), `--out-format`, `--itemize-changes`, `--info=progress2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

# No name holds two slashes in a row: they end it, before where a link points.
OUT_FORMAT = "%i|%l|%C|%M|%B|%n//%L"
MAX_LINE_BYTES = 64 << 10

# change, size, checksum, mtime, mode, name, and nothing: of a regular file that is no further name
# of another one.
Row: TypeAlias = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes]
_ROWS = re.compile(
    rb"([<>.ch]f.{9})\|([0-9]{1,18})\|(?:([0-9a-f]+)| *)\|([^|\n]*)\|([^|\n]*)\|(.*)//\n|(.+)\n?|\n"
)
_MAX_DIGITS = 18
_FIRST = frozenset(b"<>ch.*")
_HARD = ord("h")
_LINK = ord("L")
_PROGRESS = re.compile(rb"^\s*(\d+)\s+\d+%\s")
_SKIPPED = re.compile(rb'^skipping (non-regular file|mount-point dir) "?(.*?)"?$')
_ESCAPE = re.compile(rb"\\#([0-3][0-7]{2})")


class Item(NamedTuple):
    """One file. `name` as rsync writes it; a directory's ends in a slash."""

    change: bytes  # 11 characters, rsync(1) "itemize-changes"
    size: int
    checksum: bytes  # hexadecimal, or empty
    mtime: bytes  # UTC, `2026/11/21-22:07:23`
    mode: bytes  # `rwxr-xr-x`
    name: bytes
    target: bytes = b""  # of a symbolic link, or whose hard link it is

    @property
    def kind(self) -> bytes:
        return self.change[1:2]

    @property
    def is_deletion(self) -> bool:
        return self.change[0:1] == b"*"

    @property
    def is_new(self) -> bool:
        return self.change[2:3] == b"+"

    @property
    def is_unchanged(self) -> bool:
        return not self.change[2:].strip(b" .")

    @property
    def is_transferred(self) -> bool:
        return self.change[0:1] in (b"<", b">")


class Skipped(NamedTuple):
    """Something that is never copied: `special` or `mount`."""

    why: str
    name: bytes


class Meter(NamedTuple):
    """How many bytes the whole transfer has carried."""

    transferred: int


Line = Item | Skipped | Meter


class Batch(NamedTuple):
    """What a chunk said: regular files, and all else; each in rsync's order."""

    files: list[Row]
    others: list[Line]

    def lines(self) -> Iterator[Line]:
        """Yield everything as lines, for those who need no speed."""
        yield from map(item_of, self.files)
        yield from self.others


def item_of(row: Row) -> Item:
    """Return a row as an item."""
    change, size, checksum, mtime, mode, name, _ = row
    return Item(change, int(size), checksum, mtime, mode, name)


class Lines:
    """Turns chunks of output into what they say."""

    def __init__(self) -> None:
        self._rest = b""
        self._early = -1
        self.unknown = 0

    def feed(self, chunk: bytes) -> Batch:
        """Return what whole lines say, and a progress line as soon as it can be read.

        rsync writes the carriage return before such a line, so the end of one comes with the next.
        """
        whole, end, rest = (self._rest + chunk).replace(b"\r", b"\n").rpartition(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            rest = b""
            self.unknown += 1
        self._rest = rest
        rows: list[Row] = _ROWS.findall(whole + end)
        files = [row for row in rows if row[0]]
        parsed = [self._parse(row[6]) for row in rows if row[6]] if len(files) < len(rows) else []
        early = _PROGRESS.match(rest)
        if early is not None and int(early[1]) != self._early:
            self._early = int(early[1])
            parsed.append(Meter(self._early))
        return Batch(files, [line for line in parsed if line is not None])

    def end(self) -> Batch:
        """Return what a last line without its end says."""
        return self.feed(b"\n")

    def _parse(self, line: bytes) -> Line | None:
        if line[11:12] == b"|" and line[0] in _FIRST:
            try:
                change, size, checksum, mtime, mode, name = line.split(b"|", 5)
                if len(size) > _MAX_DIGITS:
                    raise ValueError
                target = b""
                if name.endswith(b"//") and change[0] != _HARD and change[1] != _LINK:
                    name = name[:-2]
                else:
                    name, _, target = name.partition(b"//")
                return Item(change, int(size), checksum.strip(), mtime, mode, name, target[4:])
            except ValueError:
                self.unknown += 1
                return None
        if not line or line.isspace():
            return None
        found = _PROGRESS.match(line)
        if found is not None:
            carried, told, self._early = int(found[1]), self._early, -1
            return None if carried == told else Meter(carried)
        skipped = _SKIPPED.match(line)
        if skipped is not None:
            return Skipped("special" if skipped[1] == b"non-regular file" else "mount", skipped[2])
        self.unknown += 1
        return None


def plain_name(name: bytes) -> bytes:
    """Undo rsync's escapes."""
    if b"\\#" not in name:
        return name
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), name)


def escaped_name(name: bytes) -> bytes:
    """Escape a name as rsync does with `-8` in the C locale."""
    if name.isascii() and name.isalnum():
        return name
    text = re.sub(rb"\\(?=#[0-9]{3})", rb"\\#134", name)
    return re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", lambda c: b"\\#%03o" % c[0][0], text)
