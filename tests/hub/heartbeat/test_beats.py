"""Beats: stored once, answered when stored; inventories and what changed in them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select, update

from hub.agents.models import Asset
from hub.agents.presence import Change
from hub.assembly import Hub
from hub.clock import iso, now_ms
from hub.heartbeat import inventories, liveness, upkeep
from hub.heartbeat.identification import Shown
from hub.heartbeat.plain_beats import Asked
from hub.telemetry import rollups
from hub.telemetry.models import ROLLUP_MS, Rollup
from tests.doubles.beating import BEAT, Roles, Tokens, beat, change, enrolled, events
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent, inventory
from wire import bodies
from wire.heartbeat import HeartbeatRequest


def asset_of(hub: Hub, agent: SimulatedAgent) -> Asset:
    return hub.database.read_now(None, lambda session: session.get_one(Asset, agent.me.asset_id))


def test_beat_is_answered_with_interval_and_clock(api: HubClient, agent: SimulatedAgent) -> None:
    body = beat(api, agent).json()
    assert body["server_ts"] > 1_600_000_000_000
    assert body.get("next_interval_sec", 60.0) == 60.0


def test_newest_sample_stands_on_the_machines_row(
    hub: Hub, api: HubClient, agent: SimulatedAgent
) -> None:
    assert beat(api, agent, metrics=[{"cpu": 1}, {"cpu": 2}]).status_code == 200
    asset = asset_of(hub, agent)
    assert asset.sample["cpu"] == 2
    assert asset.seen_ms is not None


def test_samples_of_an_outage_get_into_the_rollups_of_their_time(
    hub: Hub, api: HubClient, agent: SimulatedAgent, token: Tokens
) -> None:
    """Another machine had no outage, so that time is rolled up when they come."""
    other = enrolled(api, token(), SimulatedAgent("other"))
    start = (now_ms() - 3_600_000) // ROLLUP_MS * ROLLUP_MS
    metrics = [{"cpu": 5, "ts": iso(start + minute * 60_000)} for minute in range(20)]
    assert beat(api, other, metrics=metrics).status_code == 200
    hub.database.write_now(None, lambda session: rollups.roll_up(session, now_ms()))
    assert beat(api, agent, metrics=metrics).status_code == 200
    query = select(Rollup.count, Rollup.cpu).where(Rollup.asset_id == agent.me.asset_id)
    found = hub.database.read_now(None, lambda session: session.execute(query).all())
    assert [tuple(row) for row in found] == [(5, 5.0)] * 4


@pytest.mark.parametrize("how", ["revoked", "replaced"])
def test_machine_whose_credential_has_ended_is_offline_until_the_new_one_beats(
    hub: Hub, api: HubClient, agent: SimulatedAgent, token: Tokens, as_role: Roles, how: str
) -> None:
    assert beat(api, agent).status_code == 200
    api.until(lambda: asset_of(hub, agent).presence == "online")
    assert hub.database.read_now(None, liveness.silent) == []
    fresh = SimulatedAgent(agent.name, agent.machine_id)
    fresh.boot_id = agent.boot_id
    if how == "revoked":
        path = f"/api/v1/agents/{agent.me.asset_id}/revoke"
        assert api.post(path, headers=as_role("tenant_admin")).status_code == 204
    enrolled(api, token(), fresh)
    assert fresh.me.asset_id == agent.me.asset_id
    api.run(upkeep.notice_silence(hub))
    api.until(lambda: asset_of(hub, fresh).presence == "offline")
    assert beat(api, fresh).status_code == 200
    api.until(lambda: asset_of(hub, fresh).presence == "online")


def test_beat_of_nobody_is_401(api: HubClient, agent: SimulatedAgent) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "jla"}):
        reply = api.post(BEAT, json=agent.beat(), headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")


def test_body_that_names_another_agent_is_refused_and_audited(
    hub: Hub, api: HubClient, agent: SimulatedAgent, token: Tokens
) -> None:
    other = enrolled(api, token(), SimulatedAgent("other"))
    reply = api.post(
        BEAT, json=agent.beat() | {"agent_id": other.me.agent_id}, headers=agent.headers
    )
    assert (reply.status_code, reply.json()["code"]) == (403, "identity_mismatch")
    (row,) = events(hub, "agent.beat")
    assert (row.outcome, row.object_id) == ("identity_mismatch", agent.me.asset_id)


def test_beat_of_another_shape_is_400(api: HubClient, agent: SimulatedAgent) -> None:
    spoilt: list[dict[str, Any]] = [
        {"seq": -1},
        {"seq": "1"},
        {"sent_at": "yesterday"},
        {"boot_id": ""},
        {"inventory_digest": "x"},
        {"metrics": {}},
        {"metrics": [{}] * 201},
        {"command_results": [{"command_id": "x", "state": "requested"}]},
    ]
    for spoil in spoilt:
        reply = beat(api, agent, **spoil)
        assert (reply.status_code, reply.json()["code"]) == (400, "bad_request"), spoil


def test_body_that_is_no_json_object_is_400(api: HubClient, agent: SimulatedAgent) -> None:
    for raw in (b"", b"{", b"[]", b"null", b'{"a":1,"a":2}', b"\xff\xfe", b"[" * 100_000):
        reply = api.post(BEAT, content=raw, headers=agent.headers)
        assert (reply.status_code, reply.json()["code"]) == (400, "bad_request"), raw[:20]


def test_body_over_its_limit_is_413(api: HubClient, agent: SimulatedAgent) -> None:
    reply = api.post(BEAT, content=b" " * (4 * 1024 * 1024 + 1), headers=agent.headers)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_replayed_beat_brings_nothing_twice(
    hub: Hub, api: HubClient, agent: SimulatedAgent
) -> None:
    body = agent.beat(metrics=[{"cpu": 7}])
    assert api.post(BEAT, json=body, headers=agent.headers).status_code == 200
    assert beat(api, agent, metrics=[{"cpu": 8}]).status_code == 200
    assert api.post(BEAT, json=body, headers=agent.headers).status_code == 200
    assert asset_of(hub, agent).sample["cpu"] == 8


def test_beat_of_a_boot_before_is_a_replay_too(
    hub: Hub, api: HubClient, agent: SimulatedAgent
) -> None:
    old = agent.beat(metrics=[{"cpu": 7}])
    assert api.post(BEAT, json=old, headers=agent.headers).status_code == 200
    agent.boot_id, agent.seq = "another boot", 0
    assert beat(api, agent, metrics=[{"cpu": 8}]).status_code == 200
    assert api.post(BEAT, json=old, headers=agent.headers).status_code == 200
    assert asset_of(hub, agent).sample["cpu"] == 8


def test_agent_that_was_started_again_on_the_same_boot_is_heard(
    hub: Hub, api: HubClient, agent: SimulatedAgent
) -> None:
    for _ in range(3):
        assert beat(api, agent, metrics=[{"cpu": 7}]).status_code == 200
    agent.restart()
    assert beat(api, agent, metrics=[{"cpu": 8}]).status_code == 200
    assert asset_of(hub, agent).sample["cpu"] == 8


def test_inventory_is_wanted_once_and_kept_when_it_changes(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    first, first_digest = inventory("vim=1", "git=2")
    assert beat(api, agent, inventory_digest=first_digest).json()["want_inventory"] is True
    sent = beat(api, agent, inventory_digest=first_digest, inventory=first)
    assert "want_inventory" not in sent.json()
    assert "want_inventory" not in beat(api, agent, inventory_digest=first_digest).json()
    assert beat(api, agent, inventory_digest=first_digest, inventory=first).status_code == 200

    second, second_digest = inventory("vim=9", "curl=3")
    assert beat(api, agent, inventory_digest=second_digest).json()["want_inventory"] is True
    assert beat(api, agent, inventory_digest=second_digest, inventory=second).status_code == 200

    path = f"/api/v1/agents/{agent.me.asset_id}/inventory"
    auditor = as_role("auditor")
    versions = api.get(f"{path}/versions", headers=auditor).json()
    assert [one["digest"] for one in versions] == [second_digest, first_digest]
    newest = api.get(path, headers=auditor).json()
    assert newest["inventory"]["packages"][0]["name"] == "vim"
    told = api.get(
        f"{path}/difference", params={"before": versions[1]["id"]}, headers=auditor
    ).json()
    assert [(one["section"], one["change"], one["key"]) for one in told["changes"]] == [
        ("packages", "added", "curl"),
        ("packages", "removed", "git"),
        ("packages", "changed", "vim"),
    ]


def test_inventories_of_another_tenant_do_not_exist(
    api: HubClient, agent: SimulatedAgent, people: Any
) -> None:
    from hub.authorize import Role

    body, digest = inventory("vim=1")
    assert beat(api, agent, inventory_digest=digest, inventory=body).status_code == 200
    other = people.headers(people.user(people.tenant("other"), "them", Role.TENANT_ADMIN))
    for path in ("inventory", "inventory/versions", "inventory/difference?before=x"):
        foreign = api.get(f"/api/v1/agents/{agent.me.asset_id}/{path}", headers=other)
        unknown = api.get(f"/api/v1/agents/unknown/{path}", headers=other)
        assert (foreign.status_code, foreign.json()) == (404, unknown.json())


def test_only_the_newest_inventories_are_kept(
    api: HubClient, agent: SimulatedAgent, as_role: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventories, "KEPT", 3)
    for n in range(5):
        body, digest = inventory(f"vim={n}")
        assert beat(api, agent, inventory_digest=digest, inventory=body).status_code == 200
    path = f"/api/v1/agents/{agent.me.asset_id}/inventory/versions"
    assert len(api.get(path, headers=as_role("auditor")).json()) == 3


def test_many_beats_at_once_are_all_stored(hub: Hub, api: HubClient, token: Tokens) -> None:
    text = token(uses=40)
    agents = [enrolled(api, text, SimulatedAgent(f"m{n}")) for n in range(40)]

    async def storm() -> list[int]:
        posts = [
            api.http.post(BEAT, json=one.beat(metrics=[{"cpu": 1}]), headers=one.headers)
            for one in agents
            for _ in range(3)
        ]
        return [reply.status_code for reply in await asyncio.gather(*posts)]

    assert set(api.run(storm())) == {200}
    assert all(asset_of(hub, one).seen_ms for one in agents)


def test_agent_of_a_tenant_that_is_turned_off_is_nobody(
    hub: Hub, api: HubClient, agent: SimulatedAgent
) -> None:
    from hub.operators.models import Tenant

    change(hub, update(Tenant).values(disabled_ms=1))
    assert beat(api, agent).status_code == 401


def test_stamp_that_is_no_day_is_no_fault_of_the_hubs(
    api: HubClient, agent: SimulatedAgent
) -> None:
    assert beat(api, agent, sent_at="2026-02-31T25:61:61Z").status_code == 200


def test_beat_that_cannot_be_stored_takes_no_other_with_it(
    hub: Hub,
    api: HubClient,
    agent: SimulatedAgent,
    token: Tokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beats of all tenants are stored together: one machine must not end everybody's."""
    other = enrolled(api, token(), SimulatedAgent("other"))

    def unstorable(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr("hub.heartbeat.command_progress.report", unstorable)
    bad = other.beat(command_results=[{"command_id": "c", "state": "running"}])
    asked = [
        Asked(Shown(bearer=one.me.service_account_token), bodies.decode(HeartbeatRequest, raw))
        for one, raw in (
            (other, json.dumps(bad).encode()),
            (agent, json.dumps(agent.beat()).encode()),
        )
    ]
    taken = hub.database.write_now(None, lambda session: hub.beats.take_many(session, asked))
    assert taken[0].refusal is not None
    assert taken[0].refusal.status == 400
    assert taken[1].response is not None
    assert asset_of(hub, agent).seen_ms is not None


def test_presence_is_written_whatever_an_agent_calls_its_version(
    hub: Hub, agent: SimulatedAgent
) -> None:
    asset = asset_of(hub, agent)
    hub.presence.set(Change(asset.tenant_id, asset.id, "online", now_ms(), "", "::1", "1.0\0"))
    asyncio.run(hub.presence.write())
    assert asset_of(hub, agent).presence == "online"
