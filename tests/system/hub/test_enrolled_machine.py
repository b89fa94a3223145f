"""A machine from its token to its data, at the real hub: with the live link and without it."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from hub.audit.models import AuditRow
from hub.authorize import Role
from hub.heartbeat.models import Command
from tests.doubles.cutting_proxy import CuttingProxy, LosingRelay
from tests.doubles.enrolled import EnrolledAgent
from tests.doubles.hub_inside import HubInside
from tests.doubles.hub_process import HubProcess, free_port, running_hub
from tests.doubles.hub_tls import TlsHub
from tests.doubles.network import Network
from wire import enroltoken

FINAL = ("completed", "failed")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    """One for all tests here: each has a machine of its own, and it outlives being killed."""
    with running_hub() as hub:
        yield hub


def token_of(hub: HubProcess, *words: str) -> str:
    done = hub.command("token", "create", "--quiet", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextlib.contextmanager
def enrolled(
    hub: HubProcess, *words: str, token: str | None = None, prefix: list[str] | None = None
) -> Iterator[EnrolledAgent]:
    agent = EnrolledAgent(token or token_of(hub), "--hub", hub.url, *words, prefix=prefix)
    try:
        yield agent
    finally:
        agent.close()


def order(hub: HubProcess, who: str, agent: EnrolledAgent, kind: str = "collect_inventory") -> str:
    body = {
        "asset_id": agent.identity["asset_id"],
        "command_type": kind,
        "idempotency_key": secrets.token_hex(8),
    }
    status, answer = hub.request("POST", "/api/v1/commands", who, body)
    assert status == 201, answer
    assert answer["state"] == "requested"
    command_id: str = answer["command_id"]
    return command_id


def ended(hub: HubProcess, who: str, command_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
    def look() -> Any:
        status, told = hub.get(f"/api/v1/commands/{command_id}", who)
        assert status == 200, told
        return told if told["state"] in FINAL else None

    found: dict[str, Any] = hub.until(look, timeout_s)
    return found


def succeeded(told: dict[str, Any]) -> None:
    assert told["state"] == "completed", told
    moments = [told[f"{name}_at"] for name in ("requested", "accepted", "started", "finished")]
    assert moments == sorted(moments)
    assert told["result_summary"]["counts"]["users"] > 0


def test_open_link_makes_delivery_immediate(hub: HubProcess) -> None:
    """The hub's interval is a minute; `poll_now` makes it a moment."""
    who = hub.token()
    with enrolled(hub, "--profile", "operator") as agent:
        agent.start()
        agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
        began = time.monotonic()
        told = ended(hub, who, order(hub, who, agent))
        assert time.monotonic() - began < 30.0
        succeeded(told)
        assert told["artifact_id"]
        status, found = hub.get(f"/api/v1/artifacts/{told['artifact_id']}", who)
        assert status == 200 and json.loads(found)["os"]["name"]


@pytest.mark.family("enrolment")
def test_blocked_link_leaves_the_heartbeat_and_commands_still_work() -> None:
    """A firewall drops what starts like the live link; `status` says what is left."""
    with Network() as network:
        hub = HubInside(network, env={"JACKLINE_HUB_HEARTBEAT_INTERVAL_S": "1"})
        try:
            hub.start()
            network.refuse(hub.port, b"GET /soc")
            who = hub.token()
            with enrolled(hub, "--profile", "operator", prefix=network.prefix) as agent:
                agent.start()
                agent.until(lambda: agent.heartbeat["state"] == "up")
                succeeded(ended(hub, who, order(hub, who, agent)))
                assert agent.link != "up" and agent.heartbeat["only_link"]
                assert "the only link" in agent.command("status").stdout
                network.allow()
                agent.until(lambda: agent.link == "up")
                assert not agent.heartbeat["only_link"]
        finally:
            hub.close()


def test_reporter_opens_no_link_and_reports(hub: HubProcess) -> None:
    who = hub.token()
    with enrolled(hub) as agent:
        agent.start()
        agent.until(lambda: agent.heartbeat["state"] == "up")
        assert agent.link == "off"
        asset = agent.identity["asset_id"]
        hub.until(lambda: hub.get(f"/api/v1/agents/{asset}/inventory", who)[0] == 200)


