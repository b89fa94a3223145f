"""A tenant's policy in the database: read, replaced, asked."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.errors import ConflictError
from hub.policy import verdicts
from hub.policy.document import PolicyDocument
from hub.policy.models import TenantPolicy
from hub.policy.verdicts import Family


def row_of(session: Session, tenant_id: str) -> TenantPolicy | None:
    """Return a tenant's policy; None: it narrows nothing."""
    return session.scalar(select(TenantPolicy).where(TenantPolicy.tenant_id == tenant_id))


def replace(
    session: Session, who: Principal, tenant_id: str, document: PolicyDocument, version: int | None
) -> TenantPolicy:
    """Put another policy in the place of a tenant's.

    Args:
        version: of the one that was edited; None replaces whatever there is.

    Raises:
        ConflictError: somebody else has replaced it meanwhile.
    """
    found = select(TenantPolicy).where(TenantPolicy.tenant_id == tenant_id)
    row = session.scalar(found.with_for_update())  # of two edits of one version one wins
    if version is not None and version != (row.version if row is not None else 0):
        raise ConflictError("the policy was changed meanwhile: read it again", code="changed")
    if row is None:
        row = TenantPolicy(tenant_id=tenant_id, version=0)
        session.add(row)
    row.document = document.model_dump(exclude_unset=True)
    row.version += 1
    row.changed_ms, row.changed_by = now_ms(), who.name[:256]
    session.flush()
    of = ("policy", tenant_id)
    audit.record(session, tenant_id, who, "policy.write", of=of, document=row.document)
    return row


def refusal(
    session: Session, asset: Asset, family: Family, command: str | None = None
) -> str | None:
    """Return why the tenant's policy keeps a machine from something, or None."""
    row = row_of(session, asset.tenant_id)
    if row is None:
        return None
    document = PolicyDocument.model_validate(row.document)
    return verdicts.refusal(document, asset.tags, family, command)
