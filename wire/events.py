"""The table: which event, in which direction, carries which message. And both ways through it.

Rules: `_TO_AGENT` and `_TO_SERVER` are the only place where an event's name meets its class; the
unions beside them let a `match` be checked for completeness. `decode` is total: a message or a
`WireError`. `encode` gives every payload its event's name as `type` and as `t`, which some servers
dispatch on; on the way in both are ignored like any unknown field.

Source: contract 1.1 to 1.9.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias, overload

import msgspec

from wire import salvage, strictjson
from wire.admin import AdminCredit, AdminOutput, AdminResult, AdminRun
from wire.backup import (
    BackupCancel,
    BackupComplete,
    BackupFailed,
    BackupLs,
    BackupPlan,
    BackupPlanned,
    BackupProgress,
    BackupPrune,
    BackupRestore,
    BackupResult,
    BackupScheduleList,
    BackupScheduleSet,
    BackupStart,
    BackupVerify,
)
from wire.errors import WireError
from wire.files import (
    DirListRequest,
    DirListResponse,
    LogTailClosed,
    LogTailOutput,
    LogTailStart,
    LogTailStop,
)
from wire.keys import KeysSyncResult, SyncKeys
from wire.limits import ENVELOPE_BYTES, MAX_EVENT_BYTES, MAX_INBOUND_BYTES
from wire.link import HelloAck, Ping, PollNow, Pong
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellClosed,
    ShellCredit,
    ShellGap,
    ShellInput,
    ShellOutput,
    ShellResize,
    ShellResume,
    ShellStart,
)
from wire.telemetry import Stats
from wire.tools import ToolCall, ToolCancel, ToolCatalog, ToolProgress, ToolResult
from wire.updates import AgentUpdate, AgentUpdateResult, CheckUpdates
from wire.workers import WorkerList, WorkerRestart, WorkerResult, Workers

ToAgent: TypeAlias = (
    HelloAck
    | Ping
    | Pong
    | AdminRun
    | AdminCredit
    | ShellStart
    | ShellInput
    | ShellResize
    | ShellClose
    | ShellCredit
    | ShellAck
    | ShellResume
    | BackupPlan
    | BackupStart
    | BackupCancel
    | BackupVerify
    | BackupRestore
    | BackupLs
    | BackupPrune
    | BackupScheduleList
    | BackupScheduleSet
    | SyncKeys
    | LogTailStart
    | LogTailStop
    | DirListRequest
    | CheckUpdates
    | AgentUpdate
    | WorkerList
    | WorkerRestart
    | PollNow
    | ToolCall
    | ToolCancel
)

ToServer: TypeAlias = (
    Ping
    | Pong
    | Stats
    | ShellOutput
    | ShellClosed
    | ShellGap
    | AdminResult
    | AdminOutput
    | BackupPlanned
    | BackupProgress
    | BackupComplete
    | BackupFailed
    | BackupResult
    | KeysSyncResult
    | LogTailOutput
    | LogTailClosed
    | DirListResponse
    | AgentUpdateResult
    | Workers
    | WorkerResult
    | ToolProgress
    | ToolResult
    | ToolCatalog
)

Message: TypeAlias = ToAgent | ToServer


class Direction(Enum):
    """Which way an event travels."""

    TO_AGENT = "to_agent"
    TO_SERVER = "to_server"


_TO_AGENT: dict[str, type[ToAgent]] = {
    "hello_ack": HelloAck,
    "ping": Ping,
    "pong": Pong,
    "admin_run": AdminRun,
    "admin_credit": AdminCredit,
    "shell_start": ShellStart,
    "shell_input": ShellInput,
    "shell_resize": ShellResize,
    "shell_close": ShellClose,
    "shell_credit": ShellCredit,
    "shell_ack": ShellAck,
    "shell_resume": ShellResume,
    "backup_plan": BackupPlan,
    "backup_start": BackupStart,
    "backup_cancel": BackupCancel,
    "backup_verify": BackupVerify,
    "backup_restore": BackupRestore,
    "backup_ls": BackupLs,
    "backup_prune": BackupPrune,
    "backup_schedule_list": BackupScheduleList,
    "backup_schedule_set": BackupScheduleSet,
    "sync_keys": SyncKeys,
    "log_tail_start": LogTailStart,
    "log_tail_stop": LogTailStop,
    "dir_list_request": DirListRequest,
    "check_updates": CheckUpdates,
    "agent_update": AgentUpdate,
    "worker_list": WorkerList,
    "worker_restart": WorkerRestart,
    "poll_now": PollNow,
    "tool_call": ToolCall,
    "tool_cancel": ToolCancel,
}

_TO_SERVER: dict[str, type[ToServer]] = {
    "ping": Ping,
    "pong": Pong,
    "stats": Stats,
    "shell_output": ShellOutput,
    "shell_closed": ShellClosed,
    "shell_gap": ShellGap,
    "admin_result": AdminResult,
    "admin_output": AdminOutput,
    "backup_plan": BackupPlanned,
    "backup_progress": BackupProgress,
    "backup_complete": BackupComplete,
    "backup_error": BackupFailed,
    "backup_result": BackupResult,
    "keys_sync_result": KeysSyncResult,
    "log_tail_output": LogTailOutput,
    "log_tail_closed": LogTailClosed,
    "dir_list_response": DirListResponse,
    "agent_update_result": AgentUpdateResult,
    "workers": Workers,
    "worker_result": WorkerResult,
    "tool_progress": ToolProgress,
    "tool_result": ToolResult,
    "tool_catalog": ToolCatalog,
}

TABLE: dict[Direction, dict[str, type[ToAgent]] | dict[str, type[ToServer]]] = {
    Direction.TO_AGENT: _TO_AGENT,
    Direction.TO_SERVER: _TO_SERVER,
}

# These stay in the outbox until they are acknowledged, and carry `id` to a peer with `ack`.
FINAL_EVENTS = frozenset(
    {
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
)

_NAMES: dict[type, str] = {cls: name for rows in TABLE.values() for name, cls in rows.items()}
_PREFIXES = {cls: f'{{"type":"{name}","t":"{name}"'.encode() for cls, name in _NAMES.items()}
_DETAIL_CHARS = 200
_ENCODER = msgspec.json.Encoder()


def event_name(message: Message) -> str:
    """Give the event that carries a message."""
    return _NAMES[type(message)]


def event_bytes(name: str, payload: bytes) -> int:
    """Measure an event as it travels, `ENVELOPE_BYTES` for its packet included."""
    return len(payload) + len(name) + ENVELOPE_BYTES


@overload
def decode(direction: Literal[Direction.TO_AGENT], name: str, payload: bytes | str) -> ToAgent: ...
@overload
def decode(
    direction: Literal[Direction.TO_SERVER], name: str, payload: bytes | str
) -> ToServer: ...
@overload
def decode(direction: Direction, name: str, payload: bytes | str) -> Message: ...
def decode(direction: Direction, name: str, payload: bytes | str) -> Message:
    """Read one inbound event.

    Args:
        direction: which way it came.
        name: the event's name as it came.
        payload: the JSON text of its one argument; empty or `null` when there was none.

    Returns:
        the message, valid and typed.

    Raises:
        WireError: anything else; answer with the family's error, or count it.
    """
    cls = TABLE[direction].get(name)
    if cls is None:
        raise WireError(name, "unknown_event", f"no such event {direction.value}")
    if not payload or payload == (b"null" if isinstance(payload, bytes) else "null"):
        payload = b"{}"
    if _is_too_large(payload):
        detail = f"over {MAX_INBOUND_BYTES} bytes"
        raise WireError(name, "too_large", detail, salvage.from_text(payload))
    try:
        value = strictjson.parse(payload)
    except (ValueError, RecursionError) as error:
        ids = salvage.from_text(payload)
        raise WireError(name, "bad_request", _not_json(error), ids, is_malformed=True) from error
    try:
        return msgspec.convert(value, cls)
    except (ValueError, RecursionError) as error:
        ids = salvage.from_object(value)
        raise WireError(name, "bad_request", str(error)[:_DETAIL_CHARS], ids) from error


@overload
def decode_object(direction: Literal[Direction.TO_AGENT], name: str, value: object) -> ToAgent: ...
@overload
def decode_object(
    direction: Literal[Direction.TO_SERVER], name: str, value: object
) -> ToServer: ...
@overload
def decode_object(direction: Direction, name: str, value: object) -> Message: ...
def decode_object(direction: Direction, name: str, value: object) -> Message:
    """Read one inbound event whose argument a library has parsed already.

    Raises:
        WireError: as `decode` does.
    """
    try:
        text = strictjson.dump(value)
    except (ValueError, TypeError, RecursionError) as error:
        ids = salvage.from_object(value)
        raise WireError(name, "bad_request", _not_json(error), ids) from error
    return decode(direction, name, text)


def encode(message: Message, limit: int = MAX_EVENT_BYTES) -> tuple[str, bytes]:
    """Write one outgoing event.

    Args:
        message: any row of the table.
        limit: the most it may measure, in bytes, as `event_bytes` does; see `limits.event_limit`.

    Returns:
        the event's name and its payload as JSON.

    Raises:
        WireError: `too_large`, or it holds what JSON cannot (half a surrogate pair).
    """
    name = event_name(message)
    try:
        body = _ENCODER.encode(message)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(name, "bad_request", type(error).__name__) from error
    payload = _PREFIXES[type(message)] + (b"}" if len(body) == 2 else b"," + body[1:])
    if event_bytes(name, payload) > limit:
        raise WireError(name, "too_large", f"{len(payload)} bytes do not fit {limit}")
    return name, payload


def _is_too_large(payload: bytes | str) -> bool:
    if len(payload) > MAX_INBOUND_BYTES:
        return True
    if isinstance(payload, bytes) or len(payload) * 3 <= MAX_INBOUND_BYTES or payload.isascii():
        return False
    return len(payload.encode(errors="replace")) > MAX_INBOUND_BYTES


def _not_json(error: Exception) -> str:
    """Say what is wrong without quoting the payload."""
    if isinstance(error, UnicodeError):
        return "not valid Unicode"
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, TypeError):
        return "not a JSON value"
    return f"not strict JSON: {error}"
