"""The device flow: codes asked for, polled, shown, approved, used once."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from sqlalchemy import func, select, update

from hub.authorize import Role
from hub.operators import device_codes
from hub.operators.device_api import GRANT
from hub.operators.models import DeviceCode, Login
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, People

CLI = {"client_id": "cli", "hostname": "laptop", "platform": "linux"}
AGENT = {"client_id": "agent", "key_thumbprint": "ab" * 32, "hostname": "web-1"}


def ask(api: HubClient, body: dict = CLI) -> dict:
    made = api.post("/api/v1/device/code", json=body)
    assert made.status_code == 200, made.text
    return made.json()


def poll(api: HubClient, code: dict, client_id: str = "cli") -> httpx.Response:
    """Poll as if the interval were over."""
    row = update(DeviceCode).values(polled_ms=None)
    api.hub.database.write_now(None, lambda session: session.execute(row))
    return poll_at_once(api, code, client_id)


def poll_at_once(api: HubClient, code: dict, client_id: str = "cli") -> httpx.Response:
    body = {"grant_type": GRANT, "device_code": code["device_code"], "client_id": client_id}
    return api.post("/api/v1/device/token", json=body)


def test_an_approved_code_brings_a_session_of_its_approver_once(
    api: HubClient, as_role: Headers
) -> None:
    code, operator = ask(api), as_role("operator")
    assert poll(api, code).json()["error"] == "authorization_pending"
    path = f"/api/v1/device/{code['user_code']}"
    seen = api.get(path, headers=operator).json()
    assert (seen["hostname"], seen["client_id"], seen["address"]) == ("laptop", "cli", "127.0.0.1")
    assert api.post(f"{path}/approve", headers=operator).status_code == 204
    given = poll(api, code).json()
    assert (given["token_type"], given["user"], given["tenant"]) == (
        "bearer",
        "operator.acme",
        "acme",
    )
    who = {"Authorization": f"Bearer {given['access_token']}"}
    assert api.get("/api/v1/me", headers=who).json()["role"] == "operator"
    assert poll(api, code).json()["error"] == "invalid_grant"


def test_an_approved_code_is_exchanged_once_by_twenty_at_once(
    api: HubClient, as_role: Headers
) -> None:
    code = ask(api)
    api.post(f"/api/v1/device/{code['user_code']}/approve", headers=as_role("operator"))

    def exchange(session):
        row = session.scalars(select(DeviceCode)).one()
        session.expunge(row)
        return device_codes.exchange(session, row, None)

    async def all_at_once() -> list:
        jobs = [api.hub.database.write(None, exchange) for _ in range(20)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    results = api.run(all_at_once())
    assert sum(not isinstance(result, Exception) for result in results) == 1
    sessions = select(func.count()).select_from(Login).where(Login.kind == "session")
    assert api.hub.database.read_now(None, lambda session: session.scalar(sessions)) == 1


def test_polling_too_fast_slows_down_and_never_gets_a_token_early(
    api: HubClient, as_role: Headers
) -> None:
    code = ask(api)
    assert poll(api, code).json()["error"] == "authorization_pending"
    api.post(f"/api/v1/device/{code['user_code']}/approve", headers=as_role("operator"))
    early = [poll_at_once(api, code).json() for _ in range(2)]
    assert [one["error"] for one in early] == ["slow_down"] * 2
    assert [one["interval"] for one in early] == [10, 15]
    assert poll(api, code).status_code == 200


def test_a_form_is_read_as_rfc_8628_clients_send_it(api: HubClient) -> None:
    made = api.post("/api/v1/device/code", data={"client_id": "cli"})
    assert made.status_code == 200
    body = {"grant_type": "password", "device_code": "x", "client_id": "cli"}
    assert api.post("/api/v1/device/token", data=body).json()["error"] == "unsupported_grant_type"


def test_a_denied_an_expired_and_a_foreign_code_bring_nothing(
    api: HubClient, as_role: Headers
) -> None:
    denied, expired = ask(api), ask(api)
    api.post(f"/api/v1/device/{denied['user_code']}/deny", headers=as_role("operator"))
    assert poll(api, denied).json()["error"] == "access_denied"
    assert poll(api, expired, "agent").json()["error"] == "invalid_client"
    row = update(DeviceCode).where(DeviceCode.state == "pending").values(expires_ms=1)
    api.hub.database.write_now(None, lambda session: session.execute(row))
    assert poll(api, expired).json()["error"] == "expired_token"
    path = f"/api/v1/device/{expired['user_code']}"
    assert api.get(path, headers=as_role("operator")).status_code == 404


def test_an_agents_code_is_approved_and_brings_no_token(api: HubClient, as_role: Headers) -> None:
    code = ask(api, AGENT)
    path = f"/api/v1/device/{code['user_code']}"
    assert api.get(path, headers=as_role("operator")).json()["key_thumbprint"] == "ab" * 32
    api.post(f"{path}/approve", headers=as_role("operator"))
    assert poll(api, code, "agent").json() == {"token_type": "enrolment"}


def test_six_wrong_codes_lock_the_guesser_out_and_nobody_else(
    api: HubClient, as_role: Headers
) -> None:
    code, operator = ask(api), as_role("operator")
    wrong = [api.get("/api/v1/device/BBBB-BBBB", headers=operator) for _ in range(6)]
    assert [reply.status_code for reply in wrong] == [404] * 6
    path = f"/api/v1/device/{code['user_code']}"
    locked = api.get(path, headers=operator)
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) > 500
    assert api.get(path, headers=as_role("tenant_admin")).status_code == 200


def test_auditors_and_other_tenants_approve_nothing(
    api: HubClient, people: People, as_role: Headers
) -> None:
    code = ask(api, CLI | {"tenant": "acme"})
    path = f"/api/v1/device/{code['user_code']}/approve"
    assert api.post(path, headers=as_role("auditor")).status_code == 403
    theirs = people.headers(people.user(people.tenant("other"), "zoe", Role.TENANT_ADMIN))
    assert api.post(path, headers=theirs).json()["code"] == "other_tenant"
    assert api.post(path, headers=as_role("operator")).status_code == 204


def test_a_disabled_approvers_code_brings_nothing(api: HubClient, as_role: Headers) -> None:
    code, operator = ask(api), as_role("operator")
    api.post(f"/api/v1/device/{code['user_code']}/approve", headers=operator)
    user_id = api.get("/api/v1/me", headers=operator).json()["user_id"]
    api.patch(f"/api/v1/users/{user_id}", json={"disabled": True}, headers=as_role("tenant_admin"))
    assert poll(api, code).json()["error"] == "invalid_grant"


def test_codes_nobody_was_given_are_limited_by_address(api: HubClient) -> None:
    replies = [poll_at_once(api, {"device_code": f"x{n}"}) for n in range(21)]
    assert [reply.status_code for reply in replies] == [400] * 20 + [429]


def test_asking_for_codes_is_limited_by_address(api: HubClient) -> None:
    codes = [api.post("/api/v1/device/code", json=CLI).status_code for _ in range(31)]
    assert codes == [200] * 30 + [429]


@pytest.mark.parametrize("body", [{}, {"client_id": "web"}, {"client_id": "agent"}, [], "x"])
def test_what_is_no_request_is_a_bad_request(api: HubClient, body: object) -> None:
    assert api.post("/api/v1/device/code", json=body).status_code == 400


def test_the_space_of_user_codes_is_large_enough() -> None:
    assert len(set(device_codes.ALPHABET)) ** device_codes.CHARS >= 20**8
