"""Assets and agents: registered by hand, found, approved, revoked.

Rules: a secret leaves once, when it is made. Enrolment (hub.heartbeat) makes agents by the same
functions.
"""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Agent, Asset
from hub.clock import now_ms
from hub.errors import BadRequestError, ConflictError, NotFoundError
from hub.ids import new_id
from hub.keyring import Keyring
from wire.signature import is_client_id


def add_asset(session: Session, tenant_id: str, name: str) -> Asset:
    """Make the row of a machine."""
    asset = Asset(id=new_id(), tenant_id=tenant_id, name=name[:255], created_ms=now_ms())
    session.add(asset)
    session.flush()
    return asset


def add_agent(
    session: Session,
    keyring: Keyring,
    asset: Asset,
    client_id: str | None = None,
    secret: str | None = None,
) -> tuple[Agent, str]:
    """Give a machine a credential for the live link.

    Args:
        client_id: as an agent's configuration has it; None: the row's own id.
        secret: what a fielded agent has already; None makes one.

    Returns:
        the row, and the `authToken`.

    Raises:
        BadRequestError: no client id; ConflictError: it is taken.
    """
    agent_id = new_id()
    client_id = client_id or agent_id
    if not is_client_id(client_id):
        raise BadRequestError("client_id: 1 to 128 of letters, digits, `.`, `_`, `-`")
    if session.scalar(select(Agent.id).where(Agent.client_id == client_id)) is not None:
        raise ConflictError(f"client_id `{client_id}` is taken")
    secret = secret or secrets.token_urlsafe(32)
    agent = Agent(
        id=agent_id,
        tenant_id=asset.tenant_id,
        asset_id=asset.id,
        client_id=client_id,
        state="active",
        secret_sealed="",
        created_ms=now_ms(),
        approved_ms=now_ms(),
    )
    agent.secret_sealed = keyring.seal(secret, f"agent:{agent.id}")
    session.add(agent)
    session.flush()
    return agent, secret


def get_asset(session: Session, asset_id: str) -> Asset:
    """Return a machine of the session's tenant.

    Raises:
        NotFoundError: it is unknown, gone or another tenant's.
    """
    asset = session.scalar(select(Asset).where(Asset.id == asset_id, Asset.deleted_ms.is_(None)))
    if asset is None:
        raise NotFoundError("there is no such agent")
    return asset


def current_agent(session: Session, asset_id: str) -> Agent | None:
    """Return a machine's credential: the one in force, else the newest."""
    is_in_force = Agent.state == "active"
    found = select(Agent).where(Agent.asset_id == asset_id)
    return session.scalar(found.order_by(is_in_force.desc(), Agent.id.desc()).limit(1))


def resolve(session: Session, asset_id: str) -> Agent:
    """End an identity conflict: whoever comes next is the machine.

    Raises:
        NotFoundError: no such machine; ConflictError: `no_conflict`.
    """
    get_asset(session, asset_id)
    agent = current_agent(session, asset_id)
    if agent is None or agent.conflict_ms is None:
        raise ConflictError("there is no identity conflict", code="no_conflict")
    agent.conflict_ms = agent.boot_id = agent.boot_before = None
    return agent


def tag(session: Session, asset_id: str, tags: list[str]) -> Asset:
    """Set a machine's tags.

    Raises:
        NotFoundError: no such machine.
    """
    asset = get_asset(session, asset_id)
    asset.tags = sorted(set(tags))
    return asset
