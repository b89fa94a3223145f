"""A real agent and a real hub find each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import socketio

from tests.doubles.agent_process import running_agent
from tests.doubles.hub_process import HubProcess, running_hub


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        yield found


@contextlib.contextmanager
def console(hub: HubProcess, token: str) -> Iterator[socketio.SimpleClient]:
    client = socketio.SimpleClient()
    client.connect(hub.url, auth={"token": token}, namespace="/console", transports=["websocket"])
    try:
        yield client
    finally:
        client.disconnect()


def test_an_agent_with_a_credential_links_and_is_told_the_features(hub: HubProcess) -> None:
    token = hub.add_agent("box-1")
    with running_agent(hub.url, {"clientId": "box-1", "authToken": token}) as agent:
        agent.until(lambda: agent.ask("status")["link"]["state"] == "up")
        agent.until(lambda: "ack" in (agent.ask("status")["link"]["features"] or []))


def test_a_console_client_is_welcomed_by_its_token_and_told_its_role(hub: HubProcess) -> None:
    with console(hub, hub.token()) as client:
        event, payload = client.receive(timeout=20)
        assert event == "welcome"
        assert payload["role"] == "system_admin"
        assert client.call("watch", {"topic": "agents"}) == {}
        assert client.call("nothing of ours", {})["error"]["code"] == "unknown_event"


def test_a_console_client_without_a_good_token_is_refused(hub: HubProcess) -> None:
    client = socketio.SimpleClient()
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(
            hub.url, auth={"token": "jlt_no"}, namespace="/console", transports=["websocket"]
        )
