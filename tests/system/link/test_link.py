"""The live link with real servers: ours and a foreign one, by WebSocket and by polling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.hubs import Hub, HubOptions, NodeHub, ScriptedHub
from tests.doubles.link_side import LinkSide
from wire import limits
from wire.connect import JobState
from wire.errors import WireError
from wire.shell import ShellClosed, ShellInput, ShellOutput

BLOCKED = {"websocketStatus": 403}
KINDS = [(ScriptedHub, {}), (NodeHub, {}), (ScriptedHub, BLOCKED), (NodeHub, BLOCKED)]
NAMES = ["ours-websocket", "foreign-websocket", "ours-polling", "foreign-polling"]


@pytest.fixture(params=KINDS, ids=NAMES)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    kind, modes = request.param
    with kind(HubOptions(modes=modes, ping_interval_ms=300)) as started:
        yield started


@pytest.fixture(params=[ScriptedHub, NodeHub], ids=["ours", "foreign"])
def websocket_hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    with request.param(HubOptions(ping_every_ms=0)) as started:
        yield started


def polls(hub: Hub) -> bool:
    return "websocketStatus" in hub.options.modes


def inputs(side: LinkSide) -> list[ShellInput]:
    return list(side.of(ShellInput))


def test_link_comes_up_and_says_who_it_is(hub: Hub, tmp_path: Path) -> None:
    side = LinkSide(hub, tmp_path)
    side.jobs = (JobState(id="s1", kind="shell", state="RUNNING", offset=7),)
    with side:
        up = side.until_up()
        hello = side.until_hello()
        assert up.transport == ("polling" if polls(hub) else "websocket")
        assert up.max_payload == hub.options.max_payload
        connection = hub.wait_for_connection()
        assert connection.auth == {
            "agentVersion": "1.2.3",
            "bootId": "boot-1",
            "features": ["ack", "credit", "resume", "base64", "stream", "workers"],
            "jobs": [{"id": "s1", "kind": "shell", "state": "RUNNING", "offset": 7}],
        }
        assert (hello.features is not None) is hub.speaks_features
        status = side.status()
        assert (status.state, status.reconnects) == ("up", 0)
        assert status.rtt_ms is not None and status.rtt_ms > 0


def test_events_go_both_ways_in_order(hub: Hub, tmp_path: Path) -> None:
    with LinkSide(hub, tmp_path) as side:
        side.until_hello()
        for number in range(300):
            hub.emit("shell_input", {"session": "s", "data": f"é{number}\x00"})
        side.until(lambda: len(inputs(side)) == 300)
        assert [one.data for one in inputs(side)] == [f"é{number}\x00" for number in range(300)]
        for number in range(300):
            message = ShellOutput(session="s", data=f"ü{number};")
            side.call(partial(side.outgoing.data, "s", message, 10))
        text = "".join(f"ü{number};" for number in range(300))
        assert hub.wait_for_output("s", "ü299;").decode() == text
        side.until(lambda: side.drained.get("s") == 3000)


def test_ping_is_answered_with_its_own_ts(hub: Hub, tmp_path: Path) -> None:
    with LinkSide(hub, tmp_path) as side:
        side.until_hello()
        for ts in (5, 1790000000000.5, "then"):
            hub.emit("ping", {"ts": ts})
            assert hub.wait_for("pong", ts=ts).payload == {"type": "pong", "t": "pong", "ts": ts}


def test_ping_is_answered_while_the_core_is_busy(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        release: list[bool] = []
        side.loop.call_threadsafe(lambda: side.until(lambda: release))
        websocket_hub.emit("ping", {"ts": 1})
        websocket_hub.wait_for("pong", ts=1)
        release.append(True)


def test_final_arrives_and_is_forgotten(hub: Hub, tmp_path: Path) -> None:
    with LinkSide(hub, tmp_path) as side:
        side.until_hello()
        stored: list[bool] = []
        message = ShellClosed(session="s", code=0, detail="ours")
        side.call(lambda: side.outbox.final(message, "s", None, lambda: stored.append(True)))
        received = hub.wait_for("shell_closed", session="s")
        assert stored
        assert received.wants_ack is hub.speaks_features
        assert ("id" in received.payload) is hub.speaks_features
        assert ("detail" in received.payload) is hub.speaks_features
        side.until(lambda: side.outbox.status().waiting == 0)


def test_bad_packets_leave_the_link_up(hub: Hub, tmp_path: Path) -> None:
    with LinkSide(hub, tmp_path) as side:
        up = side.until_up()
        side.until_hello()
        bad = [
            '2/agents,["shell_input",{"session":"s"}]',
            '2/agents,["shell_input",7]',
            '2/agents,["shell_input",{"session":"s","data":"\\ud800"}]',
            '2/agents,["unknown",{}]',
            '2/agents,["connect",{}]',
            '2/agents,["disconnect",{}]',
            "2/agents,[5,6]",
            "2/agents,[]",
            "2/agents,{{{",
            "2/agents," + "[" * 100_000,
            '51-/agents,["shell_input",{"session":"s","data":{"_placeholder":true,"num":0}}]',
            "3/agents,",
        ]
        for text in bad:
            hub.raw(text)
        hub.raw("3/agents,999[]")
        hub.emit("shell_input", {"session": "s", "data": "still here"})
        side.until(lambda: inputs(side))
        assert len(side.bad) == len(bad)
        assert side.status().sid == up.sid
        assert all(isinstance(error, WireError) for error in side.bad)


def test_huge_event_is_refused_and_the_link_stays(hub: Hub, tmp_path: Path) -> None:
    with LinkSide(hub, tmp_path) as side:
        up = side.until_up()
        hub.emit("shell_input", {"session": "s", "data": "x" * 10_000_000})
        side.until(lambda: side.bad)
        assert (side.bad[0].reason, side.bad[0].ids.get("session")) == ("too_large", "s")
        hub.emit("ping", {"ts": 1})
        hub.wait_for("pong", ts=1)
        assert side.status().sid == up.sid


def test_large_output_arrives_whole(hub: Hub, tmp_path: Path) -> None:
    hub.set(tally=["shell_output"])
    with LinkSide(hub, tmp_path) as side:
        side.until_hello()
        digest = hashlib.sha256()
        for number in range(150):
            data = f"{number:06d}" * 10_000
            digest.update(data.encode())
            message = ShellOutput(session="s", data=data)
            side.call(partial(side.outgoing.data, "s", message, len(message.data)))
        side.until(lambda: side.drained.get("s") == 150 * 60_000)
        side.until(lambda: hub.tally()["shell_output s"]["bytes"] == 150 * 60_000)
        assert hub.tally()["shell_output s"]["sha256"] == digest.hexdigest()


def test_small_session_is_not_held_up_by_a_flood(websocket_hub: Hub, tmp_path: Path) -> None:
    websocket_hub.set(tally=["shell_output"])
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()

        def flood() -> None:
            for _ in range(400):
                side.outgoing.data("flood", ShellOutput(session="flood", data="y" * 60_000), 60_000)
            side.outgoing.data("quiet", ShellOutput(session="quiet", data="hi"), 2)

        side.call(flood)
        side.until(lambda: side.drained.get("quiet"))
        assert side.drained.get("flood", 0) < 200 * 60_000


@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        ("namespace", {"server_disconnect"}),
        ("close", {"server_closed"}),
        ("abort", {"closed"}),
    ],
)
def test_link_comes_back_after_the_server_ended_it(
    websocket_hub: Hub, tmp_path: Path, how: str, reasons: set[str]
) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        websocket_hub.drop(how)
        assert side.until_down().reason in reasons
        side.until_hello(2)
        assert side.status().reconnects == 1


def test_polling_link_comes_back_after_a_disconnect(hub: Hub, tmp_path: Path) -> None:
    with LinkSide(hub, tmp_path) as side:
        side.until_hello()
        hub.drop("namespace")
        assert side.until_down().reason == "server_disconnect"
        side.until_hello(2)


def test_each_connection_is_signed_anew(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        for number in range(1, 6):
            side.until_hello(number)
            websocket_hub.drop("abort")
        side.until_hello(6)
    stamps = [one.query["ts"] for one in websocket_hub.connections]
    signatures = [one.query["sig"] for one in websocket_hub.connections]
    assert len(set(stamps)) == len(set(signatures)) == 6
    assert stamps == sorted(stamps)


def test_path_is_joined_to_the_servers_own(tmp_path: Path) -> None:
    with NodeHub(HubOptions(path="/api/live")) as hub:
        with LinkSide(hub.url + "/api", tmp_path, engine_path="/live") as side:
            side.until_hello()


@pytest.mark.parametrize("hello", ["early", 200, "now"])
def test_hello_may_come_when_it_likes(websocket_hub: Hub, tmp_path: Path, hello: object) -> None:
    websocket_hub.set(helloAck=hello)
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        kinds = [type(event).__name__ for event in side.events]
        assert kinds.index("LinkUp") < kinds.index("Hello")


@pytest.mark.parametrize(
    "form",
    [{"hello_payload": {}}, {"hello_payload": None}, {"hello_has_payload": False}],
    ids=["empty", "null", "absent"],
)
def test_hello_of_a_foreign_server_comes_in_three_forms(tmp_path: Path, form: Any) -> None:
    with NodeHub(HubOptions(**form)) as hub, LinkSide(hub, tmp_path) as side:
        assert side.until_hello().features is None
        assert side.bad == []


def test_server_without_hello_gets_everything(
    websocket_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NO_HELLO_FLUSH_S", 0.2)
    websocket_hub.set(helloAck="never")
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_up()
        side.call(lambda: side.outbox.final(ShellClosed(session="s"), "s"))
        received = websocket_hub.wait_for("shell_closed", session="s")
        assert set(received.payload) == {"type", "t", "session"}
        side.call(lambda: side.outgoing.control(ShellClosed(session="c", detail="ours")))
        assert "detail" not in websocket_hub.wait_for("shell_closed", session="c").payload


def test_proactive_ping_measures_the_round_trip(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path, heartbeat_s=0.1, pong_timeout_s=1.0) as side:
        side.until_hello()
        ping = websocket_hub.wait_for("ping")
        assert isinstance(ping.payload["ts"], int)
        websocket_hub.wait_for("ping", lambda payload: payload["ts"] != ping.payload["ts"])
        assert side.status().reconnects == 0


def test_deaf_server_is_left_and_found_again(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path, heartbeat_s=0.2, pong_timeout_s=1.0) as side:
        side.until_hello()
        websocket_hub.suspend()
        assert side.until_down().reason == "dead"
        websocket_hub.resume()
        side.until_hello(2)


def test_link_survives_a_killed_server(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        websocket_hub.kill()
        side.until_down()
        side.until(lambda: side.status().last_end and side.status().last_end.reason == "tcp")
        websocket_hub.start()
        side.until_hello(2)


def test_newest_values_are_sent_after_a_reconnect(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        websocket_hub.kill()
        side.until_down()
        for number in range(500):
            message = ShellClosed(session="p", code=number)
            side.call(partial(side.outgoing.latest, "p", message))
        websocket_hub.start()
        assert websocket_hub.wait_for("shell_closed", session="p").payload["code"] == 499
        assert side.outgoing.superseded == 499


def test_stop_sends_what_is_queued_and_says_goodbye(hub: Hub, tmp_path: Path) -> None:
    side = LinkSide(hub, tmp_path).start()
    up = side.until_up()
    side.until_hello()
    side.call(lambda: side.outgoing.control(ShellClosed(session="last")))
    side.stop(flush_s=5.0)
    hub.wait_for("shell_closed", session="last")
    hub.wait_for_disconnect(up.sid)
    assert side.status().state == "stopped"


def test_drop_makes_a_new_connection(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        side.link.drop("a test wants it")
        assert side.until_down().reason == "dropped"
        side.until_hello(2)


def test_server_with_a_small_limit_gets_small_events(tmp_path: Path) -> None:
    for kind in (ScriptedHub, NodeHub):
        (tmp_path / kind.__name__).mkdir()
        with (
            kind(HubOptions(max_payload=20_000)) as hub,
            LinkSide(hub, tmp_path / kind.__name__) as side,
        ):
            side.until_hello()
            assert side.link.event_limit == 20_000 - 4096


def test_events_are_acknowledged_where_the_server_asks(websocket_hub: Hub, tmp_path: Path) -> None:
    with LinkSide(websocket_hub, tmp_path) as side:
        side.until_hello()
        websocket_hub.raw('2/agents,77["shell_close",{"session":"s"}]')
        side.until(lambda: [event for event in side.events if type(event).__name__ == "ShellClose"])
        assert side.status().state == "up"
