"""The hub doubles themselves, checked with a real Node client of the contract."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.doubles.hubs import ROOT, Hub, HubOptions, NodeHub, ScriptedHub
from tests.doubles.node import fetched, node_program

AGENT = ROOT / "bench/peers/node_agent"
StartAgent = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(params=[NodeHub, ScriptedHub], ids=["node", "scripted"])
def hub_class(request: pytest.FixtureRequest) -> type[Hub]:
    return request.param


@pytest.fixture
def hub(hub_class: type[Hub]) -> Iterator[Hub]:
    with hub_class(HubOptions(ping_every_ms=200)) as hub:
        yield hub


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start a Node agent of a hub; it is ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(hub: Hub, *arguments: str, token: str | None = None) -> subprocess.Popen[bytes]:
        config = tmp_path / "agent-config.json"
        known = hub.options.tokens["agent-1"]
        fields = {
            "clientId": "agent-1",
            "serverUrl": hub.url,
            "authToken": token or known,
            "admin": {"enableShell": True, "allowedCommands": ["*"]},
        }
        config.write_text(json.dumps(fields))
        process = subprocess.Popen(
            [node_program(), str(fetched(AGENT) / "agent.js"), str(config), *arguments]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def test_hub_greets_a_signed_agent_and_hears_its_stats(hub: Hub, start_agent: StartAgent) -> None:
    start_agent(hub)
    connection = hub.wait_for_connection()
    assert connection.query["clientId"] == "agent-1"
    assert hub.wait_for("stats").payload["data"]["mem"]["total"] > 0
    assert hub.wait_for("pong").payload["ts"] > 0


def test_hub_carries_a_shell_both_ways(hub: Hub, start_agent: StartAgent) -> None:
    start_agent(hub)
    hub.wait_for("stats")
    hub.emit("shell_start", {"session": "s1"})
    hub.emit("shell_input", {"session": "s1", "data": "echo $((40+2))é; exit 3\n"})
    hub.wait_for_output("s1", "42é")
    assert hub.wait_for("shell_closed", session="s1").payload["code"] == 3


def test_hub_carries_a_command_result(hub: Hub, start_agent: StartAgent) -> None:
    start_agent(hub)
    hub.wait_for("stats")
    hub.emit("admin_run", {"token": "t1", "cmd": {"command": "echo hello"}})
    result = hub.wait_for("admin_result", token="t1").payload["result"]
    assert (result["stdout"], result["summary"]["code"]) == ("hello\n", 0)


def test_hub_sends_raw_packets(hub: Hub, start_agent: StartAgent) -> None:
    start_agent(hub)
    hub.wait_for("stats")
    hub.raw('2/agents,["ping",{"ts":7}]')
    hub.raw('51-/agents,["ping",{"ts":{"_placeholder":true,"num":0}}]')
    hub.raw(b"eight")
    hub.wait_for("pong", ts=7)
    answer = hub.wait_for("pong", lambda payload: isinstance(payload["ts"], dict))
    assert answer.payload["ts"]["$binary"] == "ZWlnaHQ="


def test_hub_refuses_a_wrong_signature(hub: Hub, start_agent: StartAgent) -> None:
    start_agent(hub, token="another secret")
    refused = hub.record.wait("refused", lambda _: True, 10)
    assert refused["message"] == "auth_failed"
    assert hub.connections == []


@pytest.mark.parametrize("how", ["namespace", "close", "abort"])
def test_hub_drops_a_link(hub: Hub, start_agent: StartAgent, how: str) -> None:
    start_agent(hub)
    first = hub.wait_for_connection()
    hub.wait_for("stats")
    hub.drop(how, first.sid)
    hub.wait_for_disconnect(first.sid)
    mark = hub.record.mark()
    if how != "namespace":  # socket.io-client does not come back from that one by itself
        second = hub.wait_for_connection(since=mark)
        assert second.sid != first.sid and second.query["ts"] != first.query["ts"]


def test_hub_killed_and_started_again_keeps_port_and_record(
    hub: Hub, start_agent: StartAgent
) -> None:
    start_agent(hub)
    hub.wait_for_connection()
    port, mark = hub.port, hub.record.mark()
    hub.kill()
    hub.start()
    assert hub.port == port
    hub.wait_for_connection(since=mark)
    assert len(hub.connections) == 2


def test_hub_refuses_websockets_while_polling_works(
    hub_class: type[Hub], start_agent: StartAgent
) -> None:
    with hub_class(HubOptions(modes={"websocketStatus": 403})) as hub:
        start_agent(hub)
        assert hub.wait_for_connection().transport == "polling"
        hub.wait_for("stats")
        assert any(request["upgrade"] for request in hub.record.of("request"))


def test_hub_answers_as_a_middlebox(hub: Hub) -> None:
    answers: list[dict[str, Any]] = [
        {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "<html>login</html>"},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}},
        {"status": 502},
    ]
    for answer in answers:
        hub.set(http=answer)
        for transport in ("polling", "websocket"):
            reply = _handshake(hub, transport)
            assert reply.status_code == answer["status"]
            assert reply.text == answer.get("body", "")
            assert answer.get("headers", {}).items() <= reply.headers.items()
    hub.set(http=None)
    assert _handshake(hub, "polling").text.startswith("0{")


def _handshake(hub: Hub, transport: str) -> requests.Response:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    return requests.get(
        f"{hub.url}/socket.io/?EIO=4&transport={transport}",
        headers=upgrade if transport == "websocket" else {},
        allow_redirects=False,
        timeout=10,
    )


@pytest.mark.parametrize(
    "modes, kind",
    [
        ({"refuse": {"message": "later", "data": {"retryAfterMs": 50}}}, "refused"),
        ({"silent": True}, "ignored"),
    ],
    ids=["refuse", "silent"],
)
def test_hub_gives_no_namespace(
    hub_class: type[Hub], start_agent: StartAgent, modes: dict[str, Any], kind: str
) -> None:
    with hub_class(HubOptions(modes=modes)) as hub:
        start_agent(hub)
        hub.record.wait(kind, lambda _: True, 10)
        assert hub.connections == []


@pytest.mark.parametrize("when, stats", [("early", 1), (50, 1), ("never", 0)])
def test_hub_says_hello_when_told(
    hub_class: type[Hub], start_agent: StartAgent, when: str | int, stats: int
) -> None:
    with hub_class(HubOptions(modes={"helloAck": when}, ping_every_ms=100)) as hub:
        start_agent(hub)
        pings = hub.wait_for("pong")
        if stats:
            hub.wait_for("stats")
        else:
            hub.wait_for("pong", lambda payload: payload["ts"] > pings.payload["ts"])
            assert hub.events("stats") == []


def test_hub_counts_a_flood_instead_of_reporting_it(hub: Hub, start_agent: StartAgent) -> None:
    hub.set(tally=["shell_output"])
    start_agent(hub)
    hub.wait_for("stats")
    hub.emit("shell_start", {"session": "s1"})
    hub.emit("shell_input", {"session": "s1", "data": "head -c 300000 /dev/zero; echo $((6*7))\n"})
    count = hub.wait_for_tally("shell_output s1", 300_000)
    assert "\0" * 50 in count["tail"]
    assert len(count["sha256"]) == hashlib.sha256().digest_size * 2
    assert hub.events("shell_output") == []


def test_scripted_hub_paces_a_stream_by_credit(start_agent: StartAgent) -> None:
    options = HubOptions(modes={"tally": ["shell_output"], "credit": "manual"})
    with ScriptedHub(options) as hub:
        start_agent(hub, "--credit")
        hub.wait_for("stats")
        hub.emit("shell_start", {"session": "s1"})
        hub.emit("shell_input", {"session": "s1", "data": "head -c 300000 /dev/zero\n"})
        hub.emit("admin_run", {"token": "after", "cmd": {"command": "sleep 0.3"}})
        hub.wait_for("admin_result", token="after")
        assert hub.tally()["shell_output s1"]["bytes"] < 150_000
        hub.set(credit="auto")
        hub.wait_for_tally("shell_output s1", 300_000)


def test_scripted_hub_keeps_finals_across_a_kill(tmp_path: Path, start_agent: StartAgent) -> None:
    options = HubOptions(finals_file=tmp_path / "finals.jsonl", modes={"die": "before_ack"})
    with ScriptedHub(options) as hub:
        start_agent(hub)
        hub.wait_for("stats")
        hub.emit("admin_run", {"token": "t1", "cmd": {"command": "true"}})
        hub.wait_dead()
        assert [final["payload"]["token"] for final in hub.finals()] == ["t1"]
        hub.options = replace(hub.options, modes={})
        mark = hub.record.mark()
        hub.start()
        hub.wait_for("stats", since=mark)
        hub.emit("admin_run", {"token": "t2", "cmd": {"command": "true"}})
        hub.wait_for("admin_result", token="t2")
        hub.set()
        assert [final["payload"]["token"] for final in hub.finals()] == ["t1", "t2"]
