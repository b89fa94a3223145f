"""A hub killed, stopped and restarted under a real agent: no result lost, none doubled.

Fault cases C. `make test` scales it down, `make soak FAMILY=hub` runs it in full.
"""

from __future__ import annotations

import os
import random
import re
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
from tests.doubles.console_socket import ConsoleSocket
from tests.doubles.hub_process import HubProcess, running_hub
from tests.facilities import require

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
    agent.until(lambda: agent.ask("status")["link"]["state"] == "up")


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


class Typist:
    """Somebody at a shell that counts until it is told to stop; attaches again after every kill."""

    def __init__(self, operator: Operator, stop: Path) -> None:
        self._hub, self._stop = operator.hub, stop
        self._console = ConsoleSocket(operator.hub.url, operator.token)
        self._session = self._console.shell(operator.asset_id)
        self._console.type(
            self._session,
            f"i=0; until test -e {stop}; do i=$((i+1)); echo n$i; sleep 0.02; done; echo en''d\n",
        )

    def come_back(self) -> None:
        self._console.until(lambda: not self._console.is_up)
        self._hub.start()
        self._console.connect()
        reply = self._console.attach(self._session)
        assert "error" not in reply, reply

    def judge(self) -> int:
        """Every line is there, once and in order; return how many."""
        self._stop.touch()
        text = self._console.until_output(self._session, "end\r\n")
        numbers = re.findall(r"^n(\d+)\r$", text, re.MULTILINE)
        assert [int(one) for one in numbers] == list(range(1, len(numbers) + 1))
        assert self._console.screens[self._session].gaps == []
        return len(numbers)

    def close(self) -> None:
        self._console.close()


class Copies:
    """Somebody who has a backup under way all the time, of something else each time."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self._operator, self._source = operator, folder / "src"
        self._source.mkdir()
        self._fill()
        self._path = f"/api/v1/agents/{operator.asset_id}/backups"
        made = self._ask("", {"source_dirs": [str(self._source)], "dest_root": str(folder / "dst")})
        assert self._ended(made["job"]["id"])["state"] == "succeeded"
        self._path += f"/{made['id']}"
        self._ask("/approve", {"version": 1})
        self.runs: list[str] = []

    def keep_going(self) -> None:
        """Ask for the next run once the last one is over; a hub that is away is asked later."""
        if self.runs and self._operator.of(self.runs[-1]).get("state") not in FINAL:
            return
        self._fill()
        key = f"run{len(self.runs)}"
        status, job = self._operator.hub.request(
            "POST", f"{self._path}/run", self._operator.token, {}, key
        )
        if status in (200, 201):
            self.runs.append(job["id"])

    def judge(self) -> int:
        """Each run that was told to have succeeded took place, and none besides; how many."""
        states = Counter(self._ended(job_id)["state"] for job_id in self.runs)
        assert states.keys() <= {"succeeded", "unknown"}, states
        listed = self._ended(self._ask("/ls", {})["id"])["result"]["result"]
        assert listed["last"]["seq"] == states["succeeded"]
        return states["succeeded"]

    def _fill(self) -> None:
        (self._source / "big.bin").write_bytes(RNG.randbytes(2 << 20))

    def _ask(self, word: str, body: dict[str, Any]) -> dict[str, Any]:
        hub, token = self._operator.hub, self._operator.token
        status, answer = hub.request("POST", f"{self._path}{word}", token, body)
        assert status in (200, 201), answer
        return dict(answer)

    def _ended(self, job_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = self._operator.of(job_id)
            return job if job.get("state") in FINAL else None

        return dict(self._operator.hub.until(look, 240))


@pytest.fixture
def slow_copies(tmp_path: Path) -> str:
    """A PATH whose rsync takes its time to copy."""
    rsync = require("rsync")
    shim = tmp_path / "bin" / "rsync"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\ncase "$*" in *--dry-run*|--version*|-V*) exec {rsync} "$@";; esac\n'
        f'exec {rsync} --bwlimit=1000 "$@"\n'
    )
    shim.chmod(0o755)
    return f"{shim.parent}:{os.environ['PATH']}"


@pytest.mark.family("hub", minutes=9)
@pytest.mark.timeout(1700)
def test_a_hub_killed_at_random_moments_loses_and_doubles_nothing(
    hub: HubProcess, slow_copies: str, tmp_path: Path, soak: bool
) -> None:
    """Commands that leave a line behind, a shell that counts and a backup are in flight."""
    config = {**CONFIG, "authToken": hub.add_agent("box")}
    with running_agent(hub.url, config, {"PATH": slow_copies}) as agent:
        up(agent)
        operator = Operator(hub, tmp_path / "ledger")
        typist, copies = Typist(operator, tmp_path / "stop"), Copies(operator, tmp_path)
        kills = 100 if soak else 3
        for kill in range(kills):
            copies.keep_going()
            for n in range(3):
                operator.submit(f"k{kill}n{n}")
            time.sleep(RNG.uniform(0, 0.5))
            hub.kill()
            typist.come_back()
            up(agent)
        operator.judge(may_miss=True)
        lines, runs = typist.judge(), copies.judge()
        typist.close()
    unknown = sum(operator.of(one)["state"] == "unknown" for one in operator.jobs.values())
    print(
        f"\n{kills} kills, {len(operator.jobs)} commands, {unknown} of them never sent, "
        f"{lines} lines of a shell, {runs} backups"
    )

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
    agent.until(lambda: agent.ask("status")["link"]["state"] != "up")
    hub.resume()
    up(agent)
    hub.until(lambda: hub.get(f"/api/v1/agents/{operator.asset_id}", operator.token)[1]["link"])
    operator.submit("after")
    operator.judge(may_miss=True)
    assert operator.of(operator.jobs["after"])["state"] == "succeeded"


def test_an_orderly_restart_of_the_hub_costs_a_second_and_no_result(
    hub: HubProcess, tmp_path: Path
) -> None:
    """And a link that is given up meanwhile is none of it: this agent is patient."""
    config = {**CONFIG, "authToken": hub.add_agent("box"), "pongTimeoutSec": 90}
    with running_agent(hub.url, config) as agent:
        up(agent)
        operator = Operator(hub, tmp_path / "ledger")
        operator.submit("before")
        assert hub.stop() == 0
        hub.start()
        operator.submit("after")
        operator.judge()
    assert "Traceback" not in hub.log()
