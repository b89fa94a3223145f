"""What each family cuts so that an outgoing event fits.

Rules: an event that fits is left alone. A command's streams keep head and tail; samples and lists
lose entries from their end and say `truncated`; sentences lose their end. The data of shells and
of streamed commands, and what a hub sends, is never cut: a sender splits it with `split_text`, and
an event that is too large all the same is a `WireError`.

Source: contract 1.1, 1.4.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from itertools import accumulate
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from wire.admin import OMITTED, AdminResult
from wire.backup import (
    BackupComplete,
    BackupFailed,
    BackupPlanned,
    BackupProgress,
    BackupResult,
)
from wire.errors import WireError
from wire.events import Message, encode, event_bytes
from wire.files import DirListResponse, LogTailClosed, LogTailOutput
from wire.keys import KeysSyncResult
from wire.limits import MAX_EVENT_BYTES
from wire.shell import ShellClosed
from wire.telemetry import Stats
from wire.textcut import encoded_bytes, head, split_text, tail
from wire.tools import ToolCatalog, ToolProgress, ToolResult
from wire.updates import AgentUpdateResult
from wire.workers import WorkerResult, Workers

__all__ = ["encode_within", "shorten", "split_text"]

# Attributes in the order in which they are given up: a list loses entries, a text its end, any
# other value goes as a whole.
_CUTS: dict[type, tuple[str, ...]] = {
    AdminResult: ("command", "detail", "result.error", "token"),
    BackupPlanned: ("files", "modifies", "job"),
    BackupProgress: ("file",),
    BackupComplete: ("errors",),
    BackupFailed: ("detail", "error"),
    BackupResult: ("result", "schedules", "detail", "error"),
    KeysSyncResult: ("detail", "warn", "error", "user"),
    LogTailOutput: ("data",),
    LogTailClosed: ("reason",),
    DirListResponse: ("entries", "error", "path"),
    ShellClosed: ("detail", "reason"),
    Stats: ("data.disk", "data.net", "data.hostname", "data.kernel_version"),
    ToolProgress: ("data", "message"),
    ToolResult: ("result", "detail", "error"),
    ToolCatalog: ("tools",),
    AgentUpdateResult: ("detail", "error", "repo"),
    Workers: ("items",),
    WorkerResult: ("detail", "error"),
}
_COMMAND_SHARE = 4
_ELLIPSIS = "…"
_ELLIPSIS_BYTES = 3
_FLAG_BYTES = len(',"truncated":true')
_ENCODER = msgspec.json.Encoder()

S = TypeVar("S", bound=msgspec.Struct)


def encode_within(message: Message, limit: int = MAX_EVENT_BYTES) -> tuple[str, bytes]:
    """Encode a message, shortened if it must be.

    Args:
        message: any row of the table.
        limit: the most that the event may measure, in bytes; see `limits.event_limit`.

    Returns:
        the event's name and its payload as JSON.

    Raises:
        WireError: `too_large`: its family cuts nothing, or not enough can be cut.
    """
    if not (isinstance(message, AdminResult) and _output_chars(message) > limit):
        try:
            return encode(message, limit)
        except WireError as error:
            if error.reason != "too_large":
                raise
    return encode(shorten(message, limit), limit)


def shorten(message: Message, limit_bytes: int) -> Message:
    """Make a message fit, as its family says.

    Args:
        message: any row of the table.
        limit_bytes: the most that its event may measure.

    Returns:
        the same message if it fits, else a shorter one of the same kind.

    Raises:
        WireError: `too_large`, or it cannot be encoded at all.
    """
    if isinstance(message, AdminResult):
        try:
            # An echo of the request must not take the room of what is said about it.
            excess = encoded_bytes(message.command) - limit_bytes // _COMMAND_SHARE
            if excess > 0:
                message = _cut(message, "command", excess)
            message = _shorten_streams(message, limit_bytes)
        except UnicodeEncodeError as error:
            raise WireError("admin_result", "bad_request", type(error).__name__) from error
    excess = _excess(message, limit_bytes)
    for path in _CUTS.get(type(message), ()):
        if excess <= 0:
            return message
        message = _cut(message, path, excess)
        excess = _excess(message, limit_bytes)
    if excess > 0:
        encode(message, limit_bytes)  # says which event it is, and raises
    return message


def _excess(message: Message, limit_bytes: int) -> int:
    name, payload = encode(message, sys.maxsize)
    return event_bytes(name, payload) - limit_bytes


def _cut(holder: S, path: str, excess: int) -> S:
    """Take at least `excess` bytes, if it can be, from one attribute."""
    name, _, rest = path.partition(".")
    value = getattr(holder, name)
    if rest:
        return replace(holder, **{name: _cut(value, rest, excess)})
    if value is None:
        return holder
    changes: dict[str, Any] = {}
    if hasattr(holder, "truncated") and not isinstance(value, str):
        changes["truncated"] = True
        excess += _FLAG_BYTES
    if isinstance(value, str):
        changes[name] = _cut_text(value, excess, keep_end=isinstance(holder, LogTailOutput))
    elif isinstance(value, tuple | list):
        changes[name] = _cut_list(value, excess)
    else:
        changes[name] = None
    return replace(holder, **changes)


def _cut_text(text: str, excess: int, keep_end: bool) -> str:
    room = encoded_bytes(text) - excess - _ELLIPSIS_BYTES
    if room <= 0:
        return ""
    return _ELLIPSIS + tail(text, room) if keep_end else head(text, room) + _ELLIPSIS


def _cut_list(items: tuple[Any, ...] | list[Any], excess: int) -> tuple[Any, ...]:
    ends = list(accumulate(len(_ENCODER.encode(item)) + 1 for item in items))
    room = ends[-1] - excess if ends else 0
    return tuple(items[: bisect_right(ends, room)])


def _output_chars(message: AdminResult) -> int:
    return len(message.result.stdout) + len(message.result.stderr)


def _shorten_streams(message: AdminResult, limit_bytes: int) -> AdminResult:
    """Keep head and tail of both streams; a small one is left whole while the other is cut."""
    out, err = message.result.stdout, message.result.stderr
    bare = _with_streams(message, "", "")
    room = -_excess(bare, limit_bytes)
    out_size, err_size = _size(out, limit_bytes), _size(err, limit_bytes)
    if out_size + err_size <= room:
        return message
    summary = message.result.summary
    summary = replace(
        summary,
        truncated=True,
        stdout_bytes=_known(summary.stdout_bytes, out),
        stderr_bytes=_known(summary.stderr_bytes, err),
    )
    bare = replace(bare, result=replace(bare.result, summary=summary))
    room = max(0, -_excess(bare, limit_bytes))
    return _with_streams(
        bare,
        _head_and_tail(out, out_size, max(room // 2, room - err_size)),
        _head_and_tail(err, err_size, max(room // 2, room - out_size)),
    )


def _with_streams(message: AdminResult, stdout: str, stderr: str) -> AdminResult:
    return replace(message, result=replace(message.result, stdout=stdout, stderr=stderr))


def _size(text: str, enough: int) -> int:
    """Measure `text`; how much larger than `enough` it is need not be known exactly."""
    return len(text) if len(text) > enough else encoded_bytes(text)


def _known(count: int | None, text: str) -> int:
    return len(text.encode(errors="replace")) if count is None else count


def _head_and_tail(text: str, size: int, room: int) -> str:
    """Cut the middle; where it was cut before, the mark of that moves along."""
    if size <= room:
        return text
    room -= encoded_bytes(OMITTED)
    if room <= 0:
        return ""
    before, mark, after = text.partition(OMITTED)
    if not mark:
        before = after = text
    first = head(before, max(room // 2, room - _size(after, room)))
    return first + OMITTED + tail(after, room - encoded_bytes(first))
