"""What is said while connecting: the CONNECT packet's `auth`, and a refusal.

Neither is an event. `auth` is what a foreign server ignores; a refusal is what a foreign server
may shape as it likes, so reading one never fails.

Source: contract 1.1, 1.7; the shared constants of the fault cases.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from wire import limits
from wire.errors import WireError
from wire.fields import Count, Id, Name, Part, Payload
from wire.link import FeatureList


class JobState(Part, frozen=True, kw_only=True):
    """A job that this endpoint still has: `id` is its session, jobId or planId."""

    id: Id
    kind: Name
    state: Name
    offset: Count | None = None


class ConnectAuth(Payload, frozen=True, kw_only=True):
    """The agent's `auth`. `boot_id` is the kernel's, or a random one kept for this boot."""

    agent_version: Name
    boot_id: Id
    features: FeatureList
    jobs: Annotated[tuple[JobState, ...], Meta(max_length=limits.MAX_JOBS)]


class Refusal(Part, frozen=True, kw_only=True):
    """Why a server did not let us in; both times in milliseconds."""

    reason: str
    server_ts: float | None = None
    retry_after_ms: float | None = None


def auth_object(auth: ConnectAuth) -> dict[str, Any]:
    """Give `auth` as the JSON object that a Socket.IO client takes."""
    built: dict[str, Any] = msgspec.to_builtins(auth)
    return built


def read_auth(value: object) -> ConnectAuth | None:
    """Read a peer's `auth`, as the Socket.IO library parsed it.

    Returns:
        None for a foreign agent, which sends none.

    Raises:
        WireError: it is ours and malformed; refuse the connection.
    """
    if not isinstance(value, dict) or "features" not in value:
        return None
    try:
        return msgspec.convert(value, ConnectAuth)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError("connect", "bad_request", str(error)[: limits.MAX_NAME_CHARS]) from error


def refusal_object(refusal: Refusal) -> dict[str, Any]:
    """Give a refusal as the data of a `connect_error`."""
    data = {"serverTs": refusal.server_ts, "retryAfterMs": refusal.retry_after_ms}
    return {
        "message": refusal.reason,
        "data": {name: value for name, value in data.items() if value is not None},
    }


def read_refusal(value: object) -> Refusal:
    """Read the data of a `connect_error`, whatever it is. Never fails."""
    if isinstance(value, str):
        return Refusal(reason=_sentence(value))
    if not isinstance(value, dict):
        return Refusal(reason="refused")
    data = value.get("data")
    if not isinstance(data, dict):
        data = {}
    return Refusal(
        reason=_sentence(value.get("message")),
        server_ts=_number(data.get("serverTs")),
        retry_after_ms=_number(data.get("retryAfterMs")),
    )


def _sentence(value: object) -> str:
    """Bound what goes to a log and to `status`."""
    if not isinstance(value, str) or not value.strip():
        return "refused"
    text = value[: limits.MAX_NAME_CHARS]
    return "".join(char if char.isprintable() else " " for char in text)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
