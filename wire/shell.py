"""Shells: one terminal session each.

Rules: `data` is text, verbatim, NUL included; with `encoding` it is base64 of raw bytes. `offset`
counts bytes of the raw stream and is the event's first byte. `shell_closed` is final.

Source: contract 1.2, 1.3, 1.7. The reasons are in `wire.reasons`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from wire import features
from wire.fields import LISTED, Cells, Count, Grant, Id, Name, Payload, Signal

# -- to the agent -------------------------------------------------------------------------------


class ShellStart(Payload, frozen=True, kw_only=True):
    """Open a session; `operator` and `reason` say for whom and why."""

    OURS: ClassVar = {"cols": LISTED, "rows": LISTED, "operator": LISTED, "reason": LISTED}

    session: Id
    cols: Cells | None = None
    rows: Cells | None = None
    operator: Name | None = None
    reason: str | None = None


class ShellInput(Payload, frozen=True, kw_only=True):
    """Keystrokes, in order."""

    session: Id
    data: str


class ShellResize(Payload, frozen=True, kw_only=True):
    """A new size; one that is out of range is no message at all and is ignored."""

    session: Id
    cols: Cells
    rows: Cells


class ShellClose(Payload, frozen=True, kw_only=True):
    """End the session's whole process tree."""

    session: Id


class ShellCredit(Payload, frozen=True, kw_only=True):
    """So many more bytes of raw output may be sent."""

    session: Id
    bytes: Grant


class ShellAck(Payload, frozen=True, kw_only=True):
    """Everything before `offset` has been received."""

    session: Id
    offset: Count


class ShellResume(Payload, frozen=True, kw_only=True):
    """Send again from `offset`."""

    session: Id
    offset: Count


# -- to the server ------------------------------------------------------------------------------


class ShellOutput(Payload, frozen=True, kw_only=True):
    """Output. `encoding` is set by a sender that knows its peer has `base64`."""

    OURS: ClassVar = {"offset": features.RESUME}

    session: Id
    data: str
    offset: Count | None = None
    encoding: Literal["base64"] | None = None


class ShellClosed(Payload, frozen=True, kw_only=True):
    """The session has ended or was refused; after its last output, once."""

    OURS: ClassVar = {"detail": LISTED, "id": features.ACK}

    session: Id
    code: int | None = None
    signal: Signal | None = None
    reason: str | None = None
    detail: str | None = None
    id: Id | None = None


class ShellGap(Payload, frozen=True, kw_only=True):
    """Output that is lost: the bytes from `start` up to, not including, `end`."""

    session: Id
    start: Count = msgspec.field(name="from")
    end: Count = msgspec.field(name="to")
