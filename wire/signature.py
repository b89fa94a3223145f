"""The signed connect query: made by an agent, checked by a hub. Pure functions.

Rules: nothing in the query is percent-decoded: what may stand in `clientId`, `ts` and `sig` never
needs it, and what two parsers could read differently is refused. Order of checks: shape, signature
(with a key of the same length where the client is unknown), window; replays and state are the
hub's own. Signatures are compared in constant time.

Source: contract 1.1; fault cases A; vectors in tests/wire/vectors/signature.json.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import NamedTuple
from urllib.parse import unquote

from wire.errors import AuthError
from wire.limits import CLIENT_ID_PATTERN, MAX_QUERY_CHARS, SKEW_WINDOW_MS

# Only dots would be a path, not a name.
_CLIENT_ID = re.compile(rf"(?!\.+\Z){CLIENT_ID_PATTERN}", re.ASCII)
_TS = re.compile(r"[0-9]{13}", re.ASCII)
_TS_SECONDS = re.compile(r"[0-9]{10}", re.ASCII)
_SIG = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAMES = ("clientId", "ts", "sig")
_NO_TOKEN = "0" * 64


class SignedQuery(NamedTuple):
    """A connect query of the right shape; nothing in it is proven yet."""

    client_id: str
    ts_ms: int
    sig: str


def is_client_id(text: str) -> bool:
    """Tell whether `text` may name a client."""
    return _CLIENT_ID.fullmatch(text) is not None


def sign(client_id: str, auth_token: str, ts_ms: int) -> str:
    """Sign one connect attempt.

    Args:
        client_id: of the shape `is_client_id` tells.
        auth_token: the shared secret.
        ts_ms: milliseconds since the epoch; each attempt has its own.

    Returns:
        64 lower-case hexadecimal digits.
    """
    canonical = f'{{"clientId":"{client_id}","ts":{ts_ms}}}'
    return hmac.new(auth_token.encode(), canonical.encode(), hashlib.sha256).hexdigest()


def verify(client_id: str, auth_token: str, ts_ms: int, sig: str) -> bool:
    """Tell in constant time whether `sig` is the signature. Never fails, whatever `sig` holds."""
    return hmac.compare_digest(sign(client_id, auth_token, ts_ms).encode(), _bytes(sig))


def signed_query(client_id: str, auth_token: str, ts_ms: int) -> dict[str, str]:
    """Give the query parameters of one connect attempt, in their order."""
    return {
        "clientId": client_id,
        "ts": str(ts_ms),
        "sig": sign(client_id, auth_token, ts_ms),
    }


def parse_query(query: str) -> SignedQuery:
    """Read the connect query as it stands in the request line, still percent-encoded.

    Raises:
        AuthError: `auth_malformed`; the hint `ts_unit` where `ts` is in seconds.
    """
    if len(query) > MAX_QUERY_CHARS:
        raise AuthError("auth_malformed")
    found: dict[str, str] = {}
    for pair in query.split("&"):
        raw_name, _, value = pair.partition("=")
        name = unquote(raw_name)
        if name not in _NAMES:
            continue
        if name in found or raw_name != name:
            raise AuthError("auth_malformed")
        found[name] = value
    client_id, ts, sig = (found.get(name, "") for name in _NAMES)
    if not _CLIENT_ID.fullmatch(client_id) or not _SIG.fullmatch(sig):
        raise AuthError("auth_malformed")
    if not _TS.fullmatch(ts):
        raise AuthError("auth_malformed", "ts_unit" if _TS_SECONDS.fullmatch(ts) else "")
    return SignedQuery(client_id, int(ts), sig)


def check(query: SignedQuery, auth_token: str | None, now_ms: int) -> None:
    """Check signature, then window.

    Args:
        query: from `parse_query`.
        auth_token: the client's secret; None for a client that nobody knows, which takes as long.
        now_ms: the hub's clock.

    Raises:
        AuthError: `auth_failed`, or `auth_expired` with the hint `skew=<seconds>`.
    """
    token = _NO_TOKEN if auth_token is None else auth_token
    if not verify(query.client_id, token, query.ts_ms, query.sig) or auth_token is None:
        raise AuthError("auth_failed")
    skew_ms = query.ts_ms - now_ms
    if abs(skew_ms) > SKEW_WINDOW_MS:
        raise AuthError("auth_expired", f"skew={round(skew_ms / 1000)}")


def _bytes(sig: str) -> bytes:
    return sig.encode(errors="replace")
