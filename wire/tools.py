"""Local tools: called by the hub, judged by the machine's own policy.

Rules: the feature `tools`. `args` is any JSON object: the tool's own schema checks it
(`bad_args`). `tool_result` is final.

Source: contract 1.8.
"""

from __future__ import annotations

from typing import Any, ClassVar

from wire import features
from wire.fields import Id, Millis, Name, Part, Payload, Seconds

# -- to the agent -------------------------------------------------------------------------------


class ToolCall(Payload, frozen=True, kw_only=True):
    """Call one tool."""

    call_id: Id
    tool: Name
    args: dict[str, Any]
    timeout_sec: Seconds | None = None


class ToolCancel(Payload, frozen=True, kw_only=True):
    """Give up a call."""

    call_id: Id


# -- to the server ------------------------------------------------------------------------------


class ToolProgress(Payload, frozen=True, kw_only=True):
    """How far a call is."""

    call_id: Id
    percent: float | None = None
    message: str | None = None
    data: Any = None


class ToolResult(Payload, frozen=True, kw_only=True):
    """A call's end; a result that did not fit is left out and `truncated` says so."""

    OURS: ClassVar = {"id": features.ACK}

    call_id: Id
    ok: bool
    duration_ms: Millis
    result: Any = None
    error: str | None = None
    detail: str | None = None
    truncated: bool | None = None
    id: Id | None = None


class Tool(Part, frozen=True, kw_only=True):
    """One tool of this machine; `schema` is the JSON Schema of its `args`."""

    name: Name
    description: str
    schema: dict[str, Any]
    risk: Name


class ToolCatalog(Payload, frozen=True, kw_only=True):
    """Every tool; sent after `hello_ack` and on change."""

    tools: tuple[Tool, ...]
    truncated: bool | None = None
