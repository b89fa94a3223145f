"""Users over the API: whose, by whom, and what a change ends."""

from __future__ import annotations

import pytest

from hub.authorize import Role
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import PASSWORD, Headers, People

NEW = {"name": "ben", "role": "operator", "password": PASSWORD}


def test_an_admin_makes_a_user_who_can_log_in(api: HubClient, as_role: Headers) -> None:
    made = api.post("/api/v1/users", json=NEW, headers=as_role("tenant_admin"))
    assert made.status_code == 201
    assert "password" not in made.text.replace("has_password", "")
    assert (
        api.post("/api/v1/sessions", json={"user": "ben", "password": PASSWORD}).status_code == 201
    )


def test_names_are_unique_over_all_tenants(
    api: HubClient, people: People, as_role: Headers
) -> None:
    people.user(people.tenant("other"), "ben", Role.AUDITOR)
    taken = api.post("/api/v1/users", json=NEW, headers=as_role("tenant_admin"))
    assert taken.json()["code"] == "conflict"


@pytest.mark.parametrize("body", [
    NEW | {"name": "a b"}, NEW | {"name": ""}, NEW | {"name": "é"}, NEW | {"password": "short"},
    NEW | {"role": "root"}, {"name": "ben"}, [], NEW | {"name": "x" * 65},
])  # fmt: skip
def test_what_is_no_user_is_a_bad_request(api: HubClient, as_role: Headers, body: object) -> None:
    refused = api.post("/api/v1/users", json=body, headers=as_role("tenant_admin"))
    assert refused.status_code == 400


def test_nobody_gives_or_touches_a_role_above_their_own(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    root = people.user(acme, "root", Role.SYSTEM_ADMIN)
    admin = as_role("tenant_admin")
    given = api.post("/api/v1/users", json=NEW | {"role": "system_admin"}, headers=admin)
    touched = api.patch(f"/api/v1/users/{root.id}", json={"disabled": True}, headers=admin)
    assert [given.json()["code"], touched.json()["code"]] == ["role_too_high"] * 2
    me = api.get("/api/v1/me", headers=admin).json()["user_id"]
    raised = api.patch(f"/api/v1/users/{me}", json={"role": "system_admin"}, headers=admin)
    assert raised.status_code == 403


def test_another_tenants_user_is_as_unknown_as_nobody(
    api: HubClient, people: People, as_role: Headers
) -> None:
    theirs = people.user(people.tenant("other"), "zoe", Role.AUDITOR)
    nobody = "0190aaaa-0000-7000-8000-000000000000"
    admin = as_role("tenant_admin")
    for user_id in (theirs.id, nobody):
        path = f"/api/v1/users/{user_id}"
        replies = [
            api.get(path, headers=admin),
            api.patch(path, json={"role": "auditor"}, headers=admin),
            api.delete(path, headers=admin),
            api.delete(f"{path}/logins", headers=admin),
        ]
        assert [reply.status_code for reply in replies] == [404] * 4
        assert {reply.text for reply in replies} == {api.get("/api/v1/users/x", headers=admin).text}
    into = NEW | {"tenant_id": theirs.tenant_id}
    assert api.post("/api/v1/users", json=into, headers=admin).status_code == 404


def test_a_system_admin_acts_in_every_tenant(
    api: HubClient, people: People, as_role: Headers
) -> None:
    other = people.tenant("other")
    root = as_role("system_admin")
    made = api.post("/api/v1/users", json=NEW | {"tenant_id": other.id}, headers=root).json()
    assert made["tenant_id"] == other.id
    assert {user["name"] for user in api.get("/api/v1/users", headers=root).json()["items"]} >= {
        "ben",
        "system_admin.acme",
    }


def test_lists_are_paged_and_searched_without_wildcards(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    for n in range(5):
        people.user(acme, f"u{n}", Role.AUDITOR)
    people.user(acme, "u_x", Role.AUDITOR)
    auditor = as_role("auditor")
    names, cursor = [], None
    while True:
        params = {"q": "u", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/v1/users", params=params, headers=auditor).json()
        names += [user["name"] for user in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert names == ["auditor.acme", "u0", "u1", "u2", "u3", "u4", "u_x"]
    found = api.get("/api/v1/users", params={"q": "u_"}, headers=auditor).json()["items"]
    assert [user["name"] for user in found] == ["u_x"]
    assert api.get("/api/v1/users", params={"q": "%"}, headers=auditor).json()["items"] == []


def test_a_disabled_user_is_nobody_at_once_and_back_only_by_a_new_log_in(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    user = people.user(acme, "ben", Role.OPERATOR)
    theirs = people.headers(user)
    admin, path = as_role("tenant_admin"), f"/api/v1/users/{user.id}"
    assert api.patch(path, json={"disabled": True}, headers=admin).json()["disabled_at"]
    assert api.get("/api/v1/me", headers=theirs).status_code == 401
    log_in = {"user": "ben", "password": PASSWORD}
    assert api.post("/api/v1/sessions", json=log_in).status_code == 401
    assert api.patch(path, json={"disabled": False}, headers=admin).json()["disabled_at"] is None
    assert api.get("/api/v1/me", headers=theirs).status_code == 401
    assert api.post("/api/v1/sessions", json=log_in).status_code == 201


def test_a_demoted_users_tokens_shrink_with_them(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    user = people.user(acme, "ben", Role.TENANT_ADMIN)
    theirs = people.headers(user)
    path = f"/api/v1/users/{user.id}"
    api.patch(path, json={"role": "auditor"}, headers=as_role("tenant_admin"))
    assert api.get("/api/v1/me", headers=theirs).json()["role"] == "auditor"
    assert api.post("/api/v1/users", json=NEW, headers=theirs).status_code == 403


def test_a_new_password_ends_sessions_and_keeps_tokens(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    user = people.user(acme, "ben", Role.OPERATOR)
    token = people.headers(user)
    made = api.post("/api/v1/sessions", json={"user": "ben", "password": PASSWORD}).json()
    change = {"password": "another good password"}
    api.patch(f"/api/v1/users/{user.id}", json=change, headers=as_role("tenant_admin"))
    session = {"Authorization": f"Bearer {made['token']}"}
    assert api.get("/api/v1/me", headers=session).status_code == 401
    assert api.get("/api/v1/me", headers=token).status_code == 200
    log_in = api.post("/api/v1/sessions", json={"user": "ben", **change})
    assert log_in.status_code == 201


def test_the_last_system_admin_stays(api: HubClient, as_role: Headers) -> None:
    root = as_role("system_admin")
    path = f"/api/v1/users/{api.get('/api/v1/me', headers=root).json()['user_id']}"
    replies = [
        api.patch(path, json={"disabled": True}, headers=root),
        api.patch(path, json={"role": "auditor"}, headers=root),
        api.delete(path, headers=root),
    ]
    assert [reply.json()["code"] for reply in replies] == ["last_admin"] * 3


def test_a_deleted_user_leaves_nothing_to_log_in_by(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    user = people.user(acme, "ben", Role.OPERATOR)
    theirs = people.headers(user)
    path = f"/api/v1/users/{user.id}"
    assert api.delete(path, headers=as_role("tenant_admin")).status_code == 204
    assert api.get("/api/v1/me", headers=theirs).status_code == 401
    assert api.get(path, headers=as_role("tenant_admin")).status_code == 404
