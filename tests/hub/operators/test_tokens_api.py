"""API tokens and one's own log-ins."""

from __future__ import annotations

import pytest

from hub.authorize import Role
from hub.operators import credentials
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import PASSWORD, Headers, People


def bearer(made: dict) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['token']}"}


def test_a_token_is_shown_once_and_does_what_its_role_may(api: HubClient, as_role: Headers) -> None:
    operator = as_role("operator")
    body = {"label": "ci", "role": "auditor"}
    made = api.post("/api/v1/tokens", json=body, headers=operator).json()
    assert api.get("/api/v1/me", headers=bearer(made)).json()["role"] == "auditor"
    listed = api.get("/api/v1/tokens", headers=operator)
    assert made["token"] not in listed.text
    assert "ci" in [one["label"] for one in listed.json()["items"]]


@pytest.mark.parametrize("role", ["tenant_admin", "system_admin"])
def test_a_tokens_role_is_never_above_its_makers(
    api: HubClient, as_role: Headers, role: str
) -> None:
    body = {"label": "x", "role": role}
    refused = api.post("/api/v1/tokens", json=body, headers=as_role("operator"))
    assert refused.json()["code"] == "role_too_high"


def test_a_narrow_token_makes_no_wider_one(api: HubClient, as_role: Headers) -> None:
    admin = as_role("tenant_admin")
    narrow = api.post("/api/v1/tokens", json={"label": "x", "role": "operator"}, headers=admin)
    wide = {"label": "y", "role": "tenant_admin"}
    refused = api.post("/api/v1/tokens", json=wide, headers=bearer(narrow.json()))
    assert refused.status_code == 403


def test_a_token_that_a_token_makes_lives_no_longer(api: HubClient, as_role: Headers) -> None:
    short = {"label": "x", "expires_in_days": 1}
    maker = api.post("/api/v1/tokens", json=short, headers=as_role("operator")).json()
    child = api.post(
        "/api/v1/tokens", json={"label": "y", "expires_in_days": None}, headers=bearer(maker)
    ).json()
    assert child["expires_at"] <= maker["expires_at"]


def test_one_revokes_ones_own_and_an_admin_anybodys_of_the_tenant(
    api: HubClient, people: People, as_role: Headers
) -> None:
    mine = api.post("/api/v1/tokens", json={"label": "x"}, headers=as_role("operator")).json()
    theirs = people.headers(people.user(people.tenant("other"), "zoe", Role.TENANT_ADMIN))
    path = f"/api/v1/tokens/{mine['id']}"
    assert api.delete(path, headers=theirs).status_code == 404
    assert api.delete(path, headers=as_role("tenant_admin")).status_code == 204
    assert api.get("/api/v1/me", headers=bearer(mine)).status_code == 401
    assert api.delete(path, headers=as_role("operator")).status_code == 404


def test_an_operator_does_not_see_or_revoke_a_colleagues(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    other = people.headers(people.user(acme, "ben", Role.OPERATOR))
    made = api.post("/api/v1/tokens", json={"label": "bens"}, headers=other).json()
    operator, admin = as_role("operator"), as_role("tenant_admin")
    assert api.delete(f"/api/v1/tokens/{made['id']}", headers=operator).status_code == 404
    query = {"everybodys": True}
    for headers, is_seen in ((operator, False), (admin, True)):
        labels = [
            one["label"]
            for one in api.get("/api/v1/tokens", params=query, headers=headers).json()["items"]
        ]
        assert ("bens" in labels) is is_seen


def test_ones_own_sessions_are_listed_and_ended(
    api: HubClient, people: People, acme: Tenant
) -> None:
    people.user(acme, "ann", Role.AUDITOR)
    body = {"user": "ann", "password": PASSWORD}
    first, second = (api.post("/api/v1/sessions", json=body).json() for _ in range(2))
    listed = api.get("/api/v1/logins", headers=bearer(first)).json()["items"]
    assert {one["id"]: one["is_current"] for one in listed} == {
        first["id"]: True,
        second["id"]: False,
    }
    path = f"/api/v1/logins/{second['id']}"
    assert api.delete(path, headers=bearer(first)).status_code == 204
    assert api.get("/api/v1/me", headers=bearer(second)).status_code == 401


def test_an_expired_login_is_nobody(api: HubClient, people: People, acme: Tenant) -> None:
    user = people.user(acme, "ann", Role.AUDITOR)
    _, text = people.database.write_now(
        None, lambda session: credentials.issue(session, user, "session", ttl_ms=-1)
    )
    assert api.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"}).status_code == 401


@pytest.mark.parametrize("text", ["", "x", "jlt_x", "jlt_" + "A" * 43 + "_00000000", "é", "\t"])
def test_what_is_no_token_is_nobody(api: HubClient, text: str) -> None:
    header = f"Bearer {text}".encode()
    assert api.get("/api/v1/me", headers={"Authorization": header}).status_code == 401


def test_a_used_login_says_when(api: HubClient, as_role: Headers) -> None:
    operator = as_role("operator")
    made = api.post("/api/v1/tokens", json={"label": "x"}, headers=operator).json()
    assert made["used_at"] is None
    api.get("/api/v1/me", headers=bearer(made))

    def used_at() -> str | None:
        listed = api.get("/api/v1/tokens", headers=operator).json()["items"]
        return next(one["used_at"] for one in listed if one["id"] == made["id"])

    assert api.until(used_at)
