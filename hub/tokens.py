"""Opaque secrets that people and programs carry: `<prefix>_<43 characters>_<checksum>`.

Rules: 256 random bits; the checksum tells a typing error from a foreign token without a look into
the database; only the SHA-256 of the whole text is kept. White space around it is forgiven.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

_SHAPE = re.compile(r"([a-z]{2,8})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})", re.ASCII)


def make(prefix: str) -> str:
    """Make a token of a kind, such as `jls` for a session."""
    body = f"{prefix}_{secrets.token_urlsafe(32)}"
    return f"{body}_{_checksum(body)}"


def is_token(prefix: str, text: str) -> bool:
    """Tell whether a text has the shape and the checksum of a token of that kind."""
    match = _SHAPE.fullmatch(text.strip())
    if match is None or match[1] != prefix:
        return False
    return secrets.compare_digest(_checksum(f"{match[1]}_{match[2]}"), match[3])


def digest(text: str) -> str:
    """Return what is kept of a token: the SHA-256 in hexadecimal."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
