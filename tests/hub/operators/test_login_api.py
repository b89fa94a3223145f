"""Logging in and out over the API."""

from __future__ import annotations

import pyotp
from sqlalchemy import select

from hub.assembly import Hub
from hub.audit.models import AuditRow
from hub.authorize import Role
from hub.operators.models import Tenant, User
from tests.doubles.hub_client import URL, HubClient
from tests.hub.conftest import PASSWORD, People


def log_in(api: HubClient, **body: object):
    return api.post("/api/v1/sessions", json={"user": "ann", "password": PASSWORD} | body)


def test_a_password_gives_a_session_that_says_who_one_is(
    api: HubClient, people: People, acme: Tenant
) -> None:
    people.user(acme, "ann", Role.OPERATOR)
    made = log_in(api)
    assert made.status_code == 201
    assert made.json()["role"] == "operator"
    assert "set-cookie" not in made.headers
    who = api.get("/api/v1/me", headers={"Authorization": f"Bearer {made.json()['token']}"}).json()
    assert (who["user"], who["tenant"], who["login_kind"]) == ("ann", "acme", "session")
    assert "admin.run" in who["actions"]
    assert "users.write" not in who["actions"]


def test_an_ended_session_is_nobody(api: HubClient, people: People, acme: Tenant) -> None:
    people.user(acme, "ann", Role.OPERATOR)
    headers = {"Authorization": f"Bearer {log_in(api).json()['token']}"}
    assert api.delete("/api/v1/sessions/current", headers=headers).status_code == 204
    assert api.get("/api/v1/me", headers=headers).status_code == 401


def test_a_wrong_password_and_an_unknown_name_look_the_same(
    api: HubClient, people: People, acme: Tenant
) -> None:
    people.user(acme, "ann", Role.OPERATOR)
    wrong, unknown = log_in(api, password="wrong"), log_in(api, user="nobody")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["code"] == "login_failed"


def test_failures_are_limited_and_successes_are_not(
    api: HubClient, people: People, acme: Tenant
) -> None:
    people.user(acme, "ann", Role.OPERATOR)
    assert {log_in(api).status_code for _ in range(8)} == {201}
    codes = [log_in(api, password="wrong").status_code for _ in range(7)]
    assert codes == [401] * 6 + [429]
    refused = log_in(api)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_a_code_is_needed_where_the_account_has_one_and_is_used_once(
    api: HubClient, people: People, acme: Tenant, hub: Hub
) -> None:
    user = people.user(acme, "ann", Role.OPERATOR)
    secret = pyotp.random_base32()

    def give(session) -> None:
        session.get_one(User, user.id).totp_sealed = hub.keyring.seal(secret, f"user:{user.id}")

    hub.database.write_now(None, give)
    assert log_in(api).json()["code"] == "totp_required"
    assert log_in(api, totp="000000x").json()["code"] == "login_failed"
    code = pyotp.TOTP(secret).now()
    assert [log_in(api, totp=code).status_code for _ in range(2)] == [201, 401]


def test_a_cookie_is_set_only_for_our_own_page_and_never_beside_the_text(
    api: HubClient, people: People, acme: Tenant
) -> None:
    people.user(acme, "ann", Role.OPERATOR)
    assert log_in(api, cookie=True).json()["code"] == "bad_origin"
    made = api.post(
        "/api/v1/sessions",
        json={"user": "ann", "password": PASSWORD, "cookie": True},
        headers={"Origin": "http://127.0.0.1:8480"},
    )
    assert made.json()["token"] is None
    cookie = made.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert api.get("/api/v1/me").status_code == 200
    assert api.delete("/api/v1/sessions/current").json()["code"] == "bad_origin"


def test_leaving_by_the_page_is_audited_as_by_the_api(
    api: HubClient, people: People, acme: Tenant
) -> None:
    user = people.user(acme, "ann", Role.OPERATOR)
    cookie = {"Cookie": f"jackline_session={people.token(user)}", "Origin": URL}
    assert api.post("/logout", headers=cookie).status_code == 303
    query = select(AuditRow.action).where(AuditRow.actor_id == user.id)
    assert api.hub.database.read_now(None, lambda s: list(s.scalars(query))) == ["logout"]
