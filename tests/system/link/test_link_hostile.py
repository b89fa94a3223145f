"""A server that speaks the protocol and means harm: bounded memory, a live reader, a reason."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.link_side import LinkSide
from tests.doubles.sockets import Listener

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
OPEN = {"sid": "e", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000}


def frame(opcode: int, payload: bytes, *, final: bool = True, length: int | None = None) -> bytes:
    """Write a server's frame; `length` lies about what follows."""
    head = bytes([(0x80 if final else 0) | opcode])
    size = len(payload) if length is None else length
    if size < 126:
        return head + bytes([size]) + payload
    return head + b"\x7f" + struct.pack("!Q", size) + payload


def text(said: str) -> bytes:
    return frame(1, said.encode())


class HostileServer(Listener):
    """Opens engine and namespace, then does what a test wants."""

    def __init__(self, then: Callable[[socket.socket], object], **opening: object) -> None:
        self._then = then
        self._opening = {**OPEN, **opening}
        self.ended = threading.Event()
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - RFC 6455
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        connection.sendall(text("0" + json.dumps(self._opening)))
        connection.sendall(text('40/agents,{"sid":"n"}') + text('42/agents,["hello_ack",{}]'))
        self._then(connection)
        while connection.recv(65536):
            pass
        self.ended.set()


def side_of(server: HostileServer, directory: Path) -> LinkSide:
    return LinkSide(f"http://127.0.0.1:{server.port}", directory, wait_s=30)


@pytest.mark.parametrize(
    "attack",
    [
        lambda connection: connection.sendall(frame(1, b"4", length=2**40)),
        lambda connection: [
            connection.sendall(frame(1 if number == 0 else 0, b"4" * 2**20, final=False))
            for number in range(80)
        ],
    ],
    ids=["one frame", "fragments"],
)
def test_endless_message_ends_the_link(
    tmp_path: Path, attack: Callable[[socket.socket], object]
) -> None:
    with HostileServer(attack) as server, side_of(server, tmp_path) as side:
        assert side.until_down().reason == "protocol"


@pytest.mark.parametrize(
    "said",
    [
        "9",
        "7x",
        "40/agents",
        "40/agents,[[[",
        "40/other,{}",
        "44/agents,{",
        "43/agents,1",
        "4",
        "47/agents,",
        '46-/agents,1["x"]',
        "45999999999999-/agents,[]",
        '42["x",{}]',
        '42/other,["x",{}]',
    ],
)
def test_strange_packet_leaves_the_link_up(tmp_path: Path, said: str) -> None:
    ping = text('42/agents,["shell_close",{"session":"after"}]')
    with HostileServer(lambda connection: connection.sendall(text(said) + ping)) as server:
        with side_of(server, tmp_path) as side:
            side.until_hello()
            side.until(lambda: any("after" in str(event) for event in side.events))
            assert side.status().state == "up"


def test_binary_messages_are_dropped(tmp_path: Path) -> None:
    def attack(connection: socket.socket) -> None:
        event = '451-/agents,["shell_input",{"session":"s","data":{"_placeholder":true,"num":0}}]'
        connection.sendall(text(event) + frame(2, b"bytes") + frame(2, b"more"))
        connection.sendall(text('42/agents,["shell_close",{"session":"after"}]'))

    with HostileServer(attack) as server, side_of(server, tmp_path) as side:
        side.until(lambda: any("after" in str(event) for event in side.events))
        assert [(error.reason, error.ids.get("session")) for error in side.bad] == [
            ("bad_request", "s")
        ]


def test_close_frame_names_its_code(tmp_path: Path) -> None:
    def attack(connection: socket.socket) -> None:
        connection.sendall(frame(8, struct.pack("!H", 1009) + b"too big"))

    with HostileServer(attack) as server, side_of(server, tmp_path) as side:
        error = side.until_down()
        assert (error.reason, "1009 (too big)" in str(error)) == ("server_closed", True)


@pytest.mark.parametrize("told", [-5, 0, "x", True, 1e9, None])
def test_senseless_max_payload_is_ignored(tmp_path: Path, told: object) -> None:
    with HostileServer(lambda _: None, maxPayload=told) as server:
        with side_of(server, tmp_path) as side:
            assert side.until_up().max_payload is None


def test_flood_of_pings_is_answered_and_bounded(tmp_path: Path) -> None:
    answered: list[int] = []

    def attack(connection: socket.socket) -> None:
        def listen() -> None:
            total = 0
            while data := connection.recv(65536):
                total += len(data)
                answered.append(total)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        for number in range(20_000):
            connection.sendall(text(f'42/agents,["ping",{{"ts":{number}}}]'))
        listener.join(60)

    with HostileServer(attack) as server, side_of(server, tmp_path) as side:
        side.until(lambda: answered and answered[-1] > 20_000 * 45)
        assert side.outgoing.answers_waiting() < 2000
        assert side.status().state == "up"
