"""Claims of keys: made once, settled with an answer, or let go.

Rules: a claim is one INSERT that only the first can make; a refusal or a fault lets the key go, so
that it can be tried again; a claim that a crash left behind is free again after BUSY_MS.
Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import BadRequestError, ConflictError
from hub.idempotency.models import KeptAnswer
from hub.keyring import Keyring

MAX_KEY_CHARS = 128
MAX_ANSWER_BYTES = 256 * 1024
KEPT_MS = 24 * 3600 * 1000
BUSY_MS = 60 * 1000


@dataclass(frozen=True)
class Claim:
    """One key of one user for one path, with one body."""

    digest: str
    body_digest: str


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    media_type: str | None
    body: bytes

    @property
    def is_kept(self) -> bool:
        """Tell whether whoever asks again gets it."""
        return 200 <= self.status < 300 and len(self.body) <= MAX_ANSWER_BYTES


def claim_of(who: Principal, path: str, key: str, body: bytes) -> Claim:
    """Return the claim of a request.

    Raises:
        BadRequestError: the key is none.
    """
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise BadRequestError(f"Idempotency-Key: 1 to {MAX_KEY_CHARS} printable characters")
    said = f"{who.tenant_id}\n{who.id}\n{path}\n{key}"
    return Claim(_sha256(said.encode()), _sha256(body))


def make(session: Session, claim: Claim) -> KeptAnswer | None:
    """Claim a key; returns the answer that is kept for it, if there is one.

    Raises:
        ConflictError: `idempotency_mismatch`, or `idempotency_busy`.
    """
    now = now_ms()
    session.execute(delete(KeptAnswer).where(KeptAnswer.claimed_ms < now - KEPT_MS))
    if _is_first(session, claim, now):
        return None
    kept = session.get(KeptAnswer, claim.digest, with_for_update=True)
    if kept is None:  # let go since
        raise _busy()
    if kept.body_digest != claim.body_digest:
        raise ConflictError(
            "this idempotency key came with another request", code="idempotency_mismatch"
        )
    if kept.status is not None:
        return kept
    left_behind = update(KeptAnswer).where(
        KeptAnswer.digest == claim.digest, KeptAnswer.claimed_ms < now - BUSY_MS
    )
    if affected(session, left_behind.values(claimed_ms=now)) == 1:
        return None
    raise _busy()


def settle(session: Session, claim: Claim, answer: Answer, keyring: Keyring) -> None:
    """Keep a good answer, or let the key go."""
    if not answer.is_kept:
        session.execute(delete(KeptAnswer).where(KeptAnswer.digest == claim.digest))
        return
    text = base64.b64encode(answer.body).decode()
    change = update(KeptAnswer).where(KeptAnswer.digest == claim.digest)
    session.execute(
        change.values(
            status=answer.status,
            media_type=answer.media_type,
            answer_sealed=keyring.seal(text, f"answer:{claim.digest}"),
        )
    )


def opened(kept: KeptAnswer, keyring: Keyring) -> Answer:
    """Return an answer that was kept."""
    text = keyring.unseal(kept.answer_sealed or "", f"answer:{kept.digest}")
    return Answer(kept.status or 0, kept.media_type, base64.b64decode(text))


def _busy() -> ConflictError:
    return ConflictError("the first such request is under way", code="idempotency_busy")


def _is_first(session: Session, claim: Claim, now: int) -> bool:
    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if is_postgres else sqlite.insert
    row = insert(KeptAnswer).values(
        digest=claim.digest, body_digest=claim.body_digest, claimed_ms=now
    )
    made = session.execute(row.on_conflict_do_nothing().returning(KeptAnswer.digest))
    return made.first() is not None


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
