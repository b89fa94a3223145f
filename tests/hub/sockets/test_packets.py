"""Packets are read as the protocol has them, or are none; nothing else ever happens."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import ProtocolError
from hub.log import redact
from hub.sockets import packets
from hub.sockets.console import cookie
from hub.sockets.packets import Packet


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0", Packet("0", "/", None, 0, "")),
        ("0/agents,", Packet("0", "/agents", None, 0, "")),
        ("0/agents", Packet("0", "/agents", None, 0, "")),
        ('0/console,{"token":"x"}', Packet("0", "/console", None, 0, '{"token":"x"}')),
        ('2/agents,["ping",{}]', Packet("2", "/agents", None, 0, '["ping",{}]')),
        ('2/agents,17["a"]', Packet("2", "/agents", 17, 0, '["a"]')),
        ('2["a"]', Packet("2", "/", None, 0, '["a"]')),
        ('213["a"]', Packet("2", "/", 13, 0, '["a"]')),
        ('52-/agents,3["a"]', Packet("5", "/agents", 3, 2, '["a"]')),
        ("1/agents,", Packet("1", "/agents", None, 0, "")),
    ],
)
def test_a_packet_is_read(text: str, expected: Packet) -> None:
    assert packets.read(text) == expected


@pytest.mark.parametrize(
    "text", ["", "4", "7/agents,", "x", "21-/agents,[]", "5/agents,[]", "5100-/agents,[]", "é"]
)
def test_what_is_no_packet_is_told_so(text: str) -> None:
    with pytest.raises(ProtocolError):
        packets.read(text)


@given(st.text(max_size=80) | st.from_regex(r"\A[0-6]([0-9]+-)?/agents,[0-9]*.{0,40}\Z"))
def test_reading_never_fails_in_another_way(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        packet = packets.read(text)
        for reader in (packets.event, packets.auth):
            with contextlib.suppress(ProtocolError):
                reader(packet)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    _JSON,
    st.none() | st.integers(0, 10**9),
)
def test_what_a_library_writes_is_read(name: str, payload: Any, ack_id: int | None) -> None:
    number = "" if ack_id is None else str(ack_id)
    packet = packets.read(f"2/agents,{number}{json.dumps([name, payload])}")
    event = packets.event(packet)
    assert (event.name, json.loads(event.payload), packet.ack_id) == (name, payload, ack_id)


def test_what_is_written_is_read_back() -> None:
    text = packets.event_text("/agents", "ping", b'{"ts":1}')
    assert packets.event(packets.read(text)) == packets.Event("ping", b'{"ts":1}')
    assert packets.ack_text("/agents", 5) == "3/agents,5[]"
    assert packets.ack_text("/agents", 5, b'"duplicate"') == '3/agents,5["duplicate"]'
    assert packets.disconnect_text("/agents") == "1/agents,"


def test_a_log_line_proves_nobodys_identity() -> None:
    token = "jlt_" + "a" * 43 + "_0123abcd"
    query = f'"GET /socket.io/?clientId=x&ts=1&sig={"ab" * 32}"'
    line = f"{query} Bearer {token} jackline_session={token}; {token}"
    cut = redact(line)
    assert token not in cut
    assert "ab" * 32 not in cut
    assert "clientId=x" in cut


@pytest.mark.parametrize(
    "header, expected",
    [
        ("jackline_session=abc", "abc"),
        ("a=b; jackline_session=abc; c=d", "abc"),
        ("jackline_session", None),
        ("", None),
        ("\x00;;==;", None),
    ],
)
def test_our_cookie_is_found_or_not(header: str, expected: str | None) -> None:
    assert cookie(header) == expected
