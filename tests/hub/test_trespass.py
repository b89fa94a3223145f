"""An object of another tenant is unknown to the caller, and told to both sides."""

from __future__ import annotations

import hashlib

from sqlalchemy import select

from hub.agents import service
from hub.audit.models import AuditRow
from hub.audit.service import SYSTEM_CHAIN
from hub.authorize import Role
from hub.ids import new_id
from hub.operators.models import Tenant
from hub.trespass import DENIED
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, People


def told(api: HubClient) -> list[AuditRow]:
    query = select(AuditRow).where(AuditRow.action == DENIED).order_by(AuditRow.tenant_id)
    return api.hub.database.read_now(None, lambda session: list(session.scalars(query)))


def test_the_callers_auditors_and_the_systems_are_told_and_the_caller_is_not(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    other = people.tenant("other")
    theirs = api.hub.database.write_now(
        None, lambda session: service.add_asset(session, other.id, "x")
    )
    operator = as_role("operator")
    denied = api.get(f"/api/v1/agents/{theirs.id}", headers=operator)
    unknown = api.get(f"/api/v1/agents/{new_id()}", headers=operator)
    assert denied.status_code == unknown.status_code == 404
    assert denied.content == unknown.content
    assert denied.headers == unknown.headers
    api.until(lambda: len(told(api)) == 2)
    digest = hashlib.sha256(theirs.id.encode()).hexdigest()
    system, own = told(api)
    assert (system.tenant_id, own.tenant_id) == (SYSTEM_CHAIN, acme.id)
    assert own.detail == {"target": digest, "route": "/api/v1/agents/{asset_id}"}
    assert system.detail["owner"] == other.id
    root = api.get("/api/v1/audit", params={"tenant_id": "system"}, headers=as_role("system_admin"))
    assert [row["action"] for row in root.json()["items"]] == [DENIED]


def test_nothing_is_told_of_what_nobody_has_or_of_ones_own(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    gone, other = people.user(acme, "ben", Role.AUDITOR), people.tenant("other")
    admin = as_role("tenant_admin")
    api.delete(f"/api/v1/users/{gone.id}", headers=admin)
    for path in (f"/api/v1/users/{gone.id}", "/api/v1/users/x", f"/api/v1/jobs/{new_id()}"):
        assert api.get(path, headers=admin).status_code == 404
    theirs = api.hub.database.write_now(
        None, lambda session: service.add_asset(session, other.id, "x")
    )
    api.get(f"/api/v1/agents/{theirs.id}", headers=admin)  # told behind the others
    assert {row.detail["route"] for row in api.until(lambda: told(api))} == {
        "/api/v1/agents/{asset_id}"
    }


def test_an_id_in_a_query_is_told_as_one_in_a_path(
    api: HubClient, people: People, as_role: Headers
) -> None:
    other = people.tenant("other")
    theirs = api.hub.database.write_now(
        None, lambda session: service.add_asset(session, other.id, "x")
    )
    path = f"/api/v1/commands?asset_id={theirs.id}"
    assert api.get(path, headers=as_role("operator")).status_code == 404
    api.until(lambda: len(told(api)) == 2)
