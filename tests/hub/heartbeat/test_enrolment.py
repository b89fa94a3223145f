"""Tokens become identities: once, again after a lost reply, and never for a stranger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography import x509
from sqlalchemy import func, select, update

from hub.agents.models import Agent, Asset
from hub.assembly import Hub
from hub.audit.models import AuditRow
from hub.clock import now_ms
from hub.heartbeat.models import Certificate, Enrolment, EnrolmentToken
from hub.operators.models import DeviceCode
from tests.doubles.beating import (
    ENROLL,
    Roles,
    Tokens,
    beat,
    change,
    count,
    enrolled,
    events,
)
from tests.doubles.hub_client import HubClient
from tests.doubles.simulated_agent import SimulatedAgent
from wire import enroltoken


def test_token_becomes_an_identity_that_beats(hub: Hub, api: HubClient, token: Tokens) -> None:
    agent = enrolled(api, token(tags=("web",)))
    leaf = x509.load_pem_x509_certificate(agent.me.certificate.encode())
    root = x509.load_pem_x509_certificate(agent.me.ca_chain.encode())
    leaf.verify_directly_issued_by(root)
    assert agent.me.agent_id in leaf.subject.rfc4514_string()
    assert leaf.public_key() == agent.key.public_key()
    assert beat(api, agent).status_code == 200
    asset = hub.database.read_now(None, lambda session: session.get(Asset, agent.me.asset_id))
    assert asset is not None
    assert (asset.name, asset.tags, asset.machine_id) == ("web-1", ["web"], agent.machine_id)


def test_nothing_of_a_token_or_bearer_is_in_the_database(
    hub: Hub, api: HubClient, token: Tokens, database_url: str
) -> None:
    text = token()
    agent = enrolled(api, text)
    rows = hub.database.read_now(
        None,
        lambda session: [
            str(row.__dict__)
            for table in (EnrolmentToken, Enrolment, Agent, AuditRow)
            for row in session.scalars(select(table))
        ],
    )
    for secret in (text, agent.me.service_account_token, agent.me.auth_token):
        assert not any(secret in row for row in rows)


def test_token_raced_by_twenty_is_won_by_one(hub: Hub, api: HubClient, token: Tokens) -> None:
    text = token()
    agents = [SimulatedAgent(f"racer-{n}") for n in range(20)]

    async def race() -> list[httpx.Response]:
        posts = [api.http.post(ENROLL, json=agent.request(text)) for agent in agents]
        return await asyncio.gather(*posts)

    replies = api.run(race())
    assert sorted(reply.status_code for reply in replies) == [200] + [409] * 19
    lost = [reply.json() for reply in replies if reply.status_code == 409]
    assert {body["code"] for body in lost} == {"token_used"}
    assert not any("nonce" in body for body in lost)
    assert count(hub, Agent) == count(hub, Asset) == count(hub, Enrolment) == 1


def test_same_request_raced_makes_one_identity_and_the_losers_may_prove_the_key(
    hub: Hub, api: HubClient, token: Tokens
) -> None:
    text, agent = token(uses=5), SimulatedAgent()

    async def race() -> list[httpx.Response]:
        return await asyncio.gather(
            *[api.http.post(ENROLL, json=agent.request(text)) for _ in range(8)]
        )

    replies = api.run(race())
    assert sorted(reply.status_code for reply in replies) == [200] + [409] * 7
    assert all("nonce" in reply.json() for reply in replies if reply.status_code == 409)
    assert count(hub, Agent) == 1
    kept = hub.database.read_now(
        None, lambda session: session.scalars(select(EnrolmentToken)).one()
    )
    assert kept.uses == 1


def test_lost_reply_is_given_again_to_the_key_with_fresh_secrets(
    hub: Hub, api: HubClient, token: Tokens
) -> None:
    text, agent = token(), SimulatedAgent()
    lost = SimulatedAgent()
    lost.believe(api.post(ENROLL, json=agent.request(text)).content)

    asked = api.post(ENROLL, json=agent.request(text))
    assert (asked.status_code, asked.json()["code"]) == (409, "token_used")
    again = api.post(ENROLL, json=agent.request(text, **agent.proof(asked.json()["nonce"])))
    assert again.status_code == 200, again.text
    agent.believe(again.content)

    assert (agent.me.agent_id, agent.me.asset_id) == (lost.me.agent_id, lost.me.asset_id)
    assert agent.me.service_account_token != lost.me.service_account_token
    assert agent.me.auth_token != lost.me.auth_token
    assert beat(api, lost).status_code == 401
    assert beat(api, agent).status_code == 200
    assert count(hub, Agent) == 1


def test_captured_request_gets_nothing(hub: Hub, api: HubClient, token: Tokens) -> None:
    text, agent, thief = token(), SimulatedAgent(), SimulatedAgent()
    captured = agent.request(text)
    agent.believe(api.post(ENROLL, json=captured).content)

    replayed = api.post(ENROLL, json=captured)
    nonce = replayed.json()["nonce"]
    forged = captured | thief.proof(nonce)
    assert api.post(ENROLL, json=forged).json()["code"] == "bad_proof"
    with_own_key = api.post(ENROLL, json=thief.request(text, **thief.proof(nonce)))
    assert (with_own_key.status_code, with_own_key.json()["code"]) == (401, "bad_proof")

    proven = agent.request(text, **agent.proof(nonce))
    agent.believe(api.post(ENROLL, json=proven).content)
    again = api.post(ENROLL, json=proven)
    assert (again.status_code, again.json()["code"]) == (401, "bad_proof")
    assert beat(api, agent).status_code == 200


def test_first_beat_closes_the_window(api: HubClient, token: Tokens) -> None:
    text, agent = token(), SimulatedAgent()
    enrolled(api, text, agent)
    nonce = api.post(ENROLL, json=agent.request(text)).json()["nonce"]
    assert beat(api, agent).status_code == 200
    late = api.post(ENROLL, json=agent.request(text, **agent.proof(nonce)))
    assert (late.status_code, late.json()["code"]) == (409, "token_used")
    assert "nonce" not in late.json()


def test_window_closes_after_ten_minutes(hub: Hub, api: HubClient, token: Tokens) -> None:
    text, agent = token(), SimulatedAgent()
    enrolled(api, text, agent)
    change(hub, update(Enrolment).values(enrolled_ms=now_ms() - 600_001))
    late = api.post(ENROLL, json=agent.request(text))
    assert "nonce" not in late.json()


def test_nonce_is_good_for_a_minute(
    hub: Hub, api: HubClient, token: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, agent = token(), SimulatedAgent()
    enrolled(api, text, agent)
    monkeypatch.setattr("hub.heartbeat.enrolment.NONCE_MS", -1)
    nonce = api.post(ENROLL, json=agent.request(text)).json()["nonce"]
    late = api.post(ENROLL, json=agent.request(text, **agent.proof(nonce)))
    assert late.json()["code"] == "bad_proof"


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        (lambda text: enroltoken.make(b"x" * 16), 401, "token_unknown"),
        (lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"), 401, "token_unknown"),
        (lambda text: f"  {text}\n", 200, None),
    ],
    ids=["unknown", "mistyped", "with white space"],
)
def test_token_text(
    api: HubClient, token: Tokens, spoil: Callable[[str], str], status: int, code: str | None
) -> None:
    reply = api.post(ENROLL, json=SimulatedAgent().request(spoil(token())))
    assert (reply.status_code, reply.json().get("code")) == (status, code)


def test_token_that_expired_a_second_ago(hub: Hub, api: HubClient, token: Tokens) -> None:
    text = token()
    change(hub, update(EnrolmentToken).values(expires_ms=now_ms() - 1000))
    reply = api.post(ENROLL, json=SimulatedAgent().request(text))
    assert (reply.status_code, reply.json()["code"]) == (401, "token_expired")
    assert [row.outcome for row in events(hub, "agent.enrolled")] == ["token_expired"]
    assert count(hub, Agent) == 0


def test_token_of_another_tenant_than_the_one_named(
    hub: Hub, api: HubClient, token: Tokens
) -> None:
    reply = api.post(ENROLL, json=SimulatedAgent().request(token(), tenant="other"))
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
    assert count(hub, Agent) == 0
    reply = api.post(ENROLL, json=SimulatedAgent().request(token(), tenant="acme"))
    assert reply.status_code == 200


def test_ten_thousand_wrong_tokens_are_told_to_wait_and_a_good_one_is_not(
    api: HubClient, token: Tokens
) -> None:
    wrong = [
        api.post(
            ENROLL, json=SimulatedAgent().request(enroltoken.make(bytes([n] * 16)))
        ).status_code
        for n in range(25)
    ]
    assert wrong[:20] == [401] * 20
    assert set(wrong[20:]) == {429}
    assert api.post(ENROLL, json=SimulatedAgent().request(token())).status_code == 200


@pytest.mark.parametrize("csr", ["", "no pem", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_certificate_request_that_is_none(api: HubClient, token: Tokens, csr: str) -> None:
    reply = api.post(ENROLL, json=SimulatedAgent().request(token(), csr=csr))
    assert (reply.status_code, reply.json()["code"]) in [(400, "bad_csr"), (400, "bad_request")]


def test_machine_enrolled_again_keeps_asset_tags_and_history(
    hub: Hub, api: HubClient, token: Tokens
) -> None:
    first = enrolled(api, token(tags=("old",)))
    assert beat(api, first).status_code == 200
    second = SimulatedAgent("renamed", first.machine_id)
    second.boot_id = first.boot_id
    enrolled(api, token(tags=("new",)), second)
    assert second.me.asset_id == first.me.asset_id
    assert second.me.agent_id != first.me.agent_id
    asset = hub.database.read_now(None, lambda session: session.get(Asset, second.me.asset_id))
    assert asset is not None
    assert (asset.tags, asset.name) == (["new", "old"], "renamed")
    gone = beat(api, first)
    assert (gone.status_code, gone.json()["code"]) == (403, "agent_revoked")
    assert beat(api, second).status_code == 200
    assert (
        hub.database.read_now(
            None,
            lambda session: session.scalar(
                select(func.count()).where(Certificate.revoked_ms.is_not(None))
            ),
        )
        == 1
    )


def test_clone_of_a_machine_that_is_alive_becomes_an_asset_of_its_own(
    api: HubClient, token: Tokens
) -> None:
    original = enrolled(api, token())
    assert beat(api, original).status_code == 200
    clone = enrolled(api, token(), SimulatedAgent("clone", original.machine_id))
    assert clone.me.asset_id != original.me.asset_id
    assert beat(api, original).status_code == 200
    assert beat(api, clone).status_code == 200


def test_machine_that_waits_is_shown_and_let_in_by_an_admin(
    hub: Hub, api: HubClient, token: Tokens, as_role: Roles
) -> None:
    agent = enrolled(api, token(needs_approval=True))
    assert agent.me.state == "pending"
    waiting = beat(api, agent)
    assert (waiting.status_code, waiting.json()["code"]) == (403, "pending_approval")
    assert int(waiting.headers["retry-after"]) > 0

    shown = api.get("/api/v1/enrolment/pending", headers=as_role("auditor")).json()["items"]
    assert [(one["name"], one["key_fingerprint"], one["address"]) for one in shown] == [
        ("web-1", agent.thumbprint(), "127.0.0.1")
    ]
    path = f"/api/v1/agents/{agent.me.asset_id}/approve"
    assert api.post(path, headers=as_role("operator")).status_code == 403
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 204
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 409
    assert beat(api, agent).status_code == 200
    assert [row.outcome for row in events(hub, "agents.approve")] == ["forbidden", "ok"]


def again(
    api: HubClient, first: SimulatedAgent, token: str, name: str = "renamed"
) -> SimulatedAgent:
    """Let the machine of an agent arrive once more."""
    second = SimulatedAgent(name, first.machine_id)
    second.boot_id = first.boot_id
    return enrolled(api, token, second)


def shown(api: HubClient, agent: SimulatedAgent, headers: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/api/v1/agents/{agent.me.asset_id}", headers=headers).json()
    return {key: found[key] for key in ("name", "tags", "agent_id", "credential", "version")}


def test_known_machine_that_waits_takes_nothing_from_its_present_credential(
    api: HubClient, token: Tokens, as_role: Roles
) -> None:
    """A token alone, with a machine's id, must not put that machine out of service."""
    first = enrolled(api, token(tags=("old",)))
    assert beat(api, first).status_code == 200
    before = shown(api, first, as_role("auditor"))
    second = again(api, first, token(needs_approval=True, tags=("new",)))
    assert (second.me.asset_id, second.me.state) == (first.me.asset_id, "pending")
    assert beat(api, second).json()["code"] == "pending_approval"
    assert beat(api, first).status_code == 200
    assert shown(api, first, as_role("auditor")) == before

    path = f"/api/v1/agents/{first.me.asset_id}/approve"
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 204
    assert beat(api, second).status_code == 200
    assert beat(api, first).json()["code"] == "agent_revoked"
    after = shown(api, second, as_role("auditor"))
    assert (after["tags"], after["credential"]) == (["new", "old"], "active")
    assert after["agent_id"] == second.me.agent_id
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 409


