"""Routes of the device flow: a code is asked for and polled by anybody, approved by a person.

Rules: whoever approves is shown what asks (machine, address, key) before; six wrong codes lock the
approver out for ten minutes, audited; unknown device codes count as failures of their address.
Source: RFC 8628; docs/reference/http.rst.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.assembly import Hub
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import iso, now_ms
from hub.errors import BadRequestError, HubError, NotFoundError
from hub.heartbeat.agent_requests import answer, documented, read_body
from hub.operators import credentials, device_codes
from hub.operators.device_codes import Yield
from hub.operators.models import DeviceCode
from hub.requests import Caller, TheHub, address_of, may, public, refused
from wire import bodies, paths
from wire.enrolment import (
    DeviceCodeRequest,
    DeviceCodeResponse,
    DeviceTokenRequest,
    DeviceTokenResponse,
)
from wire.problem import Code

router = APIRouter(tags=["device"])

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
UserCode = Annotated[str, Path(min_length=1, max_length=16)]


class DeviceView(BaseModel):
    """What waits for approval: who asks, from where, with which key."""

    user_code: str
    client_id: str
    hostname: str | None
    platform: str | None
    address: str | None
    key_thumbprint: str | None
    tenant: str | None
    created_at: str
    expires_at: str


@router.post(
    paths.DEVICE_CODE,
    dependencies=[public()],
    **documented(DeviceCodeRequest, DeviceCodeResponse),
)
async def ask(hub: TheHub, request: Request) -> Response:
    """Ask for a code that a person approves."""
    asked = await read_body(request, DeviceCodeRequest)
    address = address_of(request)
    hub.doors.codes.check(address or "")
    hub.doors.codes.add(address or "")
    row, text = await hub.database.write(None, device_codes.make, asked, address)
    page = f"{hub.addresses.base(request)}/device"
    shown = device_codes.shown(row)
    return answer(
        DeviceCodeResponse(
            device_code=text,
            user_code=shown,
            verification_uri=page,
            verification_uri_complete=f"{page}?code={shown}",
            expires_in=device_codes.TTL_MS // 1000,
            interval=row.interval_s,
        )
    )


@router.post(
    paths.DEVICE_TOKEN,
    dependencies=[public()],
    **documented(DeviceTokenRequest, DeviceTokenResponse),
)
async def token(hub: TheHub, request: Request) -> Response:
    """Poll for the approval of a code."""
    asked = await read_body(request, DeviceTokenRequest)
    address = address_of(request)
    hub.doors.polls.check(address or "")
    if asked.grant_type != GRANT:
        raise device_codes.refusal(Code.UNSUPPORTED_GRANT_TYPE)
    row = await hub.database.write(None, device_codes.poll, asked.device_code, asked.client_id)
    if isinstance(row, BadRequestError):
        if row.code == Code.INVALID_GRANT:
            hub.doors.polls.add(address or "")
        raise row
    if row.client_id == "agent":
        return answer(DeviceTokenResponse(token_type="enrolment"))
    return answer(_told(await hub.database.write(None, device_codes.exchange, row, address)))


@router.get("/api/v1/device/{user_code}")
async def look(
    hub: TheHub, user_code: UserCode, caller: Caller = may("device.approve")
) -> DeviceView:
    """Show what a code would let in."""
    return _view(await _found(hub, caller, user_code))


@router.post("/api/v1/device/{user_code}/approve", status_code=204)
async def approve(hub: TheHub, user_code: UserCode, caller: Caller = may("device.approve")) -> None:
    """Let it in, in the caller's own tenant; the command line in the caller's own name."""
    await _decide(hub, caller, user_code, is_approved=True)


@router.post("/api/v1/device/{user_code}/deny", status_code=204)
async def deny(hub: TheHub, user_code: UserCode, caller: Caller = may("device.approve")) -> None:
    """Refuse it."""
    await _decide(hub, caller, user_code, is_approved=False)


async def _decide(hub: Hub, caller: Principal, user_code: str, *, is_approved: bool) -> None:
    row = await _found(hub, caller, user_code)
    try:
        await hub.database.write(None, _decided, caller, row, is_approved)
    except HubError as error:
        await refused(hub, caller, "device.approve", error, device_code=row.id)
        raise


def _decided(session: Session, caller: Principal, row: DeviceCode, is_approved: bool) -> None:
    device_codes.decide(session, caller, row, is_approved=is_approved)


async def _found(hub: Hub, caller: Principal, user_code: str) -> DeviceCode:
    """Find a code that was typed; each wrong one is counted for who typed it."""
    guesses = hub.doors.guesses
    guesses.check(caller.id)
    try:
        return await hub.database.read(None, device_codes.find, user_code)
    except NotFoundError:
        guesses.add(caller.id)
        if guesses.wait_s(caller.id) > 0:
            await hub.database.write(
                None, audit.record, caller.tenant_id, caller, "device.approve", "locked"
            )
        raise


def _told(given: Yield) -> DeviceTokenResponse:
    expires_ms = given.login.expires_ms or now_ms() + credentials.SESSION_TTL_MS
    return DeviceTokenResponse(
        token_type="bearer",
        access_token=given.text,
        expires_in=(expires_ms - now_ms()) // 1000,
        expires_at=bodies.moment(expires_ms / 1000),
        tenant=given.tenant.name,
        user=given.user.name,
    )


def _view(row: DeviceCode) -> DeviceView:
    return DeviceView(
        user_code=device_codes.shown(row),
        client_id=row.client_id,
        hostname=row.hostname,
        platform=row.platform,
        address=row.address,
        key_thumbprint=row.key_thumbprint,
        tenant=row.tenant_name,
        created_at=iso(row.created_ms),
        expires_at=iso(row.expires_ms),
    )