def test_pasted_token_names_the_port_that_the_hub_serves_on(hub: HubProcess) -> None:
    done = hub.command("token", "create")
    assert enroltoken.read(done.stdout.strip()).hub_url == hub.url


def test_auditor_and_stranger_get_nothing_and_nothing_runs(hub: HubProcess) -> None:
    auditor = hub.add_user("eve", Role.AUDITOR)
    stranger = hub.add_user("mallory", Role.OPERATOR, "elsewhere")
    with enrolled(hub) as agent:
        body = {
            "asset_id": agent.identity["asset_id"],
            "command_type": "collect_inventory",
            "idempotency_key": "k",
        }
        assert hub.request("POST", "/api/v1/commands", auditor, body)[0] == 403
        foreign = hub.request("POST", "/api/v1/commands", stranger, body)
        unknown = hub.request(
            "POST", "/api/v1/commands", stranger, {**body, "asset_id": "01a22196-0000"}
        )
        assert foreign[0] == unknown[0] == 403
        assert foreign[1] == unknown[1]
        wrong = {**body, "command_type": "run_shell"}
        status, answer = hub.request("POST", "/api/v1/commands", hub.token(), wrong)
        assert (status, answer["code"]) == (400, "unsupported_type")


def test_machine_that_is_enrolled_again_keeps_its_asset(hub: HubProcess) -> None:
    with enrolled(hub) as agent:
        first = agent.identity
        assert agent.command("unenroll").returncode == 0
        done = agent.enroll("--hub", hub.url, "--token-stdin", stdin=token_of(hub))
        assert done.returncode == 0, done.stderr
        second = agent.identity
        assert second["asset_id"] == first["asset_id"]
        assert second["agent_id"] != first["agent_id"]


def test_machine_that_needs_approval_waits_for_it_and_says_so(hub: HubProcess) -> None:
    who = hub.token()
    with enrolled(hub, token=token_of(hub, "--needs-approval")) as agent:
        agent.start()
        agent.until(lambda: agent.heartbeat["last_failure"])
        assert agent.heartbeat["last_failure"]["reason"] == "pending_approval"
        asset = agent.identity["asset_id"]
        assert hub.request("POST", f"/api/v1/agents/{asset}/approve", who)[0] == 204
        agent.terminate()  # or a minute later, by itself
        agent.start()
        agent.until(lambda: agent.heartbeat["state"] == "up")


def test_revoked_machine_is_told_and_asks_seldom(hub: HubProcess) -> None:
    who = hub.token()
    with enrolled(hub) as agent:
        agent.start()
        agent.until(lambda: agent.heartbeat["state"] == "up")
        asset = agent.identity["asset_id"]
        assert hub.request("POST", f"/api/v1/agents/{asset}/revoke", who)[0] == 204
        agent.terminate()
        agent.start()
        agent.until(lambda: agent.heartbeat["last_failure"])
        told = agent.heartbeat
        assert told["last_failure"]["reason"] == "agent_revoked" and told["next_beat_s"] > 500
        assert agent.command("unenroll").returncode == 0


@pytest.mark.family("enrolment")
def test_hub_that_is_killed_loses_no_result(hub: HubProcess, soak: bool) -> None:
    """At a random moment of a command's life."""
    who = hub.token()
    with enrolled(hub, "--profile", "operator") as agent:
        agent.start()
        for _ in range(8 if soak else 1):
            agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up", 150)
            command = order(hub, who, agent, "collect_telemetry")
            time.sleep(random.uniform(0.0, 1.0))
            hub.kill()
            hub.start()
            told = ended(hub, who, command, timeout_s=150)
            assert told["state"] == "completed", told


