"""The errors of the wire house: what an inbound or outgoing event can have wrong with it.

Rule: nothing else leaves this house. A `WireError` names the event, a reason that may be sent to
the peer, a sentence for the log, and whatever correlation fields could be saved from the payload,
so that a family can answer with its own error. It never holds a payload's data.

Source: contract 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

WireReason = Literal["bad_request", "too_large", "unknown_event"]
AuthReason = Literal["auth_malformed", "auth_failed", "auth_expired"]


class WireError(Exception):
    """An event that is not what the contract says, or does not fit.

    Attributes:
        event: the event's name as it came.
        reason: `bad_request` (wrong type or shape), `too_large`, `unknown_event`.
        detail: one sentence for the log; no payload data in it.
        ids: correlation fields by their wire name (`session`, `planId`, …), each a string of sane
            length; best effort, possibly empty.
        is_malformed: it is not even strict JSON.
    """

    def __init__(
        self,
        event: str,
        reason: WireReason,
        detail: str,
        ids: Mapping[str, str] | None = None,
        *,
        is_malformed: bool = False,
    ) -> None:
        super().__init__(f"{event[:64]}: {reason}: {detail}")
        self.event = event
        self.reason: WireReason = reason
        self.detail = detail
        self.ids: Mapping[str, str] = ids or {}
        self.is_malformed = is_malformed


class AuthError(Exception):
    """A connect query that is refused.

    Attributes:
        reason: what the peer is told.
        hint: for the audit row alone: `ts_unit`, `skew=-360`, or "".
    """

    def __init__(self, reason: AuthReason, hint: str = "") -> None:
        super().__init__(f"{reason} {hint}".strip())
        self.reason: AuthReason = reason
        self.hint = hint