def test_known_machine_that_is_turned_away_goes_on_with_its_present_credential(
    api: HubClient, token: Tokens, as_role: Roles
) -> None:
    first = enrolled(api, token())
    assert beat(api, first).status_code == 200
    before = shown(api, first, as_role("auditor"))
    path = f"/api/v1/agents/{first.me.asset_id}/revoke"
    admin = as_role("tenant_admin")
    assert api.post(path, params={"waiting": True}, headers=admin).status_code == 404
    second = again(api, first, token(needs_approval=True))
    assert api.post(path, params={"waiting": True}, headers=admin).status_code == 204
    assert beat(api, second).json()["code"] == "agent_revoked"
    assert beat(api, first).status_code == 200
    assert shown(api, first, as_role("auditor")) == before
    assert api.get("/api/v1/enrolment/pending", headers=admin).json()["items"] == []


def test_console_turns_away_whoever_waits_and_nobody_else(
    hub: Hub, api: HubClient, token: Tokens, as_role: Roles
) -> None:
    first = enrolled(api, token())
    second = again(api, first, token(needs_approval=True))
    path = f"/enrolment/pending/{first.me.asset_id}/refuse"
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 303
    assert beat(api, second).json()["code"] == "agent_revoked"
    assert beat(api, first).status_code == 200


