"""Whose rows a unit of work sees: two locks, neither of which a query can forget.

Rules: the first lock adds `tenant_id = <scope>` to every ORM SELECT, UPDATE and DELETE on a
`TenantOwned` table and refuses a new row of another tenant. The second is PostgreSQL's row-level
security, which reads `jackline.tenant` (empty: the system's own scope).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria

from hub.db.tables import TenantOwned
from hub.errors import NotFoundError


def scope(session: Session, tenant: str | None) -> None:
    """Narrow a session to one tenant; None widens it to all."""
    session.info["tenant"] = tenant
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            text("SELECT set_config('jackline.tenant', :tenant, true)"), {"tenant": tenant or ""}
        )


@functools.lru_cache(maxsize=1024)
def _of(tenant: str) -> Any:
    """Return what narrows a statement to a tenant: made once, since making it costs the most."""
    return with_loader_criteria(
        TenantOwned, lambda table: table.tenant_id == tenant, include_aliases=True
    )


@event.listens_for(Session, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    tenant = state.session.info.get("tenant")
    if tenant is None or state.is_column_load or state.is_relationship_load:
        return
    state.statement = state.statement.options(_of(tenant))


@event.listens_for(Session, "before_flush")
def _refuse_foreign_rows(session: Session, _context: UOWTransaction, _instances: Any) -> None:
    tenant = session.info.get("tenant")
    if tenant is None:
        return
    for row in session.new:
        if isinstance(row, TenantOwned) and row.tenant_id != tenant:
            raise NotFoundError


def secure(connection: Connection, tables: Sequence[str]) -> None:
    """Put tables of tenants under row-level security; SQLite has none."""
    if connection.dialect.name != "postgresql":
        return
    rule = "coalesce(current_setting('jackline.tenant', true), '') IN ('', tenant_id)"
    for table in tables:
        for statement in (
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant ON {table} USING ({rule}) WITH CHECK ({rule})",
        ):
            connection.execute(text(statement))
