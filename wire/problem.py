"""What a refused request is answered with: an RFC 9457 problem with a `code`.

Rules: programs look at `code` alone, `title` and `detail` are for people. The device token
endpoint repeats its code as `error`, which RFC 8628 clients read. Reading a problem never fails:
what stands between may answer with a page of its own.

Source: contract part 2; RFC 9457; RFC 8628, section 3.5; fault cases A and B.
"""

from __future__ import annotations

from enum import StrEnum

from wire import bodies
from wire.bodies import Body
from wire.errors import WireError
from wire.fields import Name


class Code(StrEnum):
    """Why a call is refused; docs/reference/http.rst has a line for each."""

    # Any call.
    BAD_REQUEST = "bad_request"  # 400
    TOO_LARGE = "too_large"  # 413
    RATE_LIMITED = "rate_limited"  # 429, with Retry-After
    UNAVAILABLE = "unavailable"  # 503, with Retry-After
    NO_SPACE = "no_space"  # 507
    NOT_FOUND = "not_found"  # 404
    FORBIDDEN = "forbidden"  # 403
    UNAUTHENTICATED = "unauthenticated"  # 401
    # Enrolment.
    TOKEN_UNKNOWN = "token_unknown"  # 401
    TOKEN_EXPIRED = "token_expired"  # 401
    TOKEN_USED = "token_used"  # 409, with `nonce` for whoever shows the key that burnt it
    BAD_PROOF = "bad_proof"  # 401
    BAD_CSR = "bad_csr"  # 400
    # Device authorization, RFC 8628.
    AUTHORIZATION_PENDING = "authorization_pending"  # 400
    SLOW_DOWN = "slow_down"  # 400
    ACCESS_DENIED = "access_denied"  # 400
    EXPIRED_TOKEN = "expired_token"  # 400
    INVALID_GRANT = "invalid_grant"  # 400
    INVALID_CLIENT = "invalid_client"  # 400
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"  # 400
    # An agent's credential.
    PENDING_APPROVAL = "pending_approval"  # 403, with Retry-After
    AGENT_REVOKED = "agent_revoked"  # 403
    IDENTITY_MISMATCH = "identity_mismatch"  # 403
    BEARER_RETIRED = "bearer_retired"  # 401, with `agents_url`
    CERT_REQUIRED = "cert_required"  # 403
    CERT_UNKNOWN = "cert_unknown"  # 403
    CERT_EXPIRED = "cert_expired"  # 403
    CERT_REVOKED = "cert_revoked"  # 403
    CERT_MISMATCH = "cert_mismatch"  # 403
    # Commands and artifacts.
    UNSUPPORTED_TYPE = "unsupported_type"  # 400
    BAD_PARAMS = "bad_params"  # 400
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"  # 409
    AGENT_OFFLINE = "agent_offline"  # 409, with when_offline "fail"
    NOT_CANCELLABLE = "not_cancellable"  # 409
    BAD_DIGEST = "bad_digest"  # 400


class Problem(Body, frozen=True, kw_only=True):
    """A refusal. `status` repeats the response's."""

    title: str
    status: int
    code: Name
    type: str = "about:blank"
    detail: str | None = None
    instance: str | None = None
    error: Name | None = None  # RFC 8628's name for `code`
    nonce: str | None = None  # sign it, and ask again: see wire.enrolment
    agents_url: str | None = None  # where the client certificate is asked for
    interval: int | None = None  # of a device code, after `slow_down`


def read(status: int, raw: bytes) -> Problem:
    """Read what a failed request brought, whatever it is. Never fails."""
    try:
        return bodies.decode(Problem, raw)
    except WireError:
        return Problem(title="not an answer of a hub", status=status, code=f"http_{status}")
