"""A hub killed, stopped and restarted under a real agent: no result lost, none doubled.

Fault cases C. `make test` scales it down, `make soak FAMILY=hub` runs it in full.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.agents.models import SeenEvent
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hub_process import HubProcess, running_hub

pytestmark = pytest.mark.timeout(600)
RNG = random.Random()
FINAL = {"succeeded", "failed", "cancelled", "expired", "unknown"}
CONFIG: dict[str, Any] = {
    "clientId": "box",
    "statsIntervalSec": 1,
    "heartbeatIntervalSec": 1,
    "pongTimeoutSec": 3,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 8},
}


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        yield found


@pytest.fixture
def agent(hub: HubProcess) -> Iterator[AgentProcess]:
    config = {**CONFIG, "authToken": hub.add_agent("box")}
    with running_agent(hub.url, config) as found:
        up(found)
        yield found


def up(agent: AgentProcess) -> None:
    agent.until(lambda: agent.ask("status")["link"]["state"] == "up", 90)


class Operator:
    """Somebody who runs commands through the API, whatever happens to the hub meanwhile."""

    def __init__(self, hub: HubProcess, ledger: Path) -> None:
        self.hub = hub
        self.ledger = ledger
        self.token = hub.token()
        [one] = hub.get("/api/v1/agents", self.token)[1]["items"]
        self.asset_id = one["asset_id"]
        self.jobs: dict[str, str] = {}

    def submit(self, name: str) -> None:
        """Ask for a command that leaves one line behind, until the hub has taken it."""
        script = f"sleep {RNG.uniform(0, 0.2):.3f}; echo {name} >> {self.ledger}; echo {name}"
        body = {"command": f'sh -c "{script}"', "timeout_sec": 60}

        def ask() -> str | None:
            status, job = self.hub.request(
                "POST", f"/api/v1/agents/{self.asset_id}/admin", self.token, body, name
            )
            assert status in (0, 200, 201, 503), job
            return str(job["id"]) if status in (200, 201) else None

        self.jobs[name] = self.hub.until(ask)

    def ended(self) -> bool:
        states = {job: self.of(job).get("state") for job in self.jobs.values()}
        return set(states.values()) <= FINAL

    def of(self, job_id: str) -> dict[str, Any]:
        status, job = self.hub.get(f"/api/v1/jobs/{job_id}", self.token)
        return job if status == 200 else {}

    def judge(self, *, may_miss: bool = False) -> None:
        """No command ran twice, and each that ran has its own result.

        Args:
            may_miss: a hub that was killed between saving and sending does not send again: such a
                job never ran, and ends `unknown`. So does one whose link was given up meanwhile.
        """
        self.hub.until(self.ended, 240)
        ran = Counter(self.ledger.read_text().split())
        for name, job_id in self.jobs.items():
            job = self.of(job_id)
            if may_miss and job["state"] == "unknown":
                assert ran[name] == 0, job
                continue
            assert job["state"] == "succeeded", job
            assert ran[name] == 1, job
            assert name in str(job["result"]), job


@pytest.mark.family("hub")
def test_a_hub_killed_at_random_moments_loses_and_doubles_no_result(
    hub: HubProcess, agent: AgentProcess, tmp_path: Path, soak: bool
) -> None:
    operator = Operator(hub, tmp_path / "ledger")
    kills = 100 if soak else 3
    for kill in range(kills):
        for n in range(3):
            operator.submit(f"k{kill}n{n}")
        time.sleep(RNG.uniform(0, 0.5))
        hub.kill()
        hub.start()
        up(agent)
    operator.judge(may_miss=True)

    def doubled(session: Session) -> int:
        rows = select(SeenEvent.event_id).group_by(SeenEvent.event_id).having(func.count() > 1)
        return len(session.scalars(rows).all())

    assert hub.read(doubled) == 0


def test_a_hub_that_stands_still_gets_its_agent_back_once(
    hub: HubProcess, agent: AgentProcess, tmp_path: Path
) -> None:
    operator = Operator(hub, tmp_path / "ledger")
    operator.submit("before")
    hub.suspend()
    agent.until(lambda: agent.ask("status")["link"]["state"] != "up", 60)
    hub.resume()
    up(agent)
    hub.until(lambda: hub.get(f"/api/v1/agents/{operator.asset_id}", operator.token)[1]["link"], 60)
    operator.submit("after")
    operator.judge(may_miss=True)
    assert operator.of(operator.jobs["after"])["state"] == "succeeded"


def test_an_orderly_restart_of_the_hub_costs_a_second_and_no_result(
    hub: HubProcess, agent: AgentProcess, tmp_path: Path
) -> None:
    operator = Operator(hub, tmp_path / "ledger")
    operator.submit("before")
    hub.stop()
    hub.start()
    operator.submit("after")
    operator.judge()
    assert "Traceback" not in hub.log()