def test_revoked_machine_keeps_no_credential_that_waits(
    api: HubClient, token: Tokens, as_role: Roles
) -> None:
    first = enrolled(api, token())
    second = again(api, first, token(needs_approval=True))
    path = f"/api/v1/agents/{first.me.asset_id}/revoke"
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 204
    told = {beat(api, one).json()["code"] for one in (first, second)}
    assert told == {"agent_revoked"}


def test_clone_is_told_from_a_machine_that_is_alive_while_another_waits(
    api: HubClient, token: Tokens
) -> None:
    first = enrolled(api, token())
    assert beat(api, first).status_code == 200
    again(api, first, token(needs_approval=True))
    clone = enrolled(api, token(), SimulatedAgent("clone", first.machine_id))
    assert clone.me.asset_id != first.me.asset_id
    assert beat(api, first).status_code == 200


def test_tag_that_a_tenant_trusts_needs_no_approval(
    api: HubClient, token: Tokens, as_role: Roles
) -> None:
    rules = {"auto_approve_tags": ["lab"]}
    path = "/api/v1/enrolment/rules"
    assert api.put(path, json=rules, headers=as_role("operator")).status_code == 403
    assert api.put(path, json=rules, headers=as_role("tenant_admin")).status_code == 200
    trusted = enrolled(api, token(needs_approval=True, tags=("lab",)))
    assert trusted.me.state == "active"
    assert enrolled(api, token(needs_approval=True)).me.state == "pending"


