"""Identifiers of rows: UUID version 7, so that order by id is order by time.

Source: RFC 9562, section 5.7.
"""

from __future__ import annotations

import secrets
import uuid

from hub.clock import now_ms


def first_of(stamp_ms: int) -> str:
    """Return what the identifiers of a moment and all later ones sort behind."""
    return str(uuid.UUID(int=max(0, stamp_ms) << 80))


def new_id() -> str:
    """Return a new identifier: 36 characters, lower case; later ones sort behind."""
    value = (now_ms() << 80) | secrets.randbits(80)
    value &= ~(0xF << 76) & ~(0x3 << 62)
    return str(uuid.UUID(int=value | (0x7 << 76) | (0x2 << 62)))
