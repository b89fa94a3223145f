"""Every way in which a server, or what stands before it, says no: reason, wait, and no harm."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SigningClock
from agent.errors import LinkError
from tests.doubles.hubs import Hub, HubOptions, NodeHub, ScriptedHub
from tests.doubles.link_side import LinkSide
from tests.doubles.sockets import Listener
from wire import limits

HTML = {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "<!DOCTYPE html><p>Hello"}


@pytest.fixture(params=[ScriptedHub, NodeHub], ids=["ours", "foreign"])
def make_hub(request: pytest.FixtureRequest) -> Callable[..., Hub]:
    def make(**options: Any) -> Hub:
        hub: Hub = request.param(HubOptions(**options))
        return hub

    return make


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ({"http": HTML}, "html", "web page (200)"),
        ({"http": {"status": 302, "headers": {"Location": "/x"}}}, "redirected", "(302)"),
        ({"http": {"status": 403, "headers": {}, "body": "no"}}, "http_status", "answered 403"),
        ({"http": {"status": 429, "headers": {}, "body": ""}}, "rejected", "answered 429"),
    ],
)
def test_http_answer_is_told_and_survived(
    make_hub: Callable[..., Hub], tmp_path: Path, answer: Any, reason: str, words: str
) -> None:
    with make_hub(modes=answer) as hub, LinkSide(hub, tmp_path) as side:
        assert words in side.until_refused(reason)
        hub.set(http=None)
        side.until_hello()


def test_redirect_is_not_followed(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    with Recorder() as other:
        location = f"http://127.0.0.1:{other.port}/socket.io/"
        moved = {"status": 307, "headers": {"Location": location}}
        with make_hub(modes={"http": moved}) as hub, LinkSide(hub, tmp_path) as side:
            side.until_refused("redirected")
            side.until(lambda: side.log.of("link is down")[3:])
        assert other.seen == b""


@pytest.mark.parametrize("blocked", [None, 403], ids=["websocket", "polling"])
def test_refusal_tells_its_reason_and_its_wait(
    make_hub: Callable[..., Hub], tmp_path: Path, blocked: int | None
) -> None:
    refusal = {"message": "rate_limited", "data": {"retryAfterMs": 700, "serverTs": 1}}
    modes = {"refuse": refusal, "websocketStatus": blocked}
    with make_hub(modes=modes) as hub, LinkSide(hub, tmp_path) as side:
        detail = side.until_refused("rate_limited")
        assert "asks to wait 0.7 s" in detail
        begun = time.monotonic()
        hub.set(refuse=None)
        side.until_hello()
        assert time.monotonic() - begun > 0.3
        assert not side.of(LinkError)


def test_revoked_agent_waits_and_says_so(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    with make_hub(modes={"refuse": {"message": "auth_revoked"}}) as hub:
        with LinkSide(hub, tmp_path) as side:
            side.until_refused("auth_revoked")
            (told,) = side.until(lambda: side.log.of("link is down"))
            assert told["next_in_s"] == limits.REVOKED_WAIT_S
            assert side.log.records[-1][0] == "fatal"
            assert side.status().next_attempt_s is not None


@pytest.mark.parametrize(
    ("refusal", "level"),
    [
        ({"message": "Unauthorized"}, "fatal"),
        ({"message": "busy", "data": {"retryAfterMs": 10}}, "warning"),
    ],
    ids=["foreign", "admission"],
)
def test_refusal_is_for_a_person_unless_it_asks_to_come_later(
    make_hub: Callable[..., Hub], tmp_path: Path, refusal: Any, level: str
) -> None:
    """What a foreign server calls its refusal is its own affair: stderr hears of it."""
    with make_hub(modes={"refuse": refusal}) as hub, LinkSide(hub, tmp_path) as side:
        side.until(lambda: side.log.of("link is down"))
        assert {told for told, sentence, _ in side.log.records if sentence == "link is down"} == {
            level
        }


def test_wrong_token_is_refused_and_told(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    with make_hub() as hub, LinkSide(hub, tmp_path, auth_token="another") as side:
        side.until_refused("auth_failed")
        for _, _, fields in side.log.records:
            assert "another" not in str(fields) and "sig=" not in str(fields)


def test_backoff_climbs_until_hello_and_not_after_a_mere_connection(
    make_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    with make_hub(modes={"helloAck": "never"}) as hub:
        with LinkSide(hub, tmp_path, wait_s=None) as side:
            for number in (1, 2):
                side.until_up(number)
                hub.drop("abort")
            side.until(lambda: len(side.log.of("link is down")) == 2)
            waits = [told["next_in_s"] for told in side.log.of("link is down")]
            assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2
            hub.set(helloAck="now")
            side.until_hello()
            hub.drop("abort")
            side.until(lambda: len(side.log.of("link is down")) == 3)
            assert side.log.of("link is down")[2]["next_in_s"] <= 1


def test_silence_after_connect_is_given_up(
    make_hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECT_REPLY_TIMEOUT_S", 0.3)
    with make_hub(modes={"silent": True}) as hub, LinkSide(hub, tmp_path) as side:
        side.until_refused("no_connect_reply")
        hub.set(silent=False)
        side.until_hello()


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with LinkSide(f"http://127.0.0.1:{port}", tmp_path) as side:
        assert str(port) in side.until_refused("tcp")


def test_unknown_name_is_told(tmp_path: Path) -> None:
    with LinkSide("http://no-such-host.invalid", tmp_path) as side:
        assert "no-such-host.invalid" in side.until_refused("dns")


class Recorder(Listener):
    """Says nothing, or something, and remembers what it was told."""

    def __init__(self, answer: bytes = b"", pause_s: float = 0.0, ends: bool = False) -> None:
        self.seen = b""
        self._answer = answer
        self._pause_s = pause_s
        self._ends = ends
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            self.seen += data
            if self._ends:
                return
            for byte in self._answer:
                connection.sendall(bytes([byte]))
                time.sleep(self._pause_s)


def test_mute_server_is_given_up_in_time(tmp_path: Path) -> None:
    with Recorder() as server:
        url = f"http://127.0.0.1:{server.port}"
        with LinkSide(url, tmp_path, connect_timeout_s=0.4) as side:
            side.until_refused("timeout")


def test_server_that_answers_byte_by_byte_is_given_up_in_time(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 101 " + b"x" * 10_000
    with Recorder(answer, pause_s=0.05) as server:
        begun = time.monotonic()
        url = f"http://127.0.0.1:{server.port}"
        with LinkSide(url, tmp_path, connect_timeout_s=0.4) as side:
            side.until(lambda: side.status().last_end)
            assert time.monotonic() - begun < 5


def test_server_that_hangs_up_is_told(tmp_path: Path) -> None:
    with Recorder(ends=True) as server:
        with LinkSide(f"http://127.0.0.1:{server.port}", tmp_path) as side:
            side.until_refused("closed")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0\xff\xfe\xfd",
        b"\x00" * 100,
    ],
    ids=["ssh", "text", "json", "short", "invalid", "nul"],
)
def test_server_that_speaks_something_else_is_told(tmp_path: Path, answer: bytes) -> None:
    with Recorder(answer) as server:
        url = f"http://127.0.0.1:{server.port}"
        with LinkSide(url, tmp_path, connect_timeout_s=0.6) as side:
            end = side.until(lambda: side.status().last_end)
            assert end.reason in ("not_engineio", "timeout", "closed", "http_status")


def test_clock_unset_is_a_state_of_its_own(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    clock = SigningClock(wall=lambda: 86_400_000)
    with make_hub() as hub, LinkSide(hub, tmp_path, clock=clock) as side:
        side.until(lambda: side.status().state == "clock_unset")
        (told,) = side.log.of("link is down")
        assert told["next_in_s"] == 30


def test_server_time_is_not_believed_without_tls(
    make_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    wrong = SigningClock(wall=lambda: time.time_ns() // 1_000_000 - 360_000)
    with make_hub() as hub, LinkSide(hub, tmp_path, clock=wrong) as side:
        side.until_refused("auth_expired")
        side.until(lambda: side.log.of("link is down")[2:])
        assert side.status().clock_offset_ms == 0


def test_nothing_is_left_behind_by_many_attempts(
    make_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    import gc
    import os
    import threading

    from agent.socketio_client import connected_clients

    with make_hub(modes={"refuse": {"message": "no"}}) as hub:
        with LinkSide(hub, tmp_path, wait_s=0.001) as side:
            side.until(lambda: len(side.log.of("link is down")) >= 5)
            gc.collect()
            before = len(os.listdir("/proc/self/fd")), threading.active_count()
            side.until(lambda: len(side.log.of("link is down")) >= 60)
            gc.collect()
            after = len(os.listdir("/proc/self/fd")), threading.active_count()
            assert after[0] <= before[0] + 4 and after[1] <= before[1] + 3
            assert len(connected_clients) <= 1