def test_revoked_agent_is_told_so(api: HubClient, token: Tokens, as_role: Roles) -> None:
    agent = enrolled(api, token())
    path = f"/api/v1/agents/{agent.me.asset_id}/revoke"
    assert api.post(path, headers=as_role("auditor")).status_code == 403
    assert api.post(path, headers=as_role("tenant_admin")).status_code == 204
    told = beat(api, agent)
    assert (told.status_code, told.json()["code"]) == (403, "agent_revoked")


def test_agent_gives_its_identity_back_and_nobody_elses(api: HubClient, token: Tokens) -> None:
    agent, other = enrolled(api, token()), enrolled(api, token(), SimulatedAgent("other"))
    path = "/api/v1/agents/unenroll"
    wrong = api.post(path, json={"agent_id": other.me.agent_id}, headers=agent.headers)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "identity_mismatch")
    done = api.post(path, json={"agent_id": agent.me.agent_id}, headers=agent.headers)
    assert (done.status_code, done.content) == (204, b"")
    assert beat(api, agent).status_code == 403
    assert beat(api, other).status_code == 200


def test_renewal_gives_a_certificate_for_another_key(api: HubClient, token: Tokens) -> None:
    agent, fresh = enrolled(api, token()), SimulatedAgent()
    reply = api.post("/api/v1/agents/renew", json={"csr": fresh.csr()}, headers=agent.headers)
    assert reply.status_code == 200
    leaf = x509.load_pem_x509_certificate(reply.json()["certificate"].encode())
    assert leaf.public_key() == fresh.key.public_key()
    nobody = api.post("/api/v1/agents/renew", json={"csr": fresh.csr()})
    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthenticated")


