r"""Asciicast v3: one recording as lines of JSON. Pure: bytes in, bytes out.

Rules: an event's time is its distance to the one before it, rounded so that the sum never drifts.
Behind every flush stands a comment, `# offset N at S`: everything below byte N of the terminal's
output is in the lines above it, S seconds after the beginning; a hub that was killed goes on from
there. Players ignore comments.
Source: docs.asciinema.org/manual/asciicast/v3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from hub.errors import BadRequestError

MEDIA_TYPE = "application/x-asciicast"
Code = Literal["o", "r", "m", "x", "i"]
_ENCODER = msgspec.json.Encoder()
_COMMENT = re.compile(rb"# offset (\d{1,16}) at (\d{1,12}\.\d{6})\n")


class Term(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The terminal at the beginning."""

    cols: int
    rows: int
    type: str | None = None


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line; `timestamp` in seconds since the epoch."""

    version: Literal[3]
    term: Term
    timestamp: int | None = None
    title: str | None = None


class Event(NamedTuple):
    """One line: `interval_s` after the one before it."""

    interval_s: float
    code: str
    data: str


class Mark(NamedTuple):
    """What the last comment tells, and where in the file the line after it begins."""

    offset: int
    at_s: float
    position: int


class Writer:
    """Makes the lines of one recording.

    Args:
        at_s: seconds since its beginning that the lines before tell of.
    """

    def __init__(self, at_s: float = 0.0) -> None:
        self._said_us = round(at_s * 1e6)

    def event(self, at_s: float, code: Code, data: str) -> bytes:
        """Write an event that happened `at_s` seconds after the beginning."""
        interval_us = max(0, round(at_s * 1e6) - self._said_us)
        self._said_us += interval_us
        return _ENCODER.encode([interval_us / 1e6, code, data]) + b"\n"

    def mark(self, offset: int) -> bytes:
        """Write the comment that stands behind a flush."""
        return b"# offset %d at %d.%06d\n" % (offset, *divmod(self._said_us, 1_000_000))


def header(cols: int, rows: int, started_s: int, title: str) -> bytes:
    """Write the first line of a recording."""
    term = Term(cols=cols, rows=rows, type="xterm-256color")
    return _ENCODER.encode(Header(version=3, term=term, timestamp=started_s, title=title)) + b"\n"


def last_mark(tail: bytes, position: int = 0) -> Mark | None:
    """Find the last comment in the end of a file.

    Args:
        tail: the file's last bytes.
        position: where in the file they begin.
    """
    marks = list(_COMMENT.finditer(tail))
    if not marks:
        return None
    found = marks[-1]
    return Mark(int(found[1]), float(found[2]), position + found.end())


def read(lines: Iterable[bytes]) -> tuple[Header, Iterator[Event]]:
    """Read a recording; its end may be missing.

    Raises:
        BadRequestError: `bad_recording`; from the iterator, too.
    """
    rest = iter(lines)
    try:
        found = msgspec.json.decode(next(rest, b""), type=Header)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"no asciicast v3: {error}", code="bad_recording") from error
    return found, events(rest)


def events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Read the lines behind a header.

    Raises:
        BadRequestError: `bad_recording`, from the iterator.
    """
    for line in lines:
        if line.startswith(b"#") or not line.strip():
            continue
        if not line.endswith(b"\n"):  # cut off while it was written
            return
        try:
            yield msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError as error:
            raise BadRequestError(f"no event: {error}", code="bad_recording") from error


def outputs(found: Iterable[Event]) -> str:
    """Return what the terminal printed in these events."""
    return "".join(event.data for event in found if event.code == "o")
