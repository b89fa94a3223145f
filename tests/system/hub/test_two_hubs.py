"""Two hub processes over one database: what may happen once happens once. Fault cases A and C."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.agents.models import Agent
from hub.audit import service as audit
from hub.audit.models import AuditRow
from hub.heartbeat import command_requests
from hub.heartbeat.models import Command
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.simulated_agent import SimulatedAgent
from wire.commands import CommandRequest
from wire.enrolment import EnrollResponse

ENROLL = "/api/v1/agents/enroll"
BEAT = "/api/v1/agents/heartbeat"
COMMANDS, ROUNDS = 120, 8
Pair = tuple[HubProcess, HubProcess]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hubs(request: pytest.FixtureRequest) -> Iterator[Pair]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create()
    with running_hub(url) as first:
        second = first.beside()
        try:
            yield first, second.start()
        finally:
            second.kill()


def token_of(hub: HubProcess, uses: int = 1) -> str:
    done = hub.command("token", "create", "--quiet", "--uses", str(uses))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def enrolled(hub: HubProcess, token: str, name: str) -> SimulatedAgent:
    agent = SimulatedAgent(name)
    status, body = hub.request("POST", ENROLL, None, agent.request(token))
    assert status == 200, body
    agent.identity = msgspec.convert(body, EnrollResponse)
    return agent


def order(hub: HubProcess, agents: list[SimulatedAgent]) -> set[str]:
    def ask(session: Session) -> set[str]:
        made = [
            command_requests.request(
                session,
                audit.SYSTEM,
                CommandRequest(
                    asset_id=agent.me.asset_id,
                    command_type="collect_inventory",
                    idempotency_key=f"{agent.me.asset_id} {number}",
                ),
                is_linked=False,
            )
            for agent in agents
            for number in range(COMMANDS)
        ]
        return {one.command.id for one in made}

    found: set[str] = hub.write(ask)
    return found


@pytest.mark.family("enrolment")
def test_commands_that_two_hubs_hand_out_at_once_are_accepted_once(hubs: Pair, soak: bool) -> None:
    count = 10 if soak else 3
    token = token_of(hubs[0], count)
    agents = [enrolled(hubs[0], token, f"m{number}") for number in range(count)]
    wanted = order(hubs[0], agents)
    offered: Counter[str] = Counter()
    together = threading.Barrier(2 * count)

    def beat(hub: HubProcess, agent: SimulatedAgent, body: dict[str, Any]) -> list[str]:
        together.wait(300)
        status, answer = hub.request("POST", BEAT, agent.me.service_account_token, body)
        assert status == 200, answer
        return [one["command_id"] for one in answer.get("pending_commands", [])]

    with ThreadPoolExecutor(2 * count) as pool:
        for _ in range(ROUNDS):
            asked = [(hub, agent, agent.beat()) for agent in agents for hub in hubs]
            for ids in pool.map(lambda one: beat(*one), asked):
                offered.update(ids)
    assert set(offered) == wanted
    assert set(offered.values()) == {1}

    def rows(session: Session) -> tuple[list[Command], Counter[str | None]]:
        commands = list(session.scalars(select(Command)))
        accepted = select(AuditRow.object_id).where(AuditRow.action == "command.accepted")
        return commands, Counter(session.scalars(accepted))

    commands, accepted = hubs[0].read(rows)
    assert {(one.state, one.offers) for one in commands} == {("accepted", 1)}
    assert accepted == Counter(wanted)
    print(f"{len(wanted)} commands at two hubs, each handed out once")


@pytest.mark.family("enrolment")
def test_token_raced_at_two_hubs_is_won_by_one(hubs: Pair, soak: bool) -> None:
    assert raced(hubs) == [200] + [409] * 19
    for _ in range(9 if soak else 0):  # whose wrong tries are counted by now
        assert set(raced(hubs)[1:]) <= {409, 429}
    print(f"{10 if soak else 1} tokens, each raced by twenty machines at two hubs: one winner each")


def raced(hubs: Pair) -> list[int]:
    """Let twenty machines come with one token, ten to each hub; return their statuses, sorted."""
    token = token_of(hubs[0])
    racers = [SimulatedAgent(f"racer-{number}") for number in range(20)]
    together = threading.Barrier(len(racers))

    def race(number: int) -> tuple[int, Any]:
        body = racers[number].request(token)
        together.wait(300)
        return hubs[number % 2].request("POST", ENROLL, None, body)

    with ThreadPoolExecutor(len(racers)) as pool:
        replies = list(pool.map(race, range(len(racers))))
    assert {body["code"] for status, body in replies if status == 409} <= {"token_used"}
    names = select(Agent.client_id)
    [won] = [body["agent_id"] for status, body in replies if status == 200]
    assert won in hubs[0].read(lambda session: list(session.scalars(names)))
    return sorted(status for status, _ in replies)


def test_same_request_raced_at_two_hubs_is_one_identity(hubs: Pair) -> None:
    """As when a proxy sends a request again, to the other hub."""
    token, agent = token_of(hubs[0], 5), SimulatedAgent("twice")
    together = threading.Barrier(8)

    def race(number: int) -> tuple[int, Any]:
        body = agent.request(token)
        together.wait(300)
        return hubs[number % 2].request("POST", ENROLL, None, body)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(race, range(8)))
    assert sorted(status for status, _ in replies) == [200] + [409] * 7
    assert all("nonce" in body for status, body in replies if status == 409)
