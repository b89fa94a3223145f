"""Updates, from the configured and signed source alone: a `repo` in a request is ignored.

Rules: a request may come without a payload. `agent_update_result` is final.

Source: contract 1.2, 1.6.
"""

from __future__ import annotations

from typing import ClassVar

from wire import features
from wire.fields import Id, Name, Payload, Stamp


class CheckUpdates(Payload, frozen=True, kw_only=True):
    """Look for a newer version, now or `at`."""

    at: Stamp | None = None


class AgentUpdate(Payload, frozen=True, kw_only=True):
    """Move to `tag`, or to the newest, now or `at`."""

    tag: Name | None = None
    at: Stamp | None = None


class AgentUpdateResult(Payload, frozen=True, kw_only=True):
    """What came of either request."""

    OURS: ClassVar = {"id": features.ACK}

    ok: bool
    ts: Stamp
    repo: str | None = None
    tag: Name | None = None
    error: str | None = None
    detail: str | None = None
    id: Id | None = None
