"""Which agent a request is of: by its bearer token, or by the certificate it showed.

Rules: a certificate counts where agents are asked for one (`is_certified`: our own listener, or a
proxy that proved to be ours), and there nothing else does; elsewhere the bearer token counts, until
the tenant enforces certificates. A verdict is returned, not raised, so that it can be audited in
the same unit of work.
Source: contract part 2 (mTLS); fault cases A.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cryptography import x509
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hub import tokens
from hub.agents.models import Agent, Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.errors import ForbiddenError, HubError, UnauthorizedError
from hub.heartbeat import certificates
from hub.heartbeat.models import Enrolment
from hub.operators.models import Tenant
from wire.problem import Code

BEARER_PREFIX = "jla"
PENDING_RETRY_S = 60


@dataclass(frozen=True)
class Shown:
    """What a request shows. `fault` is why the certificate was no good at first sight."""

    bearer: str | None = None
    is_certified: bool = False
    leaf: x509.Certificate | None = None
    fault: ForbiddenError | None = None
    address: str | None = None
    agents_url: str | None = None


@dataclass(frozen=True)
class Known:
    """An agent, as far as a request shows; `refusal` is why it may not go on."""

    agent_id: str
    client_id: str
    asset_id: str
    tenant_id: str
    name: str
    state: str
    enforces_mtls: bool
    tags: tuple[str, ...] = ()
    address: str | None = None
    refusal: HubError | None = None

    @property
    def principal(self) -> Principal:
        """Return the agent as the audit log names it."""
        return Principal(
            "agent", self.client_id, self.name, self.tenant_id, None, self.agent_id, self.address
        )


def identify(session: Session, shown: Shown) -> Known:
    """Tell which agent asks, and whether it may.

    Raises:
        UnauthorizedError, ForbiddenError: it is nobody that we know.
    """
    bearer = _by_bearer(session, shown.bearer)
    if shown.is_certified:
        found = _by_certificate(session, shown, bearer)
    elif bearer is None:
        raise UnauthorizedError("an agent's bearer token is needed")
    else:
        found = replace(bearer, refusal=_retired(bearer, shown))
    return replace(
        found, address=shown.address, refusal=found.refusal or _refusal_of_state(found.state)
    )


def check_link(session: Session, shown: Shown, agent_id: str) -> None:
    """Check what a live link shows, whose signature is good already.

    Raises:
        UnauthorizedError: `bearer_retired`: this is not where certificates are asked for.
        ForbiddenError: the certificate is missing, no good, or another agent's.
    """
    if not shown.is_certified:
        raise UnauthorizedError("the tenant asks for client certificates", code=Code.BEARER_RETIRED)
    if shown.leaf is None:
        raise shown.fault or ForbiddenError(code=Code.CERT_REQUIRED)
    if certificates.check(session, shown.leaf) != agent_id:
        raise ForbiddenError("that is another agent's certificate", code=Code.CERT_MISMATCH)
    certificates.shown_first(session, shown.leaf)


def audit_refusal(session: Session, known: Known, action: str) -> None:
    """Record why an agent was refused; one that merely waits for approval is not worth a row."""
    if known.refusal is None or known.refusal.code == Code.PENDING_APPROVAL:
        return
    of = ("agent", known.asset_id)
    audit.record(session, known.tenant_id, known.principal, action, str(known.refusal.code), of=of)


def _by_bearer(session: Session, text: str | None) -> Known | None:
    if text is None or not tokens.is_token(BEARER_PREFIX, text):
        return None
    query = _agents().where(Enrolment.bearer_digest == tokens.digest(text))
    return _known(session, query)


def _by_certificate(session: Session, shown: Shown, bearer: Known | None) -> Known:
    if shown.leaf is None:
        fault = shown.fault or ForbiddenError(
            "show the client certificate here", code=Code.CERT_REQUIRED
        )
        if bearer is None:
            raise fault
        return replace(bearer, refusal=fault)
    claimed = certificates.claimed_agent(shown.leaf)
    found = _known(session, _agents().where(Agent.client_id == claimed))
    if found is None:
        raise ForbiddenError("that agent is gone", code=Code.CERT_UNKNOWN)
    try:
        owner = certificates.check(session, shown.leaf)
    except ForbiddenError as error:
        return replace(found, refusal=error)
    if owner != found.agent_id or (bearer is not None and bearer.agent_id != owner):
        said = ForbiddenError("that is another agent's certificate", code=Code.CERT_MISMATCH)
        return replace(bearer or found, refusal=said)
    return found


def _retired(bearer: Known, shown: Shown) -> HubError | None:
    if not bearer.enforces_mtls:
        return None
    extra = {"agents_url": shown.agents_url} if shown.agents_url else {}
    return UnauthorizedError(
        "the tenant asks for client certificates", code=Code.BEARER_RETIRED, **extra
    )


def _refusal_of_state(state: str) -> HubError | None:
    if state == "active":
        return None
    if state == "pending":
        return ForbiddenError(
            "somebody must approve this agent first",
            code=Code.PENDING_APPROVAL,
            retry_after_s=PENDING_RETRY_S,
        )
    return ForbiddenError("this agent was revoked: enrol it again", code=Code.AGENT_REVOKED)


_Agents = Select[str, str, str, str, str, str, bool, list[str]]


def _agents() -> _Agents:
    return (
        select(
            Agent.id,
            Agent.client_id,
            Agent.asset_id,
            Agent.tenant_id,
            Asset.name,
            Agent.state,
            Tenant.enforces_mtls,
            Asset.tags,
        )
        .join(Enrolment, Enrolment.agent_id == Agent.id)
        .join(Asset, Asset.id == Agent.asset_id)
        .join(Tenant, Tenant.id == Agent.tenant_id)
        .where(Tenant.disabled_ms.is_(None))
    )


def _known(session: Session, query: _Agents) -> Known | None:
    row = session.execute(query).first()
    if row is None:
        return None
    agent_id, client_id, asset_id, tenant_id, name, state, enforces_mtls, tags = row
    return Known(agent_id, client_id, asset_id, tenant_id, name, state, enforces_mtls, tuple(tags))
