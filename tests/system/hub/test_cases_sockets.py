"""Hostile sockets at a real hub: fault cases D, and C's slow console."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hub.audit.models import AuditRow
from hub.authorize import Role
from hub.clock import now_ms
from hub.operators import credentials, service
from hub.operators.models import Login, User
from tests.doubles.hub_process import ADMIN, HubProcess, running_hub
from tests.doubles.raw_peer import RawPeer, fresh_address, query_of
from tests.doubles.vitals import memory


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with running_hub() as found:
        yield found
        assert "Traceback" not in found.log(), found.log()


@pytest.fixture(scope="module")
def token(hub: HubProcess) -> str:
    """Of an agent."""
    return hub.add_agent("box")


@pytest.fixture(scope="module")
def admin(hub: HubProcess) -> str:
    return hub.token()


def session_of(hub: HubProcess) -> str:
    """Return the text of a browser's session."""

    def issue(session: Session) -> str:
        user = service.find_user(session, ADMIN)
        assert user is not None
        return credentials.issue(session, user, "session")[1]

    text: str = hub.write(issue)
    return text


def cookie(hub: HubProcess) -> dict[str, str]:
    return {"Cookie": f"{credentials.COOKIE}={session_of(hub)}"}


@contextlib.contextmanager
def linked(hub: HubProcess, token: str) -> Iterator[RawPeer]:
    with RawPeer(hub.port, query_of("box", token)) as peer:
        assert "sid" in peer.join()
        peer.event("hello_ack")
        yield peer


@contextlib.contextmanager
def console(hub: HubProcess, token: str) -> Iterator[RawPeer]:
    with RawPeer(hub.port) as peer:
        reply = peer.join("/console", {"token": token})
        assert "sid" in reply, reply
        peer.event("welcome")
        yield peer


# -- origins --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil",
        "null",
        "http://127.0.0.1.evil",
        "http://127.0.0.1:1",
        "HTTP://127.0.0.1:{port}",
        "https://127.0.0.1:{port}",
    ],
)
def test_a_cookie_from_another_origin_is_refused_before_the_upgrade(
    hub: HubProcess, origin: str
) -> None:
    headers = {**cookie(hub), "Origin": origin.format(port=hub.port)}
    with pytest.raises(InvalidStatus) as refused:
        RawPeer(hub.port, headers=headers)
    assert refused.value.response.status_code == 403


def test_a_cookie_without_an_origin_joins_no_console(hub: HubProcess) -> None:
    with RawPeer(hub.port, headers=cookie(hub)) as peer:
        assert peer.join("/console")["message"] == "unauthorized"


def test_a_cookie_with_our_origin_joins(hub: HubProcess) -> None:
    headers = {**cookie(hub), "Origin": f"http://127.0.0.1:{hub.port}"}
    with RawPeer(hub.port, headers=headers) as peer:
        assert "sid" in peer.join("/console")
        assert peer.event("welcome")["user"] == ADMIN


def test_an_agent_may_send_any_origin(hub: HubProcess, token: str) -> None:
    headers = {"Origin": "https://behind.a.proxy.example"}
    with RawPeer(hub.port, query_of("box", token), headers=headers) as peer:
        assert "sid" in peer.join()


def test_an_agents_credential_opens_no_console(hub: HubProcess, token: str) -> None:
    with RawPeer(hub.port, query_of("box", token)) as peer:
        assert peer.join("/console", {"token": token})["message"] == "unauthorized"


# -- ways in ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "EIO=4&transport=polling",
        "EIO=4&transport=polling&j=0",
        "EIO=3&transport=websocket",
        "transport=websocket",
        "EIO=4&transport=webtransport",
        "EIO=4&transport=polling&transport=websocket",
        "",
    ],
)
def test_no_other_way_in_than_a_websocket(hub: HubProcess, query: str) -> None:
    assert hub.get(f"/socket.io/?{query}")[0] == 400
    assert hub.request("POST", f"/socket.io/?{query}", body="d=4")[0] == 400


