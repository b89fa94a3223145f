"""Agents of another make at a real hub: polling first or by WebSocket, and the plain contract."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.foreign_agent_process import ForeignAgent, foreign_agent
from tests.doubles.hub_process import HubProcess, running_hub
from tests.doubles.raw_peer import RawPeer, query_of

WEBSOCKET = {"transports": ["websocket"]}
RESULT = {"stdout": "out", "stderr": "", "summary": {"code": 0, "durationMs": 3}}


@pytest.fixture(scope="module")
def polled() -> Iterator[HubProcess]:
    """A hub that takes polling, too."""
    with running_hub(env={"JACKLINE_HUB_TRANSPORTS": "websocket,polling"}) as found:
        yield found
        assert "Traceback" not in found.log(), found.log()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        yield found
        assert "Traceback" not in found.log(), found.log()


def shown(hub: HubProcess, token: str, client_id: str) -> dict[str, Any]:
    found = hub.get(f"/api/v1/agents?q={client_id}", token)[1]["items"]
    asset_id = next(one["asset_id"] for one in found if one["client_id"] == client_id)
    detail: dict[str, Any] = hub.get(f"/api/v1/agents/{asset_id}", token)[1]
    return detail


def run_a_command(hub: HubProcess, agent: ForeignAgent, client_id: str) -> None:
    """Have a command run: no extension asks for it, and its result ends the job."""
    token = hub.token()
    asset_id = shown(hub, token, client_id)["asset_id"]
    status, job = hub.request(
        "POST", f"/api/v1/agents/{asset_id}/admin", token, {"command": "uptime"}
    )
    assert status == 201, job
    asked = agent.event("admin_run")["payload"]
    assert asked["cmd"]["command"] == "uptime"
    assert "jobId" not in asked
    agent.emit("admin_result", {"token": asked.get("token"), "command": "uptime", "result": RESULT})
    path = f"/api/v1/jobs/{job['id']}"
    hub.until(lambda: hub.get(path, token)[1]["state"] == "succeeded")


def test_default_options_poll_first_and_upgrade_where_the_hub_takes_polling(
    polled: HubProcess,
) -> None:
    secret = polled.add_agent("poller")
    with foreign_agent(polled.url, "poller", secret) as agent:
        assert agent.wait("open")["transport"] == "polling"
        agent.wait("upgrade")
        hello = agent.event("hello_ack")["payload"]
        assert hello["type"] == "hello_ack"
        run_a_command(polled, agent, "poller")


def test_polling_alone_works_and_posts_are_answered_ok(polled: HubProcess) -> None:
    secret = polled.add_agent("only-polls")
    with foreign_agent(polled.url, "only-polls", secret, transports=["polling"]) as agent:
        assert agent.wait("open")["transport"] == "polling"
        agent.event("hello_ack")
        run_a_command(polled, agent, "only-polls")
    query = f"EIO=4&transport=polling&{query_of('only-polls', secret)}"
    with urllib.request.urlopen(f"{polled.url}/socket.io/?{query}", timeout=30) as reply:
        sid = reply.read().decode().partition('"sid":"')[2].partition('"')[0]
    url = f"{polled.url}/socket.io/?EIO=4&transport=polling&sid={sid}"
    request = urllib.request.Request(url, b"40/agents,", method="POST")
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.read() == b"ok"


def test_default_options_are_refused_by_a_hub_that_takes_websockets_alone(
    hub: HubProcess,
) -> None:
    secret = hub.add_agent("default")
    with foreign_agent(hub.url, "default", secret) as agent:
        agent.wait("connect_error")


def test_a_websocket_agent_works_with_the_default(hub: HubProcess) -> None:
    secret = hub.add_agent("plain")
    token = hub.token()
    with foreign_agent(hub.url, "plain", secret, **WEBSOCKET) as agent:
        assert agent.wait("open")["transport"] == "websocket"
        agent.event("hello_ack")
        agent.event("ping")
        agent.emit("ping", {"ts": 5})
        assert agent.event("pong")["payload"]["ts"] == 5
        agent.emit("stats", {"data": {"cpu": 12.5, "platform": "linux", "hostname": "box"}})
        hub.until(lambda: shown(hub, token, "plain")["cpu"] == 12.5)
        detail = shown(hub, token, "plain")
        assert detail["presence"] == "online"
        assert detail["link"]["features"] is None
        assert detail["link"]["rtt_ms"] > 0
        run_a_command(hub, agent, "plain")
    hub.until(lambda: shown(hub, token, "plain")["presence"] == "offline")


def test_every_event_of_the_plain_contract_is_taken_and_the_link_stays(hub: HubProcess) -> None:
    secret = hub.add_agent("talker")
    sent: dict[str, Any] = {
        "stats": {"data": {"cpu": 1}},
        "shell_output": {"session": "s", "data": "x"},
        "shell_closed": {"session": "s", "code": 0, "reason": "exit"},
        "admin_result": {"token": "t", "command": "c", "result": RESULT},
        "backup_plan": {
            "planId": "p", "job": {"planId": "p", "sourceDirs": ["/a"], "destRoot": "/b",
            "ignoreGlobs": []}, "totalFiles": 1, "totalBytes": 2, "modifies": [], "files": [],
        },
        "backup_progress": {
            "planId": "p", "file": "f", "op": "copy", "percent": 1.5, "transferredBytes": 1,
            "totalBytes": 2, "filesCompleted": 0,
        },
        "backup_complete": {"planId": "p", "ok": True, "ms": 5, "transferredBytes": 2},
        "backup_error": {"planId": "p", "error": "no_space"},
        "keys_sync_result": {"ok": True, "user": "u", "added": 0, "ms": 1},
        "log_tail_output": {"session": "s", "data": "line", "ts": 1},
        "log_tail_closed": {"session": "s", "reason": "closed", "ts": 1},
        "dir_list_response": {
            "clientId": "c", "requestId": "r", "mode": "local", "path": "/", "entries": [],
        },
        "agent_update_result": {"ok": False, "error": "unsupported", "ts": 1},
        "no_event_of_ours": {"x": 1},
    }  # fmt: skip
    with foreign_agent(hub.url, "talker", secret, **WEBSOCKET) as agent:
        agent.event("hello_ack")
        for event, payload in sent.items():
            agent.emit(event, payload)
        mark = agent.record.mark()
        agent.emit("ping", {"ts": 77})
        assert agent.event("pong", mark)["payload"]["ts"] == 77
    told = [line for line in hub.log().splitlines() if '"a peer did wrong"' in line]
    assert not [line for line in told if '"bad_request"' in line], told


def test_a_machine_that_falls_silent_is_stale(hub: HubProcess) -> None:
    token = hub.token()
    with RawPeer(hub.port, query_of("mute", hub.add_agent("mute"))) as peer:
        peer.join()
        peer.event("hello_ack")
        deadline_s = time.monotonic() + 60
        while shown(hub, token, "mute")["presence"] != "stale":
            assert time.monotonic() < deadline_s
            with contextlib.suppress(TimeoutError):  # Engine.IO's pings are answered
                peer.seen.append(peer.receive(0.2))
        last = next(text for text in reversed(peer.seen) if '"ping"' in text)
        peer.emit("pong", {"ts": json.loads(last[len("42/agents,") :])[1]["ts"]})
        hub.until(lambda: shown(hub, token, "mute")["presence"] == "online")
