"""The audit log over the API."""

from __future__ import annotations

import base64

import pytest
from sqlalchemy.orm import Session

from hub.audit import service
from hub.authorize import Role
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, People


def rows(api: HubClient, headers: dict[str, str], **params: str) -> list[dict]:
    reply = api.get("/api/v1/audit", params=params, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["items"]


def test_a_change_and_a_refusal_are_both_told(api: HubClient, as_role: Headers) -> None:
    body = {"name": "ben", "role": "auditor"}
    api.post("/api/v1/users", json=body, headers=as_role("tenant_admin"))
    api.post("/api/v1/users", json=body, headers=as_role("operator"))
    told = rows(api, as_role("auditor"), action="users.write")
    assert [(row["actor"], row["outcome"]) for row in told] == [
        ("operator.acme", "forbidden"),
        ("tenant_admin.acme", "ok"),
    ]
    assert told[1]["address"] == "127.0.0.1"


def test_pages_go_by_sequence_and_filters_narrow(
    api: HubClient, people: People, acme: Tenant, as_role: Headers
) -> None:
    def record(session: Session) -> None:
        for n in range(7):
            of = ("thing", str(n))
            service.record(session, acme.id, service.SYSTEM, f"test.{n % 2}", of=of)

    people.database.write_now(None, record)
    auditor = as_role("auditor")
    found, cursor = [], None
    while True:
        params = {"action": "test.*", "limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/v1/audit", params=params, headers=auditor).json()
        found += [row["seq"] for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == sorted(found, reverse=True)
    assert len(found) == 7
    assert len(rows(api, auditor, action="test.1")) == 3
    assert len(rows(api, auditor, object_type="thing", object_id="3")) == 1
    assert rows(api, auditor, action="test.*", until="2020-01-01T00:00:00Z") == []
    assert len(rows(api, auditor, actor="hub", since="2020-01-01T00:00:00Z")) == 7
    assert rows(api, auditor, action="%*") == []


def test_a_tenant_reads_its_own_chain_and_a_system_admin_every_one(
    api: HubClient, people: People, as_role: Headers
) -> None:
    other = people.tenant("other")
    theirs = people.headers(people.user(other, "zoe", Role.TENANT_ADMIN))
    api.post("/api/v1/users", json={"name": "y", "role": "auditor"}, headers=theirs)
    for tenant_id in (other.id, "system", "x"):
        params = {"tenant_id": tenant_id}
        refused = api.get("/api/v1/audit", params=params, headers=as_role("tenant_admin"))
        assert refused.status_code == 404
    root = as_role("system_admin")
    assert [row["actor"] for row in rows(api, root, tenant_id=other.id)] == ["zoe"]
    assert rows(api, root, tenant_id="system") == []


def test_the_head_is_told_with_its_last_seal(api: HubClient, as_role: Headers) -> None:
    admin = as_role("tenant_admin")
    api.post("/api/v1/users", json={"name": "ben", "role": "auditor"}, headers=admin)
    head = api.get("/api/v1/audit/head", headers=admin).json()
    assert head["seq"] == 1
    assert len(head["digest"]) == len(head["public_key"]) == 64


@pytest.mark.parametrize(
    "params",
    [
        {"since": "yesterday"},
        {"since": "2020-01-01"},
        {"limit": "0"},
        {"limit": "201"},
        {"cursor": "x"},
        {"cursor": "WzFd!"},
        {"cursor": "WyJhIl0="},
        {"cursor": "W251bGxd"},
        {"cursor": "WzFlNDAwXQ=="},
        {"cursor": base64.b64encode(b"[" + b"9" * 30 + b"]").decode()},
        {"cursor": base64.b64encode(b"[true]").decode()},
        {"cursor": base64.b64encode(b"[" * 700).decode()},
    ],
)
def test_what_is_no_filter_is_a_bad_request(
    api: HubClient, as_role: Headers, params: dict[str, str]
) -> None:
    refused = api.get("/api/v1/audit", params=params, headers=as_role("auditor"))
    assert refused.status_code == 400, refused.text
