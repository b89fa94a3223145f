"""A tenant's policy over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from hub.authorize import Principal, Role
from hub.clock import iso_or_none
from hub.policy import service
from hub.policy.document import PolicyDocument
from hub.policy.models import TenantPolicy
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/policy", tags=["policy"])
TenantId = Annotated[str | None, Query(max_length=64)]


class PolicyOut(BaseModel):
    """A policy; version 0: the tenant narrows nothing."""

    version: int
    document: PolicyDocument
    changed_at: str | None = None
    changed_by: str | None = None

    @classmethod
    def of(cls, row: TenantPolicy | None) -> PolicyOut:
        """Show a row."""
        if row is None:
            return cls(version=0, document=PolicyDocument(), changed_at=None, changed_by=None)
        return cls(
            version=row.version,
            document=PolicyDocument.model_validate(row.document),
            changed_at=iso_or_none(row.changed_ms),
            changed_by=row.changed_by,
        )


class PolicyIn(BaseModel):
    """Another policy; `version` of the one that was edited, if that matters."""

    model_config = ConfigDict(extra="forbid")

    document: PolicyDocument
    version: Annotated[int, Field(ge=0)] | None = None


@router.get("", response_model_exclude_none=True)
async def show_policy(
    hub: TheHub, tenant_id: TenantId = None, caller: Caller = may("policy.read")
) -> PolicyOut:
    """Show what the tenant narrows; `tenant_id` is a system admin's to choose."""
    chosen = _tenant(caller, tenant_id)
    return PolicyOut.of(await hub.database.read(caller.scope, service.row_of, chosen))


@router.put("", response_model_exclude_none=True)
async def replace_policy(
    hub: TheHub, body: PolicyIn, tenant_id: TenantId = None, caller: Caller = may("policy.write")
) -> PolicyOut:
    """Put another policy in its place."""
    chosen = _tenant(caller, tenant_id)

    def unit(session: Session) -> TenantPolicy:
        return service.replace(session, caller, chosen, body.document, body.version)

    return PolicyOut.of(await hub.database.write(caller.scope, unit))


def _tenant(caller: Principal, asked: str | None) -> str:
    if asked is not None and caller.role is Role.SYSTEM_ADMIN:
        return asked
    return caller.tenant_id
