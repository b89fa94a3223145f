"""Client certificates in the database: issued, renewed, found good or not.

Rules: a leaf is good while its dates, its row and its agent say so. When a renewed one is shown for
the first time, those before it have a day left: an agent that lost the reply of a renewal goes on
with what it has.
Source: contract part 2 (mTLS); issue 5 "Enrolment".
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.agents.models import Agent
from hub.clock import now_ms
from hub.errors import ForbiddenError
from hub.heartbeat.authority import Authority, Leaf
from hub.heartbeat.models import Certificate
from hub.heartbeat.proofs import ShownKey
from wire import limits
from wire.problem import Code

OVERLAP_MS = limits.RENEWED_OVERLAP_S * 1000


def issue(
    session: Session, authority: Authority, agent: Agent, shown: ShownKey, hours: float
) -> Leaf:
    """Sign a key for an agent, and remember it."""
    leaf = authority.sign_client(shown.key, agent.client_id, agent.tenant_id, hours)
    session.add(
        Certificate(
            serial=leaf.serial,
            tenant_id=agent.tenant_id,
            agent_id=agent.id,
            key_thumbprint=shown.thumbprint,
            not_before_ms=leaf.not_before_ms,
            not_after_ms=leaf.not_after_ms,
        )
    )
    session.flush()
    return leaf


def revoke_all(session: Session, agent_id: str) -> None:
    """Make every certificate of an agent worthless."""
    session.execute(
        update(Certificate)
        .where(Certificate.agent_id == agent_id, Certificate.revoked_ms.is_(None))
        .values(revoked_ms=now_ms())
    )


def read(der: bytes, authority: Authority) -> x509.Certificate:
    """Read what was shown, and check who signed it, before any look into the database.

    Raises:
        ForbiddenError: `cert_unknown`.
    """
    try:
        leaf = x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise _refusal(Code.CERT_UNKNOWN, "no certificate that can be read") from error
    if not authority.has_signed(leaf):
        raise _refusal(Code.CERT_UNKNOWN, "another authority signed that certificate")
    return leaf


def claimed_agent(leaf: x509.Certificate) -> str:
    """Return the agent that a leaf of ours names."""
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def check(session: Session, leaf: x509.Certificate) -> str:
    """Check a leaf of ours against the clock and its row; return the id of the agent's row.

    Raises:
        ForbiddenError: `cert_expired`, `cert_unknown`, `cert_revoked`.
    """
    at_ms = now_ms()
    if not _stamp(leaf, last=False) <= at_ms < _stamp(leaf, last=True):
        raise _refusal(Code.CERT_EXPIRED, "the certificate is past its life")
    row = session.get(Certificate, f"{leaf.serial_number:x}")
    if row is None:
        raise _refusal(Code.CERT_UNKNOWN, "the hub did not give that certificate out")
    is_retired = row.retired_ms is not None and row.retired_ms <= at_ms
    if row.revoked_ms is not None or is_retired:
        raise _refusal(Code.CERT_REVOKED, "the certificate was revoked")
    return row.agent_id


def shown_first(session: Session, leaf: x509.Certificate) -> None:
    """Remember that a certificate is in use; those before it have a day left."""
    row = session.get(Certificate, f"{leaf.serial_number:x}")
    if row is None or row.used_ms is not None:
        return
    row.used_ms = now_ms()
    session.execute(
        update(Certificate)
        .where(
            Certificate.agent_id == row.agent_id,
            Certificate.serial != row.serial,
            Certificate.not_before_ms <= row.not_before_ms,
            Certificate.retired_ms.is_(None),
        )
        .values(retired_ms=row.used_ms + OVERLAP_MS)
    )


def is_in_use(session: Session, leaf: x509.Certificate) -> bool:
    """Tell whether a certificate was shown before."""
    serial = f"{leaf.serial_number:x}"
    return (
        session.scalar(select(Certificate.used_ms).where(Certificate.serial == serial)) is not None
    )


def _stamp(leaf: x509.Certificate, *, last: bool) -> int:
    moment = leaf.not_valid_after_utc if last else leaf.not_valid_before_utc
    return int(moment.timestamp() * 1000)


def _refusal(code: Code, detail: str) -> ForbiddenError:
    return ForbiddenError(detail, code=code)
