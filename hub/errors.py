"""The errors of the hub. Each is an RFC 9457 problem when it leaves by HTTP.

Rules: `code` is fixed and documented in docs/reference/errors.rst; `detail` names the input and the
cure and holds no secret, no path and no SQL. What a caller may not see is `not_found`, with the
same body as what does not exist.
"""

from __future__ import annotations

from typing import Any

from wire.connect import Refusal


class HubError(Exception):
    """The base. `status` is the HTTP status; `extra` are further members of the problem."""

    status = 500
    code = "internal"

    def __init__(self, detail: str = "", *, code: str | None = None, **extra: Any) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        self.extra = extra
        if code is not None:
            self.code = code


class BadRequestError(HubError):
    """The request itself is wrong; sending it again will not help."""

    status = 400
    code = "bad_request"


class UnauthorizedError(HubError):
    """Nobody is logged in, or the credential is no longer good."""

    status = 401
    code = "unauthenticated"


class LoginNeededError(UnauthorizedError):
    """Nobody is logged in, and a page was asked for: the log-in is shown."""


class ForbiddenError(HubError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"


class NotFoundError(HubError):
    """There is no such thing for this caller; another tenant's is no different."""

    status = 404
    code = "not_found"


class ConflictError(HubError):
    """The state of things forbids it: used up, exists already, changed meanwhile."""

    status = 409
    code = "conflict"


class TooLargeError(HubError):
    """The body is larger than may be."""

    status = 413
    code = "too_large"


class RateLimitedError(HubError):
    """Too many failures from there; `retry_after_s` is sent as Retry-After."""

    status = 429
    code = "rate_limited"

    def __init__(self, detail: str = "", *, retry_after_s: int = 60, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after_s = retry_after_s


class UnavailableError(HubError):
    """Try again: the database does not answer, or the agent is not linked."""

    status = 503
    code = "unavailable"


class StorageFullError(HubError):
    """The hub's disk is full; nothing was saved and nothing was acknowledged."""

    status = 507
    code = "no_space"


class AgentOfflineError(UnavailableError):
    """The agent has no live link."""

    code = "agent_offline"


class UnsupportedError(ConflictError):
    """The agent at the other end does not know how."""

    code = "unsupported"


class ForeignResultError(ConflictError):
    """A result for a job of another agent: dropped, audited."""

    code = "foreign_result"


class DuplicateResultError(ConflictError):
    """A result for a job that nobody knows, or that has one already: the first one stays."""

    code = "duplicate"


class ProtocolError(Exception):
    """A packet that is none; the sentence tells why, without the packet's data."""


class RefusalError(Exception):
    """A peer is not let into a namespace; it is told `refusal`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class SettingsError(Exception):
    """The hub cannot start as it is configured; the message names key, value and cure."""


class CliError(Exception):
    """A command cannot do what it was asked; the message is for a person.

    `reason` is the problem's code where the hub said no, `problem` all of it.
    """

    def __init__(
        self,
        message: str,
        exit_code: int,
        *,
        reason: str = "",
        problem: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.reason = reason
        self.problem = problem or {}
