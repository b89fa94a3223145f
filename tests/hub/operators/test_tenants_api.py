"""Tenants over the API."""

from __future__ import annotations

from hub.authorize import Role
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import PASSWORD, Headers, People


def test_everybody_sees_their_own_tenant_alone(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    other = people.tenant("other")
    for role in ("auditor", "operator", "tenant_admin"):
        listed = api.get("/api/v1/tenants", headers=as_role(role)).json()["items"]
        assert [tenant["id"] for tenant in listed] == [acme.id]
        assert api.get(f"/api/v1/tenants/{other.id}", headers=as_role(role)).status_code == 404
    every = api.get("/api/v1/tenants", headers=as_role("system_admin")).json()["items"]
    assert {tenant["id"] for tenant in every} == {acme.id, other.id}


def test_only_a_system_admin_makes_and_changes_tenants(api: HubClient, as_role: Headers) -> None:
    refused = api.post("/api/v1/tenants", json={"name": "new"}, headers=as_role("tenant_admin"))
    assert refused.status_code == 403
    root = as_role("system_admin")
    made = api.post("/api/v1/tenants", json={"name": "new"}, headers=root)
    assert made.status_code == 201
    assert api.post("/api/v1/tenants", json={"name": "new"}, headers=root).status_code == 409
    path = f"/api/v1/tenants/{made.json()['id']}"
    changed = api.patch(path, json={"name": "newer", "enforces_mtls": True}, headers=root).json()
    assert (changed["name"], changed["enforces_mtls"]) == ("newer", True)


def test_a_disabled_or_deleted_tenants_people_are_nobody(
    api: HubClient, people: People, as_role: Headers
) -> None:
    other = people.tenant("other")
    theirs = people.headers(people.user(other, "zoe", Role.OPERATOR))
    root, path = as_role("system_admin"), f"/api/v1/tenants/{other.id}"
    log_in = {"user": "zoe", "password": PASSWORD}
    api.patch(path, json={"disabled": True}, headers=root)
    assert api.get("/api/v1/me", headers=theirs).status_code == 401
    assert api.post("/api/v1/sessions", json=log_in).status_code == 401
    api.patch(path, json={"disabled": False}, headers=root)
    assert api.get("/api/v1/me", headers=theirs).status_code == 200
    assert api.delete(path, headers=root).status_code == 204
    assert api.get("/api/v1/me", headers=theirs).status_code == 401
    assert api.get(path, headers=root).status_code == 404
    assert api.post("/api/v1/tenants", json={"name": "other"}, headers=root).status_code == 201


def test_nobody_turns_their_own_tenant_off(api: HubClient, acme: Tenant, as_role: Headers) -> None:
    root, path = as_role("system_admin"), f"/api/v1/tenants/{acme.id}"
    assert api.delete(path, headers=root).json()["code"] == "own_tenant"
    assert api.patch(path, json={"disabled": True}, headers=root).json()["code"] == "own_tenant"
