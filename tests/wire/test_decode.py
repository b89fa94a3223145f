"""`decode` is total: a message or a WireError, whatever comes."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import FUZZ, JSON, ROWS, payloads
from wire.errors import WireError
from wire.events import (
    FINAL_EVENTS,
    TABLE,
    Direction,
    Message,
    ToAgent,
    ToServer,
    decode,
    decode_object,
    encode,
)
from wire.limits import MAX_INBOUND_BYTES
from wire.shell import ShellInput

MIB = MAX_INBOUND_BYTES


def refused(payload: bytes | str, name: str = "shell_input") -> WireError:
    with pytest.raises(WireError) as caught:
        decode(Direction.TO_AGENT, name, payload)
    return caught.value


def test_unions_hold_exactly_the_rows_of_the_table() -> None:
    assert set(get_args(ToAgent)) == set(TABLE[Direction.TO_AGENT].values())
    assert set(get_args(ToServer)) == set(TABLE[Direction.TO_SERVER].values())
    assert set(get_args(Message)) == set(get_args(ToAgent)) | set(get_args(ToServer))


def test_final_events_can_carry_an_id_and_no_other_event_of_ours_does() -> None:
    with_id = {
        name for name, cls in TABLE[Direction.TO_SERVER].items() if "id" in cls.__struct_fields__
    }
    assert with_id == FINAL_EVENTS


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"[" * 100_000, id="deep list"),
        pytest.param(b'{"a":' * 100_000, id="deep object"),
        pytest.param(
            b'{"session":"s","data":"","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            id="deep, closed",
        ),
        pytest.param(b"{{{{", id="braces"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"[5,6]", id="numbers"),
        pytest.param(b'{"a":1}', id="another object"),
        pytest.param(b'{"session":"s","data":"\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"session":"s","data":"\\uDC00x"}', id="lone low surrogate"),
        pytest.param(b'{"session":"s","data":"","x":"\\ud800"}', id="lone surrogate aside"),
        pytest.param('{"session":"s","data":"\ud800"}', id="lone surrogate, raw"),
        pytest.param(b'{"session":"s\\u0000","data":""}', id="NUL in an id"),
        pytest.param(b'{"session":"s","data":"a\x00"}', id="raw NUL"),
        pytest.param(b'{"session":"s","data":"","session":"t"}', id="key twice"),
        pytest.param(b'{"session":"s","data":"","x":{"a":1,"\\u0061":2}}', id="key twice, escaped"),
        pytest.param(b'{"session":"s","data":"","x":NaN}', id="NaN"),
        pytest.param(b'{"session":"s","data":"","x":-Infinity}', id="Infinity"),
        pytest.param(b'{"session":"s","data":"","x":1e400}', id="1e400"),
        pytest.param(b'{"session":"s","data":"","x":' + b"9" * 101 + b"}", id="101 digits"),
        pytest.param(b'{"session":"s","data":"","x":' + b"9" * 9000 + b"}", id="9000 digits"),
        pytest.param(b'{"session":"s","data":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"session":"s","data":"","x":"\xc3"}', id="not UTF-8 aside"),
        pytest.param(b'\xef\xbb\xbf{"session":"s","data":""}', id="BOM"),
        pytest.param(b'{"session":"s","data":""} 1', id="something behind"),
        pytest.param(b"nul", id="half a null"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"\x80\x04K\x01.", id="pickle"),
    ],
)
def test_decode_refuses_what_is_not_strict_json(payload: bytes | str) -> None:
    error = refused(payload)
    assert error.reason == "bad_request"
    assert len(error.detail) < 300


@pytest.mark.parametrize(
    "name", ["", "connect", "disconnect", "message", "shell_output", "x" * 9999, "\ud800"]
)
def test_decode_refuses_an_event_that_is_not_in_the_table(name: str) -> None:
    error = refused(b"{}", name)
    assert error.reason == "unknown_event"


def test_decode_does_not_repeat_the_payload_in_its_detail() -> None:
    with pytest.raises(WireError) as caught:
        decode(
            Direction.TO_SERVER,
            "shell_output",
            json.dumps({"session": "s", "data": "", "encoding": "x" * 100_000}),
        )
    assert len(str(caught.value)) < 300


def test_decode_takes_terminal_input_verbatim() -> None:
    data = "".join(map(chr, range(0x200))) + "\u2028😀"
    payload = json.dumps({"session": "s", "data": data})
    assert decode(Direction.TO_AGENT, "shell_input", payload) == ShellInput(session="s", data=data)


@pytest.mark.parametrize(
    ("head", "tail"),
    [('{"session":"s-1","data":"', '"}'), ('{"data":"', '","session":"s-1"}')],
    ids=["session first", "session last"],
)
@pytest.mark.parametrize("unit", ["a", "é", "\\u001b"])
def test_decode_saves_ids_of_an_event_that_is_too_large(head: str, tail: str, unit: str) -> None:
    text = head + unit * (10 * MIB // len(unit.encode())) + tail
    for payload in (text, text.encode()):
        error = refused(payload)
        assert (error.reason, dict(error.ids)) == ("too_large", {"session": "s-1"})


def test_decode_measures_bytes_not_characters() -> None:
    frame = '{"session":"s","data":"%s"}'
    room = MIB - len(frame % "")
    decode(Direction.TO_AGENT, "shell_input", frame % ("é" * (room // 2)))
    assert refused(frame % ("é" * (room // 2 + 1))).reason == "too_large"
    decode(Direction.TO_AGENT, "shell_input", (frame % ("a" * room)).encode())
    assert refused((frame % ("a" * (room + 1))).encode()).reason == "too_large"


def test_ids_are_not_taken_from_inside_data() -> None:
    data = json.dumps('{"session":"forged","path":"/etc"}' * 40_000)
    error = refused(f'{{"data":{data},"session":"s-1"}}')
    assert (error.reason, dict(error.ids)) == ("too_large", {"session": "s-1"})


def test_ids_are_saved_only_when_sane() -> None:
    ids = {"session": 5, "planId": "x" * 257, "jobId": "", "requestId": "a\x00", "callId": ["c"]}
    error = refused(json.dumps({**ids, "token": "t" * 5000, "user": "\ud800", "clientId": "c"}))
    assert set(error.ids) <= {"clientId"}


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        {1, 2},
        object(),
        {"session": b"s", "data": "x"},
        {(1,): 2},
        float("nan"),
        {"session": "s", "data": "", "x": 10**5000},
    ],
)
def test_decode_object_refuses_what_no_json_parser_gives(value: object) -> None:
    with pytest.raises(WireError):
        decode_object(Direction.TO_AGENT, "shell_input", value)


def test_decode_object_refuses_a_value_that_holds_itself() -> None:
    value: dict[str, Any] = {"session": "s", "data": "x"}
    value["again"] = value
    with pytest.raises(WireError) as caught:
        decode_object(Direction.TO_AGENT, "shell_input", value)
    assert dict(caught.value.ids) == {"session": "s"}


def read_or_refuse(direction: Direction, name: str, payload: bytes | str) -> None:
    try:
        message = decode(direction, name, payload)
    except WireError as error:
        answer = error.reason, json.dumps(dict(error.ids), ensure_ascii=False).encode()
    else:
        assert type(message) is TABLE[direction][name]
        encode(message)
        return
    assert answer[0] == "bad_request"


@FUZZ
@given(row=st.sampled_from(ROWS), value=JSON)
def test_any_json_value_gives_a_message_or_a_wire_error(
    row: tuple[Direction, str], value: Any
) -> None:
    read_or_refuse(*row, json.dumps(value))


@FUZZ
@given(row=st.sampled_from(ROWS), payload=st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_give_a_message_or_a_wire_error(
    row: tuple[Direction, str], payload: bytes | str
) -> None:
    read_or_refuse(*row, payload)


@FUZZ
@given(data=st.data(), row=st.sampled_from(ROWS), wrong=JSON)
def test_one_wrong_field_gives_a_message_or_a_wire_error(
    data: st.DataObject, row: tuple[Direction, str], wrong: Any
) -> None:
    payload = data.draw(payloads(*row))
    if payload:
        payload[data.draw(st.sampled_from(sorted(payload)))] = wrong
    read_or_refuse(*row, json.dumps(payload))


@FUZZ
@given(data=st.data(), row=st.sampled_from(ROWS))
def test_any_message_survives_the_round_trip(
    data: st.DataObject, row: tuple[Direction, str]
) -> None:
    message = decode(*row, json.dumps(data.draw(payloads(*row))))
    name, payload = encode(message)
    assert name == row[1]
    assert decode(*row, payload) == message
