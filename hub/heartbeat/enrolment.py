"""A token or an approved code becomes an identity, once.

Rules: one unit of work burns the token and makes everything it is good for, so a hub that is killed
has done all of it or nothing. The same request again is told `token_used`; a nonce is added for the
key that burnt it, for ten minutes and until the agent's first beat; who signs the nonce gets the
same identity with fresh secrets. A nonce is sealed, not stored: it holds how often the identity was
given out, and each answer makes the ones before worthless.
Source: contract part 2; fault cases A (tokens, lost replies).
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub import tokens
from hub.agents.models import Agent, Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import ConflictError, HubError, NotFoundError, SettingsError, UnauthorizedError
from hub.heartbeat import arrivals, certificates, enrolment_tokens, proofs
from hub.heartbeat.authority import Authority, Leaf
from hub.heartbeat.identification import BEARER_PREFIX
from hub.heartbeat.models import Enrolment, EnrolmentToken
from hub.heartbeat.proofs import ShownKey
from hub.keyring import Keyring
from hub.operators import device_codes
from hub.operators.models import Tenant
from wire import limits
from wire.enrolment import EnrollRequest
from wire.problem import Code

WINDOW_MS = limits.ENROLMENT_RETRY_S * 1000
NONCE_MS = 60_000


@dataclass(frozen=True)
class Arrival:
    """A request to be let in, its key already read."""

    request: EnrollRequest
    shown: ShownKey
    address: str | None = None


class Source(NamedTuple):
    """What lets a machine in: a token or an approved device code."""

    id: str
    tenant_id: str
    tags: tuple[str, ...]
    needs_approval: bool


class Given(NamedTuple):
    """An identity as it leaves, once."""

    agent: Agent
    bearer: str
    auth_token: str
    leaf: Leaf
    tags: tuple[str, ...]
    replaced: tuple[str, ...] = ()
    """Agents whose place it took: their links are cut."""


class Enroller:
    """Gives identities out."""

    def __init__(self, keyring: Keyring, authority: Authority, certificate_hours: float) -> None:
        self._keyring = keyring
        self._authority = authority
        self._hours = certificate_hours

    def by_token(self, session: Session, arrival: Arrival) -> Given:
        """Exchange an enrolment token for an identity.

        Raises:
            UnauthorizedError: `token_unknown`, `token_expired`, `bad_proof`.
            ConflictError: `token_used`, with `nonce` for the key that burnt it.
            NotFoundError: the token is another tenant's than the request names.
        """
        token = enrolment_tokens.find(session, arrival.request.token or "")
        if token is None:
            raise UnauthorizedError("nobody made that token here", code=Code.TOKEN_UNKNOWN)
        _check_tenant(session, token.tenant_id, arrival.request.tenant)
        source = Source(token.id, token.tenant_id, tuple(token.tags), token.needs_approval)
        if (again := self._again(session, source, arrival)) is not None:
            return again
        if not enrolment_tokens.burn(session, token.id, now_ms()):
            raise _spent(token)
        return self.admit(session, source, arrival)

    def by_device_code(self, session: Session, arrival: Arrival) -> Given:
        """Exchange a code that somebody has approved for an identity.

        Raises:
            BadRequestError: RFC 8628's refusals; the code is another key's.
            ConflictError: `token_used`, with `nonce` for the key that used it.
        """
        row = device_codes.of_agent(session, arrival.request.device_code or "")
        if row is None or row.key_thumbprint != arrival.shown.thumbprint:
            raise device_codes.refusal(Code.INVALID_GRANT)
        if row.state == "pending" or row.tenant_id is None:
            raise device_codes.refusal(Code.AUTHORIZATION_PENDING)
        source = Source(row.id, row.tenant_id, (), needs_approval=False)
        if (again := self._again(session, source, arrival)) is not None:
            return again
        if row.state == "denied":
            raise device_codes.refusal(Code.ACCESS_DENIED)
        if row.expires_ms <= now_ms():
            raise device_codes.refusal(Code.EXPIRED_TOKEN)
        _check_tenant(session, row.tenant_id, arrival.request.tenant)
        if not device_codes.use(session, row):
            raise ConflictError("the code has been used", code=Code.TOKEN_USED)
        return self.admit(session, source, arrival)

    def admit(self, session: Session, source: Source, arrival: Arrival) -> Given:
        """Make the identity of a machine that has just been let in."""
        machine = arrivals.settle(session, self._keyring, source, arrival)
        agent = machine.agent
        bearer = tokens.make(BEARER_PREFIX)
        session.add(
            Enrolment(
                agent_id=agent.id,
                tenant_id=agent.tenant_id,
                source_id=source.id,
                key_thumbprint=arrival.shown.thumbprint,
                bearer_digest=tokens.digest(bearer),
                address=arrival.address,
                enrolled_ms=now_ms(),
                boot_id=arrival.request.boot_id,
            )
        )
        leaf = self._sign(session, agent, arrival.shown)
        audit.record(
            session,
            agent.tenant_id,
            principal(agent, machine.asset, arrival.address),
            "agent.enrolled",
            of=("agent", machine.asset.id),
            state=agent.state,
            key=arrival.shown.thumbprint,
            replaces=list(machine.replaced),
            is_new=machine.is_new,
        )
        tags = tuple(machine.asset.tags)
        return Given(agent, bearer, machine.auth_token, leaf, tags, machine.replaced)

    def _again(self, session: Session, source: Source, arrival: Arrival) -> Given | None:
        """Answer for a key that was let in by this source before; None: it was not."""
        found = session.execute(
            select(Enrolment, Agent.state)
            .join(Agent, Agent.id == Enrolment.agent_id)
            .where(
                Enrolment.source_id == source.id,
                Enrolment.key_thumbprint == arrival.shown.thumbprint,
            )
        ).first()
        if found is None:
            if arrival.request.nonce is not None:
                raise UnauthorizedError("that key did not burn the token", code=Code.BAD_PROOF)
            return None
        known, state = found
        if not _is_open(known) or state not in ("active", "pending"):
            raise ConflictError("the token has been used", code=Code.TOKEN_USED)
        if arrival.request.nonce is None or arrival.request.proof is None:
            nonce = self._nonce(known)
            raise ConflictError("the token has been used", code=Code.TOKEN_USED, nonce=nonce)
        self._check_nonce(known, arrival.request.nonce)
        proofs.check_proof(arrival.shown, arrival.request.nonce, arrival.request.proof)
        return self._reissue(session, known, arrival)

    def _reissue(self, session: Session, known: Enrolment, arrival: Arrival) -> Given:
        """Give the same identity with fresh secrets; those of the lost reply are void."""
        bearer, auth_token = tokens.make(BEARER_PREFIX), secrets.token_urlsafe(32)
        taken = (
            update(Enrolment)
            .where(
                Enrolment.agent_id == known.agent_id,
                Enrolment.reissues == known.reissues,
                Enrolment.closed_ms.is_(None),
            )
            .values(reissues=known.reissues + 1, bearer_digest=tokens.digest(bearer))
        )
        if affected(session, taken) != 1:
            raise UnauthorizedError("that nonce was used", code=Code.BAD_PROOF)
        agent, asset = session.execute(
            select(Agent, Asset)
            .join(Asset, Asset.id == Agent.asset_id)
            .where(Agent.id == known.agent_id)
        ).one()
        agent.secret_sealed = self._keyring.seal(auth_token, f"agent:{agent.id}")
        certificates.revoke_all(session, agent.id)
        leaf = self._sign(session, agent, arrival.shown)
        who = principal(agent, asset, arrival.address)
        audit.record(
            session, agent.tenant_id, who, "agent.enrolled", of=("agent", asset.id), again=True
        )
        return Given(agent, bearer, auth_token, leaf, tuple(asset.tags))

    def _sign(self, session: Session, agent: Agent, shown: ShownKey) -> Leaf:
        return certificates.issue(session, self._authority, agent, shown, self._hours)

    def _nonce(self, known: Enrolment) -> str:
        sealed = self._keyring.seal(f"{now_ms() + NONCE_MS}:{known.reissues}", _owner(known))
        return base64.urlsafe_b64encode(base64.b64decode(sealed)).decode().rstrip("=")

    def _check_nonce(self, known: Enrolment, nonce: str) -> None:
        error = UnauthorizedError("that nonce is not good any more", code=Code.BAD_PROOF)
        try:
            raw = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
            said = self._keyring.unseal(base64.b64encode(raw).decode(), _owner(known))
        except (ValueError, SettingsError):
            raise error from None
        expires_ms, _, count = said.partition(":")
        if int(expires_ms) < now_ms() or int(count) != known.reissues:
            raise error


def principal(agent: Agent, asset: Asset, address: str | None) -> Principal:
    """Return an agent as the audit log names it."""
    return Principal("agent", agent.client_id, asset.name, agent.tenant_id, None, agent.id, address)


def audit_refusal(session: Session, token: str, error: HubError, address: str | None) -> None:
    """Tell the tenant of a known token that somebody was refused with it."""
    found = enrolment_tokens.find(session, token)
    if found is None:
        return
    who = Principal("system", "enrolment", "enrolment", found.tenant_id, None, None, address)
    of = ("enrolment_token", found.id)
    audit.record(session, found.tenant_id, who, "agent.enrolled", error.code, of=of)


def _is_open(known: Enrolment) -> bool:
    return known.closed_ms is None and now_ms() - known.enrolled_ms <= WINDOW_MS


def _owner(known: Enrolment) -> str:
    return f"enrolment nonce:{known.agent_id}"


def _check_tenant(session: Session, tenant_id: str, said: str | None) -> None:
    tenant = session.get(Tenant, tenant_id)
    if tenant is None or tenant.disabled_ms is not None:
        raise NotFoundError("the token is not one of that tenant")
    if said is not None and said not in (tenant.id, tenant.name):
        raise NotFoundError("the token is not one of that tenant")


def _spent(token: EnrolmentToken) -> HubError:
    if token.revoked_ms is not None:
        return UnauthorizedError("the token was revoked", code=Code.TOKEN_EXPIRED)
    if token.expires_ms <= now_ms():
        return UnauthorizedError("the token has expired", code=Code.TOKEN_EXPIRED)
    return ConflictError("the token has been used", code=Code.TOKEN_USED)
