"""One hub and one agent for each file; each test has its own operator and its own program."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.authorize import Role
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.operator_desk import Desk, Script, asset_of, linked


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as running:
        yield running


@pytest.fixture
def desk(hub: HubProcess) -> Iterator[Desk]:
    made = Desk(hub, hub.add_user(f"otto-{time.monotonic_ns()}", Role.OPERATOR))
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(hub: HubProcess) -> Iterator[AgentProcess]:
    config = {"authToken": hub.add_agent("agent-1")}
    with running_agent(hub.url, config) as running:
        yield running


@pytest.fixture
def asset_id(hub: HubProcess, agent: AgentProcess) -> str:
    """The machine, linked."""
    linked(agent)
    return asset_of(hub)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)
