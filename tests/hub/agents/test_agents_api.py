"""The list of machines and what is done to one, on both databases."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from hub import pages
from hub.agents import listing, service
from hub.agents.models import Agent, Asset
from hub.agents.presence import Change, State, store
from hub.assembly import Hub
from hub.clock import now_ms
from hub.db.database import Database
from hub.operators.models import Tenant
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers, People


def seed(hub: Hub, tenant: Tenant, names: list[str], **columns: Any) -> list[str]:
    """Make machines, each with a credential; return their ids."""

    def make(session: Session) -> list[str]:
        found = []
        for name in names:
            asset = service.add_asset(session, tenant.id, name)
            for column, value in columns.items():
                setattr(asset, column, value)
            service.add_agent(session, hub.keyring, asset, f"{tenant.name}.{asset.id}")
            found.append(asset.id)
        return found

    made: list[str] = hub.database.write_now(None, make)
    return made


def names(api: HubClient, who: dict[str, str], **query: Any) -> list[str]:
    """Return every page's names."""
    found, cursor = [], None
    while True:
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        reply = api.get("/api/v1/agents", params={**query, **more}, headers=who)
        assert reply.status_code == 200, reply.text
        found += [one["name"] for one in reply.json()["items"]]
        cursor = reply.json()["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", sorted(listing.SORTS))
def test_pages_hold_every_machine_once_in_the_order_asked_for(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers, sort: str, order: str
) -> None:
    seed(hub, acme, [f"box{n:02}" for n in range(7)])
    seed(hub, acme, ["busy"], cpu=99.5, platform="linux", agent_version="2.0", seen_ms=5)
    found = names(api, as_role("auditor"), sort=sort, order=order, limit=3)
    assert sorted(found) == sorted([f"box{n:02}" for n in range(7)] + ["busy"])
    if sort == "name":
        assert found == sorted(found, reverse=order == "desc")
    if sort in ("cpu", "platform", "version", "seen"):
        assert found[0 if order == "desc" else -1] == "busy"


