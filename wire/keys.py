"""Key sync: a GitHub user's public keys into `authorized_keys`.

Rules: `user` is a GitHub login and any string here: the family refuses one that is none, with
`bad_user`. `keys_sync_result` is final.

Source: contract 1.2, 1.6.
"""

from __future__ import annotations

from typing import ClassVar

from wire import features
from wire.fields import LISTED, Count, Id, Millis, Payload


class SyncKeys(Payload, frozen=True, kw_only=True):
    """Add what is missing."""

    user: str


class KeysSyncResult(Payload, frozen=True, kw_only=True):
    """What was added; with `ok` false, `error` says why nothing was."""

    OURS: ClassVar = {
        "rejected": LISTED,
        "removed": LISTED,
        "warn": LISTED,
        "detail": LISTED,
        "id": features.ACK,
    }

    ok: bool
    user: str
    added: Count
    ms: Millis
    error: str | None = None
    rejected: Count | None = None
    removed: Count | None = None
    warn: str | None = None
    detail: str | None = None
    id: Id | None = None
