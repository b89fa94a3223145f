"""Socket.IO packets of our namespace: written, read, and refused without a fault."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MalformedError
from agent.packets import Acknowledged, Event, ack_packet, event_packet, read


def test_event_packet_is_what_the_protocol_says() -> None:
    assert event_packet("pong", b'{"ts":1}') == b'42/agents,["pong",{"ts":1}]'
    assert event_packet("admin_result", b"{}", 12) == b'42/agents,12["admin_result",{}]'
    assert ack_packet(7) == b"43/agents,7[]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('2/agents,["ping",{"ts":5}]', Event("ping", b'{"ts":5}')),
        ('2/agents,["hello_ack"]', Event("hello_ack", b"")),
        ('2/agents,["hello_ack",null]', Event("hello_ack", b"null")),
        ('2/agents,["x",1,"more",[2]]', Event("x", b"1")),
        ('2/agents,31["x",{}]', Event("x", b"{}", 31)),
        ('2/agents,["connect",{}]', Event("connect", b"{}")),
        (
            '2/agents,["shell_input",{"data":"é\\u0000"}]',
            Event("shell_input", '{"data":"é\\u0000"}'.encode()),
        ),
        (
            '51-/agents,["shell_input",{"data":{"_placeholder":true,"num":0}}]',
            Event("shell_input", b'{"data":{"_placeholder":true,"num":0}}'),
        ),
        ("3/agents,4[]", Acknowledged(4)),
        ('3/agents,4[{"error":"x"}]', Acknowledged(4, b'{"error":"x"}')),
    ],
)
def test_packet_is_read(text: str, expected: object) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    ['0/agents,{"sid":"x"}', "1/agents,", '4/agents,{"message":"x"}', "0", '2["x"]', "", "9"],
)
def test_packet_of_the_library_is_left_to_it(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2/agents,",
        "2/agents,[]",
        "2/agents,[5,6]",
        '2/agents,{"a":1}',
        "2/agents," + "[" * 100_000,
        '2/agents,["x",' + "[" * 100_000,
        '2/agents,["x",{]',
        '2/agents,["x"] trailing',
        "2/agents," + "1" * 200 + '["x"]',
        "3/agents,[]",
        "3/agents,5{",
        "5-",
        "51-/other,[]",
        "5",
        '61-/agents,3[{"_placeholder":true,"num":0}]',
    ],
)
def test_packet_that_is_none_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        read(text)


@given(
    st.text(max_size=60),
    st.sampled_from(["", "2/agents,", "3/agents,", "51-/agents,", '2/agents,["']),
)
def test_read_is_total(text: str, prefix: str) -> None:
    try:
        read(prefix + text)
    except MalformedError:
        pass


@given(st.sampled_from(["ping", "shell_input"]), st.dictionaries(st.text(), st.text()))
def test_event_written_is_read_again(name: str, payload: dict[str, str]) -> None:
    body = json.dumps(payload).encode(errors="replace")
    packet = event_packet(name, body).decode()
    assert read(packet[1:]) == Event(name, body)
