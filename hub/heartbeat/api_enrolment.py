"""Routes of enrolment: for agents (enroll, renew, unenroll, ca, time), for people (tokens, rules).

Rules: failures of an address are counted, a good token is never refused for them.
Source: docs/reference/http.rst.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.agents.models import Agent
from hub.assembly import Hub
from hub.audit import service as audit
from hub.clock import iso, iso_or_none, now_ms
from hub.errors import (
    ForbiddenError,
    HubError,
    NotFoundError,
    UnauthorizedError,
)
from hub.heartbeat import approval, certificates, enrolment, enrolment_tokens, proofs
from hub.heartbeat.agent_requests import agent_may, answer, as_agent, documented, read_body
from hub.heartbeat.authority import Leaf
from hub.heartbeat.enrolment import Arrival, Given
from hub.heartbeat.enrolment_tokens import Wanted
from hub.heartbeat.identification import Known, Shown
from hub.heartbeat.models import EnrolmentRules, EnrolmentToken
from hub.heartbeat.proofs import ShownKey
from hub.operators.models import Tenant
from hub.requests import Caller, TheHub, address_of, may, public
from wire import enroltoken, paths
from wire.enrolment import (
    CaResponse,
    EnrollRequest,
    EnrollResponse,
    RenewRequest,
    RenewResponse,
    TimeResponse,
    UnenrollRequest,
)
from wire.errors import WireError
from wire.problem import Code

router = APIRouter(tags=["enrolment"])

Tag = Annotated[str, StringConstraints(pattern=rf"^{enrolment_tokens.TAG.pattern}$")]
Tags = Annotated[list[Tag], Field(max_length=enrolment_tokens.MAX_TAGS)]


@router.post(paths.ENROLL, dependencies=[public()], **documented(EnrollRequest, EnrollResponse))
async def enroll(hub: TheHub, request: Request) -> Response:
    """Exchange a token or an approved device code for an identity.

    Raises:
        UnauthorizedError, ConflictError, NotFoundError: why not; docs/reference/http.rst.
    """
    asked = await read_body(request, EnrollRequest)
    arrival = Arrival(asked, proofs.read_csr(asked.csr), address_of(request))
    try:
        if asked.token is None:
            given = await hub.database.write(None, hub.enroller.by_device_code, arrival)
        else:
            _check_token_text(asked.token)
            given = await hub.database.write(None, hub.enroller.by_token, arrival)
    except HubError as error:
        await _refused(hub, arrival, error)
        raise
    for agent_id in given.replaced:
        await hub.links.cut(agent_id, "replaced")
    return answer(_told(hub, request, given))


@router.post(paths.RENEW, **documented(RenewRequest, RenewResponse))
async def renew(hub: TheHub, request: Request, shown: Shown = agent_may("agent.beat")) -> Response:
    """Sign a new key for an agent that shows its present credential."""
    asked = await read_body(request, RenewRequest)
    key = proofs.read_csr(asked.csr)
    leaf = await as_agent(
        hub, shown, "agent.renewed", lambda session, known: _renewed(session, hub, known, key)
    )
    return answer(RenewResponse(certificate=leaf.pem, ca_chain=hub.authority.chain_pem))


@router.post(paths.UNENROLL, **documented(UnenrollRequest, None, 204))
async def unenroll(
    hub: TheHub, request: Request, shown: Shown = agent_may("agent.beat")
) -> Response:
    """Take an agent's identity back; its machine's history stays."""
    asked = await read_body(request, UnenrollRequest)
    known = await as_agent(
        hub, shown, "agent.unenrolled", lambda session, known: _given_back(session, known, asked)
    )
    await hub.links.cut(known.agent_id, "revoked")
    return Response(status_code=204)


@router.get(paths.CA, dependencies=[public()], **documented(None, CaResponse))
async def ca(hub: TheHub) -> Response:
    """Return the hub's authority; believe it by its fingerprint alone."""
    return answer(CaResponse(ca_chain=hub.authority.chain_pem))


@router.get(paths.TIME, dependencies=[public()], **documented(None, TimeResponse))
async def time() -> Response:
    """Return the hub's clock."""
    return answer(TimeResponse(server_ts=now_ms()))


class NewToken(BaseModel):
    """What an enrolment token shall allow. `tenant_id`: a system_admin's choice."""

    uses: Annotated[int, Field(ge=1, le=enrolment_tokens.MAX_USES)] = 1
    expires_in: Annotated[int, Field(ge=1, le=enrolment_tokens.MAX_TTL_S)] = (
        enrolment_tokens.DEFAULT_TTL_S
    )
    tags: Tags = []
    needs_approval: bool = False
    label: Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    tenant_id: Annotated[str, StringConstraints(max_length=64)] | None = None


class TokenView(BaseModel):
    """An enrolment token, without its text."""

    id: str
    tenant_id: str
    label: str
    uses: int
    uses_max: int
    tags: list[str]
    needs_approval: bool
    created_by: str
    created_at: str
    expires_at: str
    revoked_at: str | None


class TokenMade(TokenView):
    """A new one: `token` is the plain form, `paste` carries the hub's URL, too."""

    token: str
    paste: str


class Rules(BaseModel):
    """Machines that come with one of these tags need no approval."""

    auto_approve_tags: Tags = []


@router.post("/api/v1/enrolment/tokens", status_code=201)
async def make_token(
    hub: TheHub, request: Request, body: NewToken, caller: Caller = may("enrolment.write")
) -> TokenMade:
    """Make an enrolment token; its text is shown once."""
    tenant_id = body.tenant_id or caller.tenant_id
    if caller.scope not in (None, tenant_id):
        raise NotFoundError("there is no such tenant")
    wanted = Wanted(body.uses, body.expires_in, body.tags, body.needs_approval, body.label)
    row, text = await hub.database.write(caller.scope, _make, caller, tenant_id, wanted)
    paste = enroltoken.carrying(text, hub.addresses.base(request), hub.addresses.pin)
    return TokenMade(**_view(row).model_dump(), token=text, paste=paste)


