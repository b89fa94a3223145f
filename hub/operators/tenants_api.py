"""Routes of tenants: everybody sees their own, a system_admin all of them.

Rules: a disabled tenant's people and agents are refused, its rows stay; a deleted one is a disabled
one that is no longer shown.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import iso, iso_or_none
from hub.errors import ConflictError
from hub.operators import service
from hub.operators.fields import AccountName
from hub.operators.models import Tenant
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/tenants", tags=["people"])


class TenantView(BaseModel):
    """A tenant."""

    id: str
    name: str
    created_at: str
    disabled_at: str | None
    enforces_mtls: bool


class NewTenant(BaseModel):
    """A tenant to make."""

    name: AccountName


class TenantChange(BaseModel):
    """What of a tenant to change; what is absent stays."""

    name: AccountName | None = None
    disabled: bool | None = None
    enforces_mtls: bool | None = None


@router.get("")
async def list_tenants(
    hub: TheHub,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("tenants.read"),
) -> Page[TenantView]:
    """List the tenants that the caller may see."""
    query = select(Tenant).where(Tenant.deleted_ms.is_(None))
    if caller.scope is not None:
        query = query.where(Tenant.id == caller.scope)
    rows, after = await hub.database.read(
        caller.scope, pages.fetch, query, (Tenant.name, Tenant.id), limit, cursor
    )
    return Page(items=[view(tenant) for tenant in rows], next=after)


@router.post("", status_code=201)
async def add_tenant(
    hub: TheHub, body: NewTenant, caller: Caller = may("tenants.write")
) -> TenantView:
    """Make a tenant."""
    return view(await hub.database.write(None, _add, caller, body.name))


@router.get("/{tenant_id}")
async def get_tenant(
    hub: TheHub, tenant_id: str, caller: Caller = may("tenants.read")
) -> TenantView:
    """Tell one tenant."""
    return view(await hub.database.read(caller.scope, service.get_tenant, tenant_id))


@router.patch("/{tenant_id}")
async def change_tenant(
    hub: TheHub, tenant_id: str, body: TenantChange, caller: Caller = may("tenants.write")
) -> TenantView:
    """Change a tenant."""
    return view(await hub.database.write(None, _change, caller, tenant_id, body))


@router.delete("/{tenant_id}", status_code=204)
async def delete_tenant(hub: TheHub, tenant_id: str, caller: Caller = may("tenants.write")) -> None:
    """Delete a tenant: nobody of it can log in, none of its agents links."""
    await hub.database.write(None, _delete, caller, tenant_id)


def view(tenant: Tenant) -> TenantView:
    """Tell of a tenant what its people may know."""
    return TenantView(
        id=tenant.id,
        name=tenant.name,
        created_at=iso(tenant.created_ms),
        disabled_at=iso_or_none(tenant.disabled_ms),
        enforces_mtls=tenant.enforces_mtls,
    )


def _add(session: Session, caller: Principal, name: str) -> Tenant:
    tenant = service.add_tenant(session, name)
    _tell(session, caller, tenant, made=True)
    return tenant


def _change(session: Session, caller: Principal, tenant_id: str, body: TenantChange) -> Tenant:
    tenant = service.get_tenant(session, tenant_id)
    if body.name is not None:
        service.rename_tenant(session, tenant, body.name)
    if body.disabled is not None:
        _keep_own(caller, tenant, is_off=body.disabled)
        service.disable_tenant(tenant, is_disabled=body.disabled)
    if body.enforces_mtls is not None:
        tenant.enforces_mtls = body.enforces_mtls
    _tell(session, caller, tenant, **body.model_dump(exclude_none=True))
    return tenant


def _delete(session: Session, caller: Principal, tenant_id: str) -> None:
    tenant = service.get_tenant(session, tenant_id)
    _keep_own(caller, tenant, is_off=True)
    _tell(session, caller, tenant, deleted=True)
    service.delete_tenant(tenant)


def _keep_own(caller: Principal, tenant: Tenant, *, is_off: bool) -> None:
    if is_off and tenant.id == caller.tenant_id:
        raise ConflictError("your own tenant stays: you would lock yourself out", code="own_tenant")


def _tell(session: Session, caller: Principal, tenant: Tenant, **detail: Any) -> None:
    of = ("tenant", tenant.id)
    audit.record(session, tenant.id, caller, "tenants.write", of=of, **detail)