def test_tokens_by_the_api_are_an_admins_of_that_tenant(
    hub: Hub, api: HubClient, as_role: Roles
) -> None:
    path = "/api/v1/enrolment/tokens"
    for role in ("auditor", "operator"):
        assert api.post(path, json={}, headers=as_role(role)).status_code == 403
    made = api.post(path, json={"uses": 2, "tags": ["a"]}, headers=as_role("tenant_admin"))
    assert made.status_code == 201
    carried = enroltoken.read(made.json()["paste"])
    assert (carried.token, carried.hub_url) == (made.json()["token"], "http://127.0.0.1:8480")
    enrolled(api, made.json()["token"])
    (listed,) = api.get(path, headers=as_role("auditor")).json()["items"]
    assert (listed["uses"], listed["uses_max"]) == (1, 2)
    assert "token" not in listed
    gone = api.delete(f"{path}/{listed['id']}", headers=as_role("tenant_admin"))
    assert gone.status_code == 204
    late = api.post(ENROLL, json=SimulatedAgent().request(made.json()["token"]))
    assert (late.status_code, late.json()["code"]) == (401, "token_expired")


def test_other_tenants_tokens_and_machines_do_not_exist(
    hub: Hub, api: HubClient, token: Tokens, people: Any
) -> None:
    from hub.authorize import Role

    agent = enrolled(api, token(needs_approval=True))
    other = people.tenant("other")
    admin = people.headers(people.user(other, "admin.other", Role.TENANT_ADMIN))
    assert api.get("/api/v1/enrolment/tokens", headers=admin).json()["items"] == []
    assert api.get("/api/v1/enrolment/pending", headers=admin).json()["items"] == []
    unknown = api.post("/api/v1/agents/unknown/approve", headers=admin)
    foreign = api.post(f"/api/v1/agents/{agent.me.asset_id}/approve", headers=admin)
    assert (foreign.status_code, foreign.json()) == (404, unknown.json())
    mine = api.post("/api/v1/enrolment/tokens", json={"tenant_id": "acme"}, headers=admin)
    assert mine.status_code == 404


