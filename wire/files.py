"""The agent's own log, followed, and one directory, listed.

Rules: `lines` is any whole number, clamped by the family to 1..LOG_TAIL_LINES_MAX; a `mode` other
than "local" and a path that is not allowed are the family's to refuse.

Source: contract 1.2, 1.6.
"""

from __future__ import annotations

from typing import Literal

from wire.fields import Amount, Id, Name, Part, Payload, Stamp

# -- to the agent -------------------------------------------------------------------------------


class LogTailStart(Payload, frozen=True, kw_only=True):
    """Send the last lines, then what follows."""

    session: Id
    lines: int | None = None


class LogTailStop(Payload, frozen=True, kw_only=True):
    """Stop following."""

    session: Id


class DirListRequest(Payload, frozen=True, kw_only=True):
    """List one directory; `clientId` and `requestId` come back with the answer."""

    client_id: Name
    request_id: Id
    mode: Name
    path: str


# -- to the server ------------------------------------------------------------------------------


class LogTailOutput(Payload, frozen=True, kw_only=True):
    """Lines of the log."""

    session: Id
    data: str
    ts: Stamp


class LogTailClosed(Payload, frozen=True, kw_only=True):
    """Nothing follows."""

    session: Id
    reason: str
    ts: Stamp


class DirEntry(Part, frozen=True, kw_only=True):
    """One name in a directory."""

    name: str
    type: Literal["dir", "file"]
    size: Amount | None = None


class DirListResponse(Payload, frozen=True, kw_only=True):
    """The entries; with `error`, none."""

    client_id: Name
    request_id: Id
    mode: Name
    path: str
    entries: tuple[DirEntry, ...]
    error: str | None = None
    truncated: bool | None = None
