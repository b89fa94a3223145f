"""What no route should have to meet is refused before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub import borders
from hub.borders import Borders
from hub.errors import BadRequestError
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import sqlite_copy

NAMES = ["hub.example", "127.0.0.1", "::1"]


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_template, tmp_path)


@pytest.mark.parametrize("host", [
    "evil", "127.0.0.1.evil", "127.0.0.1:x", "evil:8480", "[::1", "hub.example,evil", " ", "é",
    "10.0.0.1", "127.0.0.1@evil", "127.0.0.1/",
])  # fmt: skip
def test_a_name_that_is_not_the_hubs_is_refused(api: HubClient, host: str) -> None:
    refused = api.get("/healthz", headers={"Host": host.encode()})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_host")


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:8480", "[::1]:1", "localhost."])
def test_the_hubs_own_names_are_answered_on_any_port(api: HubClient, host: str) -> None:
    assert api.get("/healthz", headers={"Host": host}).status_code == 200


async def called(headers: list[tuple[bytes, bytes]], bound: str, kind: str = "http") -> list[Any]:
    """Send one request through the border to an application that says 200; what was sent back."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.request" if kind == "http" else "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": headers,
        "extensions": {"websocket.http.response": {}},
    }
    await Borders(app, lambda: NAMES, bound)(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    "headers",
    [[], [(b"host", b"hub.example"), (b"host", b"evil")], [(b"host", b"")]],
    ids=["HTTP/1.0", "two", "empty"],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_no_host_or_two_are_refused_for_sockets_too(
    api: HubClient, headers: list[tuple[bytes, bytes]], kind: str
) -> None:
    sent = api.run(called(headers, "127.0.0.1", kind))
    assert sent[0]["status"] == 400


@pytest.mark.parametrize(
    "bound, host, status",
    [
        ("0.0.0.0", b"192.0.2.1:80", 200),
        ("::", b"[2001:db8::1]", 200),
        ("0.0.0.0", b"rebound.example", 400),
        ("127.0.0.1", b"192.0.2.1", 400),
    ],
)
def test_an_address_is_a_name_where_the_hub_listens_on_every_address(
    api: HubClient, bound: str, host: bytes, status: int
) -> None:
    assert api.run(called([(b"host", host)], bound))[0]["status"] == status


@pytest.mark.parametrize(
    "path", ["/api/v1/users/%00", "/api/v1/users?q=%00", "/api/v1/users?q=%ff"]
)
def test_addresses_that_no_database_stores_are_refused(api: HubClient, path: str) -> None:
    assert api.get(path).json()["code"] == "bad_request"


@pytest.mark.parametrize("body", [
    b"{{{{", b'{"a":1,"a":2}', b"NaN", b'{"a":NaN}', b"1e400", b"[" * 100_000, b'"\\ud800"',
    b'"\xff"', b'{"a":"x\\u0000"}', b"9" * 101, b'{"a":}', b'"\\\\\\u0000"',
])  # fmt: skip
def test_json_that_is_not_strict_is_refused(api: HubClient, body: bytes) -> None:
    refused = api.post(
        "/api/v1/sessions", content=body, headers={"Content-Type": "application/json"}
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_json")


def test_a_text_that_only_looks_like_a_nul_is_not_one() -> None:
    borders.check_json(b'{"a": "\\\\u0000"}')
    with pytest.raises(BadRequestError):
        borders.check_json(b'{"a": "\\u0000"}')


def test_a_form_with_a_nul_is_refused(api: HubClient) -> None:
    refused = api.post("/api/v1/device/code", data={"client_id": "cli", "hostname": "a\0b"})
    assert refused.status_code == 400


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_over_the_limit_is_refused(api: HubClient, is_declared: bool) -> None:
    async def pieces():
        for _ in range(borders.MAX_BYTES // 1000 + 1):
            yield b"x" * 1000

    content = b"x" * (borders.MAX_BYTES + 1) if is_declared else pieces()
    refused = api.post("/api/v1/sessions", content=content)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


def test_answers_of_the_api_are_not_kept_or_guessed_at(api: HubClient) -> None:
    headers = api.get("/api/v1/me").headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