def test_ca_and_clock_are_told_to_anybody(hub: Hub, api: HubClient) -> None:
    told = api.get("/api/v1/ca").json()["ca_chain"]
    assert told == hub.authority.chain_pem
    assert abs(api.get("/api/v1/time").json()["server_ts"] - now_ms()) < 60_000


def test_agents_credential_opens_no_route_of_people(api: HubClient, token: Tokens) -> None:
    agent = enrolled(api, token())
    for path in ("/api/v1/commands", "/api/v1/enrolment/tokens", "/api/v1/enrolment/pending"):
        assert api.get(path, headers=agent.headers).status_code == 401


def asked_code(api: HubClient, agent: SimulatedAgent, **more: str) -> dict[str, Any]:
    body = {
        "client_id": "agent",
        "key_thumbprint": agent.thumbprint(),
        "hostname": agent.name,
        "platform": "linux",
    }
    reply = api.post("/api/v1/device/code", json=body | more)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def decided(api: HubClient, code: dict[str, Any], headers: dict[str, str], word: str) -> int:
    return api.post(f"/api/v1/device/{code['user_code']}/{word}", headers=headers).status_code


def by_code(
    api: HubClient, agent: SimulatedAgent, code: dict[str, Any], **more: Any
) -> httpx.Response:
    return api.post(ENROLL, json=agent.request(device_code=code["device_code"], **more))


def test_approved_device_code_becomes_an_identity_for_its_key_alone(
    hub: Hub, api: HubClient, as_role: Roles
) -> None:
    agent, thief = SimulatedAgent(), SimulatedAgent("thief")
    code = asked_code(api, agent)
    early = by_code(api, agent, code)
    assert (early.status_code, early.json()["error"]) == (400, "authorization_pending")
    shown = api.get(f"/api/v1/device/{code['user_code']}", headers=as_role("operator")).json()
    assert (shown["hostname"], shown["key_thumbprint"], shown["address"]) == (
        "web-1",
        agent.thumbprint(),
        "127.0.0.1",
    )
    assert decided(api, code, as_role("auditor"), "approve") == 403
    assert decided(api, code, as_role("operator"), "approve") == 204
    stolen = by_code(api, thief, code)
    assert (stolen.status_code, stolen.json()["code"]) == (400, "invalid_grant")
    polled = api.post(
        "/api/v1/device/token",
        json={
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": code["device_code"],
            "client_id": "agent",
        },
    )
    assert polled.json() == {"token_type": "enrolment"}

    agent.believe(by_code(api, agent, code).content)
    assert agent.me.state == "active"
    lost = by_code(api, agent, code)
    assert (lost.status_code, lost.json()["code"]) == (409, "token_used")
    again = by_code(api, agent, code, **agent.proof(lost.json()["nonce"]))
    assert again.status_code == 200
    agent.believe(again.content)
    assert beat(api, agent).status_code == 200
    assert count(hub, Agent) == 1


def test_device_code_that_was_denied_or_has_expired_lets_nobody_in(
    hub: Hub, api: HubClient, as_role: Roles
) -> None:
    agent = SimulatedAgent()
    code = asked_code(api, agent)
    assert decided(api, code, as_role("operator"), "deny") == 204
    assert by_code(api, agent, code).json()["code"] == "access_denied"
    late = asked_code(api, agent)
    assert decided(api, late, as_role("operator"), "approve") == 204
    change(hub, update(DeviceCode).values(expires_ms=now_ms() - 1))
    assert by_code(api, agent, late).json()["code"] == "expired_token"
    assert count(hub, Agent) == 0
