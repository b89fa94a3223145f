"""Commands: asked for once, offered in order, reported once, cancelled, expired."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import update

from hub.assembly import Hub
from hub.authorize import Role
from hub.clock import now_ms
from hub.heartbeat import command_progress, upkeep
from hub.heartbeat.models import Artifact, Command, Enrolment
from tests.doubles.beating import BEAT, Roles, Tokens, beat, change, enrolled, events
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent, result
from wire.artifacts import digest_value

COMMANDS = "/api/v1/commands"
ARTIFACTS = "/api/v1/artifacts"
LIFECYCLE = ("command.requested", "command.accepted", "command.running", "command.completed")


def ask(
    api: HubClient, headers: dict[str, str], agent: SimulatedAgent, key: str = "k", **more: Any
) -> httpx.Response:
    body = {
        "asset_id": agent.me.asset_id,
        "command_type": "collect_inventory",
        "idempotency_key": key,
    }
    return api.post(COMMANDS, json=body | more, headers=headers)


def asked(api: HubClient, headers: dict[str, str], agent: SimulatedAgent, **more: Any) -> str:
    reply = ask(api, headers, agent, **more)
    assert reply.status_code == 201, reply.text
    command_id: str = reply.json()["command_id"]
    return command_id


def offers(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [one["command_id"] for one in reply.json().get("pending_commands", [])]


def show(api: HubClient, headers: dict[str, str], command_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{COMMANDS}/{command_id}", headers=headers).json()
    return found


def lifecycle(hub: Hub, command_id: str) -> list[str]:
    names = (*LIFECYCLE, "command.failed")
    rows = [row for name in names for row in events(hub, name) if row.object_id == command_id]
    return [row.action for row in sorted(rows, key=lambda row: row.seq)]


def test_command_goes_through_the_frozen_lifecycle(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    operator = as_role("operator")
    command_id = asked(api, operator, agent, params={"sections": ["os"]})
    reply = beat(api, agent)
    (offer,) = reply.json()["pending_commands"]
    assert offer["command_id"] == command_id
    assert (offer["command_type"], offer["params"]) == ("collect_inventory", {"sections": ["os"]})
    assert show(api, operator, command_id)["state"] == "accepted"
    assert beat(api, agent, command_results=[result(command_id, "running")]).status_code == 200
    assert show(api, operator, command_id)["state"] == "running"
    done = result(
        command_id,
        "completed",
        started_at="2026-11-28T09:00:00.000Z",
        finished_at="2026-11-28T09:00:01.000Z",
        result_summary={"packages": 3},
    )
    assert beat(api, agent, command_results=[done]).status_code == 200
    shown = show(api, as_role("auditor"), command_id)
    assert (shown["state"], shown["result_summary"]) == ("completed", {"packages": 3})
    assert shown["finished_at"] == "2026-11-28T09:00:01.000Z"
    assert lifecycle(hub, command_id) == list(LIFECYCLE)


def test_same_key_and_body_is_the_same_command_and_another_body_is_409(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    operator = as_role("operator")
    first = ask(api, operator, agent)
    again = ask(api, operator, agent)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = ask(api, operator, agent, expires_in=5)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    assert ask(api, as_role("tenant_admin"), agent).status_code == 201


def test_one_key_for_several_machines_at_once_is_a_conflict(
    hub: Hub, api: HubClient, token: Tokens, as_role: Roles
) -> None:
    """No machine's lock is the other's: the unique key decides, and is told as a conflict."""
    machines = [enrolled(api, token(), SimulatedAgent(f"web-{n}")) for n in range(3)]
    headers = as_role("operator")

    async def all_at_once(key: str) -> list[httpx.Response]:
        bodies = [
            {
                "asset_id": one.me.asset_id,
                "command_type": "collect_inventory",
                "idempotency_key": key,
            }
            for one in machines
        ]
        return await asyncio.gather(
            *(api.http.post(COMMANDS, json=body, headers=headers) for body in bodies)
        )

    for turn in range(10):
        replies = api.run(all_at_once(f"k{turn}"))
        assert sorted(reply.status_code for reply in replies) == [201, 409, 409]
        codes = {reply.json()["code"] for reply in replies if reply.status_code == 409}
        assert codes == {"idempotency_mismatch"}
    assert len(events(hub, "command.requested")) == 10


def test_who_may_ask(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles, people: Any
) -> None:
    assert ask(api, {}, agent).status_code == 401
    assert ask(api, agent.headers, agent).status_code == 401
    assert ask(api, as_role("auditor"), agent).status_code == 403
    for role in ("operator", "tenant_admin", "system_admin"):
        assert ask(api, as_role(role), agent, key=role).status_code == 201
    assert [row.outcome for row in events(hub, "commands.run")] == ["forbidden"]
    other = people.tenant("other")
    root = people.headers(people.user(other, "root.other", Role.SYSTEM_ADMIN))
    assert ask(api, root, agent, key="root").status_code == 201


def test_asset_that_is_foreign_unknown_or_not_enrolled_gets_the_same_403(
    hub: Hub, api: HubClient, agent: SimulatedAgent, token: Tokens, as_role: Roles, people: Any
) -> None:
    other = people.tenant("other")
    them = people.user(other, "op.other", Role.OPERATOR)
    headers = people.headers(them)
    foreign = ask(api, headers, agent)
    unknown = ask(api, headers, agent, asset_id="00000000-0000-7000-8000-000000000000")
    pending = enrolled(api, token(needs_approval=True), SimulatedAgent("waits"))
    waiting = ask(api, as_role("operator"), pending)
    assert {reply.status_code for reply in (foreign, unknown, waiting)} == {403}
    assert foreign.json() == unknown.json() == waiting.json()
    rows = events(hub, "command.requested")
    assert [(row.tenant_id, row.outcome) for row in rows if row.actor_id == them.id] == [
        (other.id, "forbidden")
    ] * 2
    assert offers(beat(api, agent)) == []


def test_foreign_and_unknown_are_the_same_404_when_read_or_cancelled(
    api: HubClient, agent: SimulatedAgent, as_role: Roles, people: Any
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    them = people.headers(people.user(people.tenant("other"), "op.other", Role.OPERATOR))
    for method, path in (
        ("GET", f"{COMMANDS}/{{}}"),
        ("POST", f"{COMMANDS}/{{}}/cancel"),
        ("GET", f"{ARTIFACTS}/{{}}"),
    ):
        foreign = api.request(method, path.format(command_id), headers=them)
        unknown = api.request(method, path.format("unknown"), headers=them)
        assert (foreign.status_code, foreign.json()) == (404, unknown.json())
    listed = api.get(COMMANDS, params={"asset_id": agent.me.asset_id}, headers=them)
    assert (listed.status_code, listed.json()["code"]) == (404, "not_found")
    assert "items" in api.get(COMMANDS, headers=them).json()
    assert not api.get(COMMANDS, headers=them).json()["items"]


def test_request_that_asks_for_what_there_is_not_is_400(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"command_type": "reboot"}, "unsupported_type"),
        ({"params": {"sections": ["kitchen"]}}, "bad_params"),
        ({"params": {"unknown": 1}}, "bad_params"),
        ({"command_type": "collect_telemetry", "params": {"samples": 61}}, "bad_params"),
        ({"command_type": "collect_telemetry", "params": {"interval_sec": "1"}}, "bad_params"),
        ({"when_offline": "maybe"}, "bad_request"),
        ({"expires_in": 0}, "bad_request"),
        ({"idempotency_key": ""}, "bad_request"),
    ]
    for more, code in wrong:
        reply = ask(api, as_role("operator"), agent, **more)
        assert (reply.status_code, reply.json()["code"]) == (400, code), more


def test_templates_are_typed(api: HubClient, as_role: Roles) -> None:
    found = api.get(f"{COMMANDS}/templates", headers=as_role("auditor")).json()
    assert [one["command_type"] for one in found] == ["collect_inventory", "collect_telemetry"]
    assert found[1]["params"]["properties"]["samples"]["maximum"] == 60


def test_commands_of_an_agent_keep_their_order(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    made = [asked(api, as_role("operator"), agent, key=f"k{n}") for n in range(20)]
    assert made == sorted(made)
    assert offers(beat(api, agent)) == made


def test_offer_that_was_not_heard_of_comes_again_after_its_lease(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    assert offers(beat(api, agent)) == [command_id]  # this reply is lost
    assert offers(beat(api, agent)) == []
    change(hub, update(Command).values(leased_ms=now_ms() - 1))
    assert offers(beat(api, agent)) == [command_id]
    done = result(command_id, "completed", result_summary={"n": 1})
    for _ in range(2):
        assert beat(api, agent, command_results=[done]).status_code == 200
    change(hub, update(Command).values(leased_ms=now_ms() - 1))
    assert offers(beat(api, agent)) == []
    assert lifecycle(hub, command_id) == [
        "command.requested",
        "command.accepted",
        "command.completed",
    ]


def test_running_prolongs_the_lease(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    assert offers(beat(api, agent)) == [command_id]
    change(hub, update(Command).values(leased_ms=now_ms() - 1))
    running = [result(command_id, "running")]
    assert offers(beat(api, agent, command_results=running)) == []
    change(hub, update(Command).values(leased_ms=now_ms() - 1))
    assert offers(beat(api, agent, command_results=running)) == []


def test_replayed_beat_takes_no_command(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    body = agent.beat()
    assert api.post(BEAT, json=body, headers=agent.headers).status_code == 200
    command_id = asked(api, as_role("operator"), agent)
    assert offers(api.post(BEAT, json=body, headers=agent.headers)) == []
    assert offers(beat(api, agent)) == [command_id]


def test_first_final_report_counts(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    beat(api, agent)
    beat(api, agent, command_results=[result(command_id, "failed", error="timeout")])
    beat(api, agent, command_results=[result(command_id, "completed", result_summary={"n": 1})])
    beat(api, agent, command_results=[result(command_id, "running")])
    shown = show(api, as_role("auditor"), command_id)
    assert (shown["state"], shown["error"]) == ("failed", "timeout")
    assert "result_summary" not in shown


def test_result_of_another_agents_command_changes_nothing_and_is_audited(
    hub: Hub, api: HubClient, agent: SimulatedAgent, token: Tokens, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    other = enrolled(api, token(), SimulatedAgent("other"))
    forged = [result(command_id, "completed"), result("unknown", "completed")]
    assert beat(api, other, command_results=forged).status_code == 200
    assert show(api, as_role("auditor"), command_id)["state"] == "requested"
    rows = events(hub, "command.result")
    assert [(row.outcome, row.object_id) for row in rows] == [
        ("foreign_result", other.me.asset_id)
    ] * 2


def test_summary_that_is_too_large_is_told_as_such(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    large = result(command_id, "completed", result_summary={"text": "x" * 20_000})
    assert beat(api, agent, command_results=[large]).status_code == 200
    assert show(api, as_role("auditor"), command_id)["result_summary"]["truncated"] is True


def test_cancelled_command_is_not_offered_and_later_reports_are_not_heard(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    operator = as_role("operator")
    first, second = (asked(api, operator, agent, key=key) for key in "ab")
    path = f"{COMMANDS}/{{}}/cancel"
    assert api.post(path.format(first), headers=as_role("auditor")).status_code == 403
    ended = api.post(path.format(first), headers=operator)
    assert (ended.json()["state"], ended.json()["error"]) == ("failed", "cancelled")
    assert offers(beat(api, agent)) == [second]
    assert api.post(path.format(second), headers=operator).status_code == 200
    beat(api, agent, command_results=[result(second, "completed")])
    assert show(api, operator, second)["error"] == "cancelled"
    again = api.post(path.format(second), headers=operator)
    assert (again.status_code, again.json()["code"]) == (409, "not_cancellable")


def test_command_that_nobody_took_expires(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent, expires_in=1)
    change(hub, update(Command).values(expires_ms=now_ms() - 1))
    assert offers(beat(api, agent)) == []
    api.run(upkeep.expire(hub))
    shown = show(api, as_role("auditor"), command_id)
    assert (shown["state"], shown["error"]) == ("failed", "expired")


def test_command_that_an_agent_took_waits_for_its_result_through_a_day_of_outage(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    assert offers(beat(api, agent)) == [command_id]
    day = 24 * 3600 * 1000
    change(hub, update(Command).values(expires_ms=now_ms() - day, leased_ms=now_ms() - day))
    change(hub, update(Enrolment).values(beat_ms=now_ms() - 2 * day))
    api.run(upkeep.expire(hub))
    assert show(api, as_role("auditor"), command_id)["state"] == "accepted"
    assert beat(api, agent, command_results=[result(command_id, "completed")]).status_code == 200
    assert show(api, as_role("auditor"), command_id)["state"] == "completed"


def test_command_that_an_agent_beats_without_a_word_of_expires(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    assert offers(beat(api, agent)) == [command_id]
    change(hub, update(Command).values(expires_ms=now_ms() - 9, leased_ms=now_ms() - 9))
    assert beat(api, agent).status_code == 200
    api.run(upkeep.expire(hub))
    assert show(api, as_role("auditor"), command_id)["error"] == "expired"


def test_agent_that_is_offline(api: HubClient, agent: SimulatedAgent, as_role: Roles) -> None:
    operator = as_role("operator")
    queued = ask(api, operator, agent, key="1", when_offline="queue")
    assert (queued.status_code, queued.json()["state"]) == (201, "requested")
    skipped = ask(api, operator, agent, key="2", when_offline="skip").json()
    assert (skipped["state"], skipped["error"]) == ("failed", "agent_offline")
    assert skipped["skipped"] is True
    failed = ask(api, operator, agent, key="3", when_offline="fail")
    assert (failed.status_code, failed.json()["code"]) == (409, "agent_offline")
    assert offers(beat(api, agent)) == [queued.json()["command_id"]]
    for choice in ("queue", "skip", "fail"):
        beating = ask(api, operator, agent, key=choice, when_offline=choice)
        assert (beating.status_code, beating.json()["state"]) == (201, "requested")


def test_commands_are_listed_by_pages_newest_first(
    api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    made = [asked(api, as_role("operator"), agent, key=f"k{n}") for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, "asset_id": agent.me.asset_id} | ({"cursor": cursor} if cursor else {})
        page = api.get(COMMANDS, params=query, headers=as_role("auditor")).json()
        seen += [one["command_id"] for one in page["items"]]
        if (cursor := page.get("next")) is None:
            break
    assert seen == made[::-1]


def upload(
    api: HubClient, agent: SimulatedAgent, command_id: str, body: bytes, **how: Any
) -> httpx.Response:
    headers = agent.headers | {"Content-Digest": digest_value(hashlib.sha256(body).digest())}
    return api.post(
        ARTIFACTS,
        params={"command_id": command_id, "name": "inventory.json"} | how.pop("params", {}),
        content=how.pop("content", body),
        headers=headers | how.pop("headers", {}),
    )


def test_artifact_is_stored_once_and_read_by_its_tenant(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    beat(api, agent)
    body = b"large" * 100_000
    first, again = (upload(api, agent, command_id, body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    artifact_id = first.json()["artifact_id"]
    assert first.json()["size_bytes"] == len(body)
    done = result(command_id, "completed", artifact_id=artifact_id)
    beat(api, agent, command_results=[done])
    assert show(api, as_role("auditor"), command_id)["artifact_id"] == artifact_id
    got = api.get(f"{ARTIFACTS}/{artifact_id}", headers=as_role("auditor"))
    assert got.content == body
    assert got.headers["content-disposition"].startswith("attachment")
    assert [path.name for path in (hub.settings.state_dir / "artifacts").iterdir()] == [artifact_id]


def test_artifact_that_is_refused_leaves_nothing(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"content": b"torn"}, 400, "bad_digest"),
        ({"headers": {"Content-Digest": "md5=:x:"}}, 400, "bad_digest"),
        ({"params": {"command_id": "unknown"}}, 404, "not_found"),
        ({"params": {"name": "../x"}}, 400, "bad_request"),
        ({"headers": {"Authorization": "Bearer x"}}, 401, "unauthenticated"),
    ]
    for how, status, code in wrong:
        reply = upload(api, agent, command_id, b"whole", **dict(how))
        assert (reply.status_code, reply.json()["code"]) == (status, code), how
    assert not list((hub.settings.state_dir / "artifacts").iterdir())


def test_artifact_of_another_agents_command_is_404(
    api: HubClient, agent: SimulatedAgent, token: Tokens, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    other = enrolled(api, token(), SimulatedAgent("other"))
    assert upload(api, other, command_id, b"x").status_code == 404


def test_artifact_over_its_limit_is_413(
    hub: Hub,
    api: HubClient,
    agent: SimulatedAgent,
    as_role: Roles,
) -> None:
    hub.settings = msgspec.structs.replace(hub.settings, artifact_max_bytes=1000)
    command_id = asked(api, as_role("operator"), agent)
    assert upload(api, agent, command_id, b"x" * 1000).status_code == 201
    reply = upload(api, agent, command_id, b"x" * 1001)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert len(list((hub.settings.state_dir / "artifacts").iterdir())) == 1


def test_old_artifacts_are_forgotten(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    artifact_id = upload(api, agent, command_id, b"x").json()["artifact_id"]
    change(hub, update(Artifact).values(created_ms=now_ms() - 31 * 24 * 3600 * 1000))
    api.run(upkeep.forget_artifacts(hub))
    assert not list((hub.settings.state_dir / "artifacts").iterdir())
    got = api.get(f"{ARTIFACTS}/{artifact_id}", headers=as_role("auditor"))
    assert got.status_code == 404
    assert upload(api, agent, command_id, b"x").status_code == 201


def test_bytes_that_a_killed_hub_left_without_a_row_are_removed(
    hub: Hub, api: HubClient, agent: SimulatedAgent, as_role: Roles
) -> None:
    command_id = asked(api, as_role("operator"), agent)
    kept = upload(api, agent, command_id, b"x").json()["artifact_id"]
    store = hub.settings.state_dir / "artifacts"
    for name in ("left", "fresh"):
        (store / name).write_bytes(b"y")
    long_ago = now_ms() / 1000 - upkeep.UPLOAD_S - 60
    for name in ("left", kept):
        os.utime(store / name, (long_ago, long_ago))
    api.run(upkeep.forget_artifacts(hub))
    assert {path.name for path in store.iterdir()} == {kept, "fresh"}


def test_lease_is_the_contracts() -> None:
    assert command_progress.LEASE_MS == 60_000


@pytest.mark.parametrize(
    "form",
    [
        {"expires_in": "abc"},
        {"expires_in": "9" * 5000},
        {"command_type": "collect_telemetry", "p.interval_sec": "nan"},
        {"command_type": "collect_telemetry", "p.interval_sec": "1e999"},
    ],
)
def test_form_with_a_number_that_is_none_is_shown_again_and_asks_for_nothing(
    api: HubClient, agent: SimulatedAgent, as_role: Roles, form: dict[str, str]
) -> None:
    given = {"command_type": "collect_inventory", "key": "k"} | form
    path = f"/agents/{agent.me.asset_id}/commands"
    reply = api.post(path, headers=as_role("operator"), data=given)
    assert (reply.status_code, "a number is needed" in reply.text) == (200, True)
    assert api.get("/api/v1/commands", headers=as_role("operator")).json()["items"] == []
