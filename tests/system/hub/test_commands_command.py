"""`jackline commands`, `agents pending` and `agents approve` against a real hub, agents beating."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest
import requests

from tests.doubles.hub_process import DEADLINE_S, JACKLINE, HubProcess, running_hub
from tests.doubles.simulated_agent import SimulatedAgent, result

NAMES = ("web-1", "web-2", "web-3")


class Beating:
    """Agents that beat all the time, and complete (or fail) what they are asked for."""

    def __init__(self, hub: HubProcess, agents: list[SimulatedAgent]) -> None:
        self._hub = hub
        self._agents = agents
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.fails: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        results: dict[str, list[dict[str, Any]]] = {agent.name: [] for agent in self._agents}
        while not self._stop.wait(0.05):
            for agent in self._agents:
                answer = beat(self._hub, agent, command_results=results[agent.name])
                state = "failed" if agent.name in self.fails else "completed"
                results[agent.name] = [
                    result(one["command_id"], state, result_summary={"by": agent.name})
                    for one in answer.get("pending_commands", [])
                ]


def beat(hub: HubProcess, agent: SimulatedAgent, **more: Any) -> dict[str, Any]:
    reply = requests.post(
        f"{hub.url}/api/v1/agents/heartbeat",
        json=agent.beat(**more),
        headers=agent.headers,
        timeout=DEADLINE_S,
    )
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def enrol(hub: HubProcess, name: str, *words: str) -> SimulatedAgent:
    made = hub.command("token", "create", "--quiet", *words)
    agent = SimulatedAgent(name)
    body = agent.request(made.stdout.strip())
    reply = requests.post(f"{hub.url}/api/v1/agents/enroll", json=body, timeout=DEADLINE_S)
    agent.believe(reply.content)
    return agent


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        yield found


@pytest.fixture(scope="module")
def fleet(hub: HubProcess) -> Iterator[Beating]:
    with Beating(hub, [enrol(hub, name, "--tags", "web") for name in NAMES]) as beating:
        yield beating


@pytest.fixture(scope="module")
def token(hub: HubProcess) -> str:
    return hub.token()


def jackline(hub: HubProcess, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JACKLINE, *words],
        env={**hub.env, "JACKLINE_HUB_URL": hub.url, "JACKLINE_TOKEN": token},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_one_is_run_waited_for_listed_and_shown(
    hub: HubProcess, token: str, fleet: Beating
) -> None:
    assert "collect_inventory" in jackline(hub, token, "commands", "templates").stdout
    done = jackline(
        hub, token, "commands", "run", "collect_telemetry", "web-1",
        "--param", "samples=2", "--wait", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["outcome"] == "succeeded"
    command = told["command"]
    assert (command["params"], command["result_summary"]) == ({"samples": 2}, {"by": "web-1"})
    shown = jackline(hub, token, "commands", "show", command["command_id"])
    assert "succeeded" in shown.stdout and "by: web-1" in shown.stdout
    assert command["command_id"] in jackline(hub, token, "commands", "ls", "web-1").stdout
    ended = jackline(hub, token, "commands", "cancel", command["command_id"])
    assert (ended.returncode, "not_cancellable" in ended.stderr) == (5, True)


def test_same_key_is_the_same_command(hub: HubProcess, token: str, fleet: Beating) -> None:
    words = ("commands", "run", "collect_inventory", "web-1", "--key", "k1", "--json")
    first, again = (json.loads(jackline(hub, token, *words).stdout) for _ in range(2))
    assert first["command"]["command_id"] == again["command"]["command_id"]


def test_many_are_run_by_tag_in_waves_until_too_many_fail(
    hub: HubProcess, token: str, fleet: Beating
) -> None:
    words = ("commands", "run", "collect_inventory", "--tag", "web", "--waves", "1,2", "--json")
    fleet.fails = {"web-2"}
    try:
        some = jackline(hub, token, *words)
        assert some.returncode == 3, some.stderr
        assert {one["agent"]: one["outcome"] for one in json.loads(some.stdout)} == {
            "web-1": "succeeded",
            "web-2": "failed",
            "web-3": "succeeded",
        }
        fleet.fails = set(NAMES)
        none = jackline(hub, token, *words, "--max-failures", "0")
        assert none.returncode == 1
        assert len(json.loads(none.stdout)) == 1
    finally:
        fleet.fails = set()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "reboot", "web-1"), 2),
        (("run", "collect_inventory", "nobody"), 4),
        (("run", "collect_inventory", "--tag", "nothing"), 4),
        (("run", "collect_inventory"), 2),
        (("run", "collect_telemetry", "web-1", "--param", "samples=0"), 2),
        (("show", "unknown"), 4),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(
    hub: HubProcess, token: str, fleet: Beating, words: tuple[str, ...], code: int
) -> None:
    assert jackline(hub, token, "commands", *words).returncode == code


def test_machine_that_waits_is_shown_with_address_and_key_before_it_is_let_in(
    hub: HubProcess, token: str
) -> None:
    agent = enrol(hub, "waits", "--needs-approval")
    listed = jackline(hub, token, "agents", "pending").stdout
    assert all(text in listed for text in ("waits", "127.0.0.1", agent.thumbprint()))
    asked = jackline(hub, token, "agents", "approve", "waits")
    assert asked.returncode == 2 and agent.thumbprint() in asked.stderr
    assert jackline(hub, token, "agents", "approve", "waits", "--yes").returncode == 0
    assert "server_ts" in beat(hub, agent)


def test_code_of_a_device_is_approved_after_its_key_was_shown(hub: HubProcess, token: str) -> None:
    agent = SimulatedAgent("device")
    body = {"client_id": "agent", "key_thumbprint": agent.thumbprint(), "hostname": "device"}
    code = requests.post(f"{hub.url}/api/v1/device/code", json=body, timeout=DEADLINE_S).json()
    done = jackline(hub, token, "agents", "approve", code["user_code"], "--yes")
    assert done.returncode == 0, done.stderr
    assert agent.thumbprint() in done.stderr and "device" in done.stderr
    reply = requests.post(
        f"{hub.url}/api/v1/agents/enroll",
        json=agent.request(device_code=code["device_code"]),
        timeout=DEADLINE_S,
    )
    assert reply.status_code == 200, reply.text