def test_sockets_that_join_nothing_are_few_for_each_address_and_closed_soon(
    hub: HubProcess, token: str, soak: bool
) -> None:
    count = 2000 if soak else 200
    before = memory(hub.pid)
    address = fresh_address()

    def knock(_: int) -> RawPeer | int:
        try:
            return RawPeer(hub.port, address=address)
        except InvalidStatus as refused:
            return refused.response.status_code
        except OSError:
            return 0

    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(knock, range(count)))
    opened = [one for one in found if isinstance(one, RawPeer)]
    began_s = time.monotonic()
    assert 429 in found
    assert memory(hub.pid) - before < 50 * 1024 * 1024
    # a good signature gets in beside them
    with RawPeer(hub.port, query_of("box", token), address) as peer:
        assert "sid" in peer.join()
    for one in opened:
        assert one.closed() == ""
        one.close()
    assert time.monotonic() - began_s < 50


# -- packets ---------------------------------------------------------------------------------------

HOSTILE: dict[str, str | bytes] = {
    "deep JSON": '42/agents,["stats",' + "[" * 100_000 + "]" * 100_000 + "]",
    "deep auth": "40/console," + "[" * 100_000,
    "braces": "42/agents,{{{{",
    "no name": "42/agents,[]",
    "numbers": "42/agents,[5,6]",
    "object": '42/agents,{"a":1}',
    "engine type 9": "9",
    "engine letter": "x",
    "empty": "",
    "packet type 8": "48/agents,",
    "open packet": "0{}",
    "refusal packet": "44/agents,{}",
    "lone surrogate": '42/agents,["stats",{"data":{"hostname":"\\ud800"}}]',
    "double key": '42/agents,["stats",{"data":{},"data":{}}]',
    "NaN": '42/agents,["stats",{"data":{"cpu":NaN}}]',
    "huge float": '42/agents,["stats",{"data":{"cpu":1e400}}]',
    "huge integer": '42/agents,["stats",{"data":{"cpu":' + "1" * 101 + "}}]",
    "another namespace": '42/console,["watch",{"topic":"agents"}]',
    "long id": "42/agents," + "1" * 200 + '["stats",{}]',
    "bytes nobody announced": b"\0" * 100,
    "too many attachments": '4599999-/agents,["stats"]',
    "no attachments": '45/agents,["stats"]',
    "text in between": '451-/agents,["stats",{"_placeholder":true,"num":0}]',
}


