"""Answers that are kept for whoever asks again.

Rules: the answer is sealed with the keyring (owner `answer:<digest>`), since it may hold a token.
"""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import Table


class KeptAnswer(Table):
    """A claim of a key, and the answer once there is one."""

    __tablename__ = "kept_answers"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of tenant, user, path and key."""
    body_digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    media_type: Mapped[str | None] = mapped_column(String(128))
    answer_sealed: Mapped[str | None]
    claimed_ms: Mapped[int] = mapped_column(index=True)
