"""The address of an attempt: scheme, port, joined path, signed query."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from agent.connect_auth import server_address, signed_url
from agent.errors import LinkError
from wire.signature import check, parse_query


@pytest.mark.parametrize(
    ("url", "path", "origin", "joined"),
    [
        ("https://h", "/socket.io", "https://h:443", "/socket.io/"),
        ("https://h/api", "/socket.io", "https://h:443", "/api/socket.io/"),
        ("https://h/api/", "socket.io/", "https://h:443", "/api/socket.io/"),
        ("http://h:81/a/b?x=1#y", "/live", "http://h:81", "/a/b/live/"),
        ("wss://h", "/socket.io", "https://h:443", "/socket.io/"),
        ("HTTP://H", "/socket.io", "http://h:80", "/socket.io/"),
        ("https://[2001:db8::1]:8443", "/socket.io", "https://[2001:db8::1]:8443", "/socket.io/"),
    ],
)
def test_address_joins_path(url: str, path: str, origin: str, joined: str) -> None:
    address = server_address(url, path)
    assert (address.origin, address.path) == (origin, joined)


@pytest.mark.parametrize("url", ["", "h", "ftp://h", "https://", "https://h:99999", "https://h:x"])
def test_address_refuses_what_is_none(url: str) -> None:
    with pytest.raises(LinkError) as caught:
        server_address(url, "/socket.io")
    assert caught.value.reason == "bad_url"


def test_signed_url_passes_the_servers_check() -> None:
    url = signed_url(
        server_address("https://h/api", "/socket.io"), "web-1", "s3cret", 1_790_000_000_000
    )
    query = parse_query(urlsplit(url).query)
    assert query.client_id == "web-1"
    check(query, "s3cret", 1_790_000_000_000)
    assert "s3cret" not in url
