"""Whatever ended an attempt becomes one sentence, and some of them mean: try polling."""

from __future__ import annotations

import pytest

from agent.errors import LinkError
from agent.failures import failure_of, http_failure, may_poll_instead
from agent.socketio_client import websocket


def test_failure_finds_our_own_error_in_the_chain() -> None:
    ours = LinkError("tls_refused", "the certificate is refused")
    outer = RuntimeError("library")
    outer.__context__ = ValueError("in between")
    outer.__context__.__cause__ = ours
    assert failure_of(outer) is ours


def test_failure_of_a_refused_upgrade_names_the_status() -> None:
    error = websocket.WebSocketBadStatusException(
        "x", 403, "Forbidden", {}, b'{"code":0,"message":"Transport unknown"}'
    )
    found = failure_of(error)
    assert found.reason == "http_status"
    assert str(found) == "the server answered 403: Transport unknown"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError("timed out"), "timeout"),
        (ConnectionResetError(104, "reset"), "closed"),
        (websocket.WebSocketConnectionClosedException("x"), "closed"),
        (KeyError("sid"), "not_engineio"),
    ],
)
def test_failure_of_others(error: Exception, reason: str) -> None:
    assert failure_of(error).reason == reason


@pytest.mark.parametrize(
    ("status", "body", "is_html", "reason", "polls"),
    [
        (200, b"<!DOCTYPE html>", False, "html", True),
        (502, b"x", True, "html", True),
        (400, b"", False, "http_status", True),
        (426, b"", False, "http_status", True),
        (302, b"", False, "redirected", False),
        (401, b"", False, "rejected", False),
        (429, b"", False, "rejected", False),
    ],
)
def test_http_failure(status: int, body: bytes, is_html: bool, reason: str, polls: bool) -> None:
    error = http_failure(status, body, is_html=is_html)
    assert error.reason == reason
    assert may_poll_instead(error) is polls


@pytest.mark.parametrize(
    "reason", ["dns", "tcp", "tls_refused", "proxy_auth", "bad_proxy", "aborted"]
)
def test_polling_does_not_help_against(reason: str) -> None:
    assert not may_poll_instead(LinkError(reason, ""))


def test_server_message_is_bounded_and_printable() -> None:
    body = b'{"message":"' + b"\\u001b[31m" + b"x" * 500 + b'"}'
    said = str(http_failure(400, body))
    assert said.isprintable() and len(said) < 200