def test_each_filter_narrows_and_all_must_hold(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    who = as_role("auditor")
    seed(hub, acme, ["web-1"], tags=["web", "eu"], presence="online", platform="linux")
    seed(hub, acme, ["web-2"], tags=["web"], presence="offline", platform="darwin")
    seed(hub, acme, ["db_1"], tags=["database"], presence="online", platform="linux")
    assert names(api, who, q="WEB") == ["web-1", "web-2"]
    assert names(api, who, q="b_1") == ["db_1"]
    assert names(api, who, q="%") == []
    assert names(api, who, tag="web") == ["web-1", "web-2"]
    assert names(api, who, tag=["web", "eu"]) == ["web-1"]
    assert names(api, who, tag="data") == []
    assert names(api, who, presence=["online", "stale"]) == ["db_1", "web-1"]
    assert names(api, who, platform="linux", q="web") == ["web-1"]
    assert names(api, who, credential="pending") == []
    assert len(names(api, who, credential="active")) == 3


@pytest.mark.parametrize(
    "bad", [{"sort": "tenant_id"}, {"limit": 0}, {"limit": 999}, {"cursor": "x"}]
)
def test_a_list_asked_for_wrongly_is_a_400(
    api: HubClient, as_role: Headers, bad: dict[str, Any]
) -> None:
    reply = api.get("/api/v1/agents", params=bad, headers=as_role("auditor"))
    assert reply.status_code == 400


@settings(max_examples=60, deadline=None)
@given(
    q=st.text(alphabet="abX%_\\'\"; -1é", max_size=6),
    sort=st.sampled_from(sorted(listing.SORTS)),
    descending=st.booleans(),
    other=st.booleans(),
)
def test_no_search_shows_another_tenants_machines(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Any,
    q: str,
    sort: Any,
    descending: bool,
    other: bool,
) -> None:
    file = tmp_path_factory.mktemp("scope") / "hub.db"
    shutil.copy(sqlite_template, file)
    database = Database(f"sqlite:///{file}")
    try:
        texts = ["a%", "b_1", "X';--", "é\\", "ab"]

        def make(session: Session) -> None:
            for tenant in ("t1", "t2"):
                for text in texts:
                    service.add_asset(session, tenant, text)

        database.write_now(None, make)
        wanted = listing.Filter(q=q, tenant_id="t2" if other else None)
        found, _ = database.read_now(
            "t1",
            lambda session: listing.page(
                session, wanted, listing.Order(sort, descending), 100, None
            ),
        )
        mine = [asset.name for asset, _ in found]
        assert all(asset.tenant_id == "t1" for asset, _ in found)
        expected = [] if other else [text for text in texts if q.lower() in text.lower()]
        assert sorted(mine) == sorted(expected)
    finally:
        database.close()


def test_a_machine_is_shown_tagged_and_forgotten(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    [asset_id] = seed(hub, acme, ["web-1"])
    path = f"/api/v1/agents/{asset_id}"
    shown = api.get(path, headers=as_role("auditor")).json()
    assert (shown["name"], shown["credential"], shown["link"]) == ("web-1", "active", None)
    tagged = api.put(f"{path}/tags", json={"tags": ["b", "a", "b"]}, headers=as_role("operator"))
    assert tagged.json()["tags"] == ["a", "b"]
    assert api.delete(path, headers=as_role("operator")).status_code == 403
    assert api.delete(path, headers=as_role("tenant_admin")).status_code == 204
    assert api.get(path, headers=as_role("auditor")).status_code == 404
    assert names(api, as_role("auditor")) == []


def test_a_conflict_is_resolved_by_an_admin_and_only_once(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    [asset_id] = seed(hub, acme, ["web-1"])
    path, admin = f"/api/v1/agents/{asset_id}/resolve", as_role("tenant_admin")
    assert api.post(path, headers=admin).json()["code"] == "no_conflict"

    def conflict(session: Session) -> None:
        agent = service.current_agent(session, asset_id)
        assert agent is not None
        agent.conflict_ms, agent.boot_id = 1, "a"

    hub.database.write_now(None, conflict)
    assert api.post(path, headers=as_role("operator")).status_code == 403
    assert api.post(path, headers=admin).status_code == 200
    agent = hub.database.read_now(None, lambda s: service.current_agent(s, asset_id))
    assert agent is not None
    assert (agent.conflict_ms, agent.boot_id) == (None, None)


def test_another_tenants_machine_is_as_unknown_as_none(
    hub: Hub, api: HubClient, people: People, as_role: Headers
) -> None:
    [theirs] = seed(hub, people.tenant("other"), ["x"])
    admin = as_role("tenant_admin")
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "/tags", {"tags": []}),
        ("POST", "/resolve", None),
        ("DELETE", "", None),
        ("GET", "/presence", None),
        ("GET", "/telemetry", None),
    ):
        foreign = api.request(method, f"/api/v1/agents/{theirs}{path}", json=body, headers=admin)
        unknown = api.request(method, f"/api/v1/agents/0-0{path}", json=body, headers=admin)
        assert foreign.status_code == unknown.status_code == 404, path
        assert foreign.content == unknown.content


def test_presence_is_a_history_newest_first(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    [asset_id] = seed(hub, acme, ["web-1"])
    since = now_ms()
    states: list[State] = ["online", "stale", "online", "offline"]
    changes = [
        Change(acme.id, asset_id, state, since + n, "r", "::1") for n, state in enumerate(states)
    ]
    hub.database.write_now(None, lambda session: store(session, changes))
    reply = api.get(
        f"/api/v1/agents/{asset_id}/presence?limit=3", headers=as_role("auditor")
    ).json()
    assert [one["presence"] for one in reply["items"]] == ["offline", "online", "stale"]
    assert reply["next"] is not None
    row = hub.database.read_now(None, lambda session: session.get_one(Asset, asset_id))
    assert (row.presence, row.presence_since_ms, row.seen_ms) == ("offline", since + 3, since + 3)


def test_the_newest_credential_is_the_one_that_counts(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    [asset_id] = seed(hub, acme, ["web-1"])

    def again(session: Session) -> str:
        old = service.current_agent(session, asset_id)
        assert old is not None
        old.state = "replaced"
        return service.add_agent(session, hub.keyring, session.get_one(Asset, asset_id), "new")[
            0
        ].id

    newest = hub.database.write_now(None, again)
    shown = api.get(f"/api/v1/agents/{asset_id}", headers=as_role("auditor")).json()
    assert (shown["agent_id"], shown["client_id"]) == (newest, "new")
    assert hub.database.read_now(None, lambda session: session.query(Agent).count()) == 2


@pytest.mark.parametrize("key", [10**300, -(2**63) - 1, True, 1e308])
@pytest.mark.parametrize("sort", ["cpu", "seen", "name"])
def test_cursor_with_a_number_that_no_database_compares_is_refused(
    api: HubClient, as_role: Headers, key: float, sort: str
) -> None:
    cursor = pages.write([key, "x"])
    path = f"/api/v1/agents?sort={sort}&cursor={cursor}"
    is_good = key == 1e308 and sort == "cpu"
    assert api.get(path, headers=as_role("auditor")).status_code == (200 if is_good else 400)