@pytest.mark.parametrize("packet", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_first_packet_that_is_none_closes_the_link(
    hub: HubProcess, token: str, packet: str | bytes
) -> None:
    with linked(hub, token) as peer:
        peer.send(packet)
        if isinstance(packet, str) and packet.startswith("451-"):
            peer.send('42/agents,["ping",{"ts":1}]')
        with contextlib.suppress(ConnectionClosed):
            for _ in range(20):
                peer.send("x")
        assert peer.closed() == "protocol_error"
        sid = peer.opening["sid"]
    lines = [line for line in hub.log().splitlines() if peer.address in line]
    assert len(lines) == 1, lines  # of several reasons within 10 s the first is told
    assert sid not in hub.log()


def test_what_has_only_the_wrong_shape_is_answered_and_the_link_stays(
    hub: HubProcess, token: str
) -> None:
    with linked(hub, token) as peer:
        peer.emit("stats", {"data": 5}, 1)
        assert peer.acknowledged(1) == [{"error": "bad_request"}]
        peer.emit("no such event", {}, 2)
        assert peer.acknowledged(2) == [{"error": "unknown_event"}]
        peer.emit("stats", {"data": {"hostname": "x" * 1_100_000}}, 3)
        assert peer.acknowledged(3) == [{"error": "too_large"}]
        peer.emit("admin_result", {"command": "", "result": 7, "id": "a"}, 4)
        assert peer.acknowledged(4) == [{"error": "bad_request"}]
        peer.emit("ping", {"ts": 9})
        assert peer.event("pong")["ts"] == 9


def test_a_nul_in_a_string_reaches_no_database(hub: HubProcess, token: str, admin: str) -> None:
    with linked(hub, token) as peer:
        peer.emit("stats", {"data": {"platform": "li\0nux", "hostname": "\0"}})
        found = hub.until(
            lambda: [
                one
                for one in hub.get("/api/v1/agents?q=linux", admin)[1]["items"]
                if one["client_id"] == "box"
            ]
        )
        assert found[0]["platform"] == "linux"


def test_attachments_that_do_not_come_end_the_link_incomplete(hub: HubProcess, token: str) -> None:
    before = memory(hub.pid)
    with linked(hub, token) as peer:
        peer.send('4599-/agents,["stats",{"_placeholder":true,"num":0}]')
        for _ in range(2):
            peer.send(b"x" * 900_000)
        assert peer.closed(60) == "incomplete"
    assert memory(hub.pid) - before < 20 * 1024 * 1024


def test_nobody_may_announce_attachments_before_joining(hub: HubProcess) -> None:
    with RawPeer(hub.port) as peer:
        peer.send('4599-/agents,["stats",{"_placeholder":true,"num":0}]')
        assert peer.closed() == "protocol_error"


# -- consoles --------------------------------------------------------------------------------------


def test_a_console_that_does_not_read_is_dropped_and_others_hear_on(
    hub: HubProcess, token: str, admin: str
) -> None:
    [asset] = [
        one["asset_id"]
        for one in hub.get("/api/v1/agents", admin)[1]["items"]
        if one["client_id"] == "box"
    ]
    watch = f'42/console,1["watch",{{"topic":"agent:{asset}"}}]'
    with console(hub, admin) as slow, console(hub, admin) as good, linked(hub, token) as peer:
        for one in (slow, good):
            one.send(watch)
            one.until(("43/console,1[",))
        sample = {"data": {"disk": [{"mount": f"{n:03}" + "m" * 900} for n in range(60)]}}
        for n in range(300):
            sample["data"]["cpu"] = n  # type: ignore[assignment]
            peer.emit("stats", sample)
            assert good.event("stats")["cpu"] == n
        seen = slow.closed()
        assert seen == "slow_consumer"


@pytest.mark.parametrize("how", ["disabled", "demoted", "login revoked"])
def test_a_console_whose_user_changes_is_dropped(hub: HubProcess, how: str) -> None:
    name = f"user-{how.split()[0]}"
    text = hub.add_user(name, Role.OPERATOR)
    change: Any = {
        "disabled": update(User).where(User.name == name).values(disabled_ms=now_ms()),
        "demoted": update(User).where(User.name == name).values(role=Role.AUDITOR),
        "login revoked": update(Login)
        .where(Login.user_id == select(User.id).where(User.name == name).scalar_subquery())
        .values(revoked_ms=now_ms()),
    }[how]
    with console(hub, text) as client:
        hub.write(lambda session: session.execute(change))
        assert client.event("dropped") == {"reason": "role_changed"}
        assert client.closed() == "role_changed"


def test_a_consoles_events_are_strict_and_go_through_authorize(hub: HubProcess) -> None:
    text = hub.add_user("reader", Role.AUDITOR)
    with console(hub, text) as client:
        for number, payload in enumerate(("{}", '{"topic":5}', '{"topic":""}', '{"topic":null}')):
            client.send(f'42/console,{number}["watch",{payload}]')
            reply = client.until((f"43/console,{number}[",))[0]
            assert reply["error"]["code"] == "bad_request"
        client.send('42/console,9["no such event",{}]')
        assert client.until(("43/console,9[",))[0]["error"]["code"] == "unknown_event"
        client.send('42/console,10["disconnect",{}]')
        assert client.closed() == "protocol_violation"

    def rows(session: Session) -> int:
        found = session.scalars(select(AuditRow).where(AuditRow.outcome == "protocol_violation"))
        return sum(row.actor_name == "reader" for row in found)

    assert hub.read(rows) == 1


def test_packets_of_a_console_are_as_strict(hub: HubProcess, admin: str) -> None:
    for packet in ('42/console,1["watch",{"topic":NaN}]', "42/console,{", "42/agents,[]"):
        with console(hub, admin) as client:
            client.send(packet)
            assert client.closed() == "protocol_error"


def test_no_token_stands_in_the_log(hub: HubProcess, admin: str) -> None:
    with console(hub, admin):
        pass
    assert admin not in hub.log()
    assert json.dumps(admin) not in hub.log()