@router.get("/api/v1/enrolment/tokens")
async def list_tokens(
    hub: TheHub,
    caller: Caller = may("enrolment.read"),
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> pages.Page[TokenView]:
    """List enrolment tokens, newest first."""
    rows, following = await hub.database.read(
        caller.scope,
        lambda session: pages.fetch(
            session, select(EnrolmentToken), (EnrolmentToken.id,), limit, cursor, descending=True
        ),
    )
    return pages.Page(items=[_view(row) for row in rows], next=following)


@router.delete("/api/v1/enrolment/tokens/{token_id}", status_code=204)
async def revoke_token(
    hub: TheHub, token_id: str, caller: Caller = may("enrolment.write")
) -> Response:
    """Make an enrolment token worthless."""
    await hub.database.write(caller.scope, enrolment_tokens.revoke, caller, token_id)
    return Response(status_code=204)


@router.get("/api/v1/enrolment/rules")
async def read_rules(hub: TheHub, caller: Caller = may("enrolment.read")) -> Rules:
    """Read what the caller's tenant decided beforehand."""
    return Rules(auto_approve_tags=await hub.database.read(caller.scope, _rules, caller))


@router.put("/api/v1/enrolment/rules")
async def write_rules(hub: TheHub, body: Rules, caller: Caller = may("enrolment.write")) -> Rules:
    """Decide beforehand which machines of the caller's tenant need no approval."""
    await hub.database.write(caller.scope, _set_rules, caller, body)
    return body


def _check_token_text(token: str) -> None:
    """Tell a typing error from a foreign token without a look into the database.

    Raises:
        UnauthorizedError: `token_unknown`.
    """
    try:
        is_plain = enroltoken.read(token).token == token.strip()
    except WireError as error:
        raise UnauthorizedError(error.detail, code=Code.TOKEN_UNKNOWN) from error
    if not is_plain:
        raise UnauthorizedError("send the token's plain form", code=Code.TOKEN_UNKNOWN)


async def _refused(hub: Hub, arrival: Arrival, error: HubError) -> None:
    """Count a failure and audit it; whoever fails too often is told to wait instead.

    Raises:
        RateLimitedError: too many failures from there.
    """
    if error.status >= 500 or error.extra.get("nonce"):
        return
    key = arrival.address or ""
    hub.enrolment_failures.check(key)
    hub.enrolment_failures.add(key)
    token = arrival.request.token
    if token is not None:
        await hub.database.write(None, enrolment.audit_refusal, token, error, arrival.address)


def _told(hub: Hub, request: Request, given: Given) -> EnrollResponse:
    return EnrollResponse(
        agent_id=given.agent.client_id,
        asset_id=given.agent.asset_id,
        certificate=given.leaf.pem,
        ca_chain=hub.authority.chain_pem,
        service_account_token=given.bearer,
        auth_token=given.auth_token,
        server_url=hub.addresses.base(request),
        policy=hub.beats.policies.of_machine(given.agent.tenant_id, given.tags),
        agents_url=hub.addresses.agents_url,
        state="pending" if given.agent.state == "pending" else "active",
    )


def _renewed(session: Session, hub: Hub, known: Known, key: ShownKey) -> Leaf:
    agent = session.get_one(Agent, known.agent_id)
    leaf = certificates.issue(session, hub.authority, agent, key, hub.settings.certificate_hours)
    of = ("agent", known.asset_id)
    audit.record(
        session, known.tenant_id, known.principal, "agent.renewed", of=of, serial=leaf.serial
    )
    return leaf


def _given_back(session: Session, known: Known, asked: UnenrollRequest) -> Known:
    if asked.agent_id != known.client_id:
        raise ForbiddenError(
            "the body names another agent than the credential", code=Code.IDENTITY_MISMATCH
        )
    approval.end(session, known.principal, known.agent_id, "agent.unenrolled")
    return known


def _make(
    session: Session, caller: Caller, tenant_id: str, wanted: Wanted
) -> tuple[EnrolmentToken, str]:
    if session.get(Tenant, tenant_id) is None:
        raise NotFoundError("there is no such tenant")
    return enrolment_tokens.make(session, caller, tenant_id, wanted)


def _view(row: EnrolmentToken) -> TokenView:
    return TokenView(
        id=row.id,
        tenant_id=row.tenant_id,
        label=row.label,
        uses=row.uses,
        uses_max=row.uses_max,
        tags=row.tags,
        needs_approval=row.needs_approval,
        created_by=row.created_by,
        created_at=iso(row.created_ms),
        expires_at=iso(row.expires_ms),
        revoked_at=iso_or_none(row.revoked_ms),
    )


def _rules(session: Session, caller: Caller) -> list[str]:
    rules = session.get(EnrolmentRules, caller.tenant_id)
    return [] if rules is None else rules.auto_approve_tags


def _set_rules(session: Session, caller: Caller, body: Rules) -> None:
    rules = session.get(EnrolmentRules, caller.tenant_id)
    if rules is None:
        rules = EnrolmentRules(tenant_id=caller.tenant_id)
        session.add(rules)
    rules.auto_approve_tags = sorted(set(body.auto_approve_tags))
    of = ("enrolment_rules", caller.tenant_id)
    tags = rules.auto_approve_tags
    audit.record(
        session, caller.tenant_id, caller, "enrolment.write", of=of, auto_approve_tags=tags
    )
