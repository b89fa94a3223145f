"""Who a signed query may be: the agents' credentials, read for many at once.

Rules: an unknown client costs the same check as a known one; secrets leave the keyring for the
length of one check.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Agent
from hub.operators.models import Tenant


class Identity(NamedTuple):
    """What is known of a client id. `secret` is sealed."""

    agent_id: str
    asset_id: str
    tenant_id: str
    client_id: str
    state: str
    is_tenant_off: bool
    secret_sealed: str
    boot_id: str | None = None
    boot_before: str | None = None
    conflict_ms: int | None = None
    enforces_mtls: bool = False
    is_certified: bool = False
    """Whether it showed a certificate, and a good one."""


def find(session: Session, client_ids: list[str]) -> list[Identity | None]:
    """Return what is known of each client id, in their order."""
    rows = session.execute(
        select(
            Agent.id,
            Agent.asset_id,
            Agent.tenant_id,
            Agent.client_id,
            Agent.state,
            Tenant.disabled_ms.is_not(None),
            Agent.secret_sealed,
            Agent.boot_id,
            Agent.boot_before,
            Agent.conflict_ms,
            Tenant.enforces_mtls,
        )
        .join(Tenant, Tenant.id == Agent.tenant_id)
        .where(Agent.client_id.in_(set(client_ids)))
    )
    found = {row[3]: Identity._make((*row, False)) for row in rows}
    return [found.get(client_id) for client_id in client_ids]
