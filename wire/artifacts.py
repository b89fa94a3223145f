"""Large results on their way to the hub.

Rules: the request's body is the artifact itself, streamed; its SHA-256 stands in `Content-Digest`
(RFC 9530), so that the hub can refuse a torn one. The same command, name and digest again is
answered with the same `artifact_id`, so that a lost reply costs nothing. Names are plain.

Source: contract part 2; RFC 9530, section 2.
"""

from __future__ import annotations

import base64
import re

from wire.bodies import Body, Sha256
from wire.fields import Count, Id

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
DIGEST_HEADER = "Content-Digest"
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):", re.ASCII)


class ArtifactResponse(Body, frozen=True, kw_only=True):
    """Stored."""

    artifact_id: Id
    sha256: Sha256
    size_bytes: Count


def digest_value(sha256: bytes) -> str:
    """Spell `Content-Digest` for a SHA-256 of 32 bytes."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def read_digest(value: str) -> bytes | None:
    """Read `Content-Digest`; None where it names no SHA-256, or is none."""
    found = _DIGEST.fullmatch(value.strip())
    return base64.b64decode(found[1]) if found else None