def test_command_whose_offer_was_lost_is_offered_again_and_ends_once(hub: HubProcess) -> None:
    """The hub has it accepted and the machine never heard of it; a lease ends it sooner here."""
    who = hub.token()
    with LosingRelay(hub.port) as relay:
        agent = EnrolledAgent(token_of(hub), "--hub", f"http://127.0.0.1:{relay.port}")
        try:
            agent.start()
            agent.until(lambda: agent.heartbeat["state"] == "up")
            relay.lose = b"pending_commands"
            command = order(hub, who, agent)
            agent.terminate()
            agent.start()  # it beats at once, and loses the answer
            agent.until(lambda: relay.lose is None)
            assert hub.get(f"/api/v1/commands/{command}", who)[1]["state"] == "accepted"
            ends = update(Command).where(Command.id == command).values(leased_ms=1)
            hub.write(lambda session: session.execute(ends))
            agent.terminate()
            agent.start()  # or a minute later, by itself
            succeeded(ended(hub, who, command, timeout_s=120))
            query = select(AuditRow.action).where(AuditRow.object_id == command)
            rows = hub.read(lambda session: list(session.scalars(query.order_by(AuditRow.seq))))
            assert [row for row in rows if row.startswith("command.")] == [
                f"command.{state}" for state in ("requested", "accepted", "running", "completed")
            ]
        finally:
            agent.close()


def test_one_paste_pins_the_hub_for_heartbeat_link_and_doctor() -> None:
    """The hub's authority is its own: nobody on this machine vouches for it but the token."""
    hub = TlsHub()
    try:
        hub.start()
        agent = EnrolledAgent(token_of(hub), "--profile", "full")
        try:
            agent.start()
            agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
            assert agent.identity["server_ca"].startswith("-----BEGIN CERTIFICATE")
            told = json.loads(agent.command("doctor", "--json").stdout)
            assert "the certificate is good" in str(told)
        finally:
            agent.close()
    finally:
        hub.close()


@pytest.mark.family("enrolment")
def test_enforced_certificates_move_heartbeat_and_link_by_themselves(soak: bool) -> None:
    """Commands go on through two renewals, or six: nothing is dropped, nobody enrols again."""
    env = {
        "JACKLINE_HUB_AGENTS_PORT": str(free_port()),
        "JACKLINE_HUB_HEARTBEAT_INTERVAL_S": "1",
        "JACKLINE_HUB_CERTIFICATE_HOURS": "0.01",
    }
    with running_hub(env=env) as hub:
        who = hub.token()
        with enrolled(hub, "--profile", "operator") as agent:
            agent.start()
            agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
            first = agent.identity
            tenant = hub.get("/api/v1/me", who)[1]["tenant_id"]
            path = f"/api/v1/tenants/{tenant}"
            assert hub.request("PATCH", path, who, {"enforces_mtls": True})[0] == 200
            agent.until(lambda: agent.heartbeat["mtls"] and agent.heartbeat["state"] == "up")
            agent.until(lambda: agent.link == "up")
            seen = {agent.identity["certificate"]}
            count = 0
            while len(seen) <= (6 if soak else 2):
                count += 1
                succeeded(ended(hub, who, order(hub, who, agent)))
                seen.add(agent.identity["certificate"])
            print(f"{len(seen) - 1} renewals, {count} commands completed meanwhile")
            second = agent.identity
            assert second["agent_id"] == first["agent_id"] and second["mtls"]
            assert second["key"] != first["key"]
            agent.terminate()
            agent.start()
            agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
            assert agent.command("unenroll").returncode == 0


def test_reply_that_is_lost_twice_gives_the_same_identity_again(hub: HubProcess) -> None:
    """The token is burnt in the database, and the machine never heard of it."""
    with CuttingProxy(hub.port, cuts=2) as proxy:
        token = token_of(hub)
        agent = EnrolledAgent(token, "--hub", f"http://127.0.0.1:{proxy.port}")
        try:
            assert proxy.cut == 2
            known = agent.identity
            status, told = hub.get(f"/api/v1/agents/{known['asset_id']}", hub.token())
            assert (status, told["client_id"]) == (200, known["agent_id"])
            agent.start()
            agent.until(lambda: agent.heartbeat["state"] == "up")
        finally:
            agent.close()
