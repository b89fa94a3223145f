"""What leaves this house: names, marks, and no more bytes than allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wire.errors import WireError
from wire.events import encode, event_bytes
from wire.limits import MAX_EVENT_BYTES, event_limit
from wire.link import HelloAck, Pong
from wire.reasons import BusyDetail, Reason
from wire.shell import ShellClosed, ShellOutput
from wire.tools import ToolProgress


def test_encode_marks_every_payload_with_the_event() -> None:
    assert encode(Pong(ts=5)) == ("pong", b'{"type":"pong","t":"pong","ts":5}')
    assert encode(HelloAck()) == ("hello_ack", b'{"type":"hello_ack","t":"hello_ack"}')


def test_encode_leaves_out_what_is_none_and_keeps_what_is_false_or_empty() -> None:
    _, payload = encode(ShellClosed(session="s", code=0, detail=""))
    assert json.loads(payload).items() >= {"session": "s", "code": 0, "detail": ""}.items()
    assert b"signal" not in payload and b"reason" not in payload


def test_encode_writes_reasons_as_the_contract_spells_them() -> None:
    message = ShellClosed(session="s", reason=Reason.PTY_UNAVAILABLE, detail=BusyDetail.DISK_FULL)
    payload = json.loads(encode(message)[1])
    assert (payload["reason"], payload["detail"]) == ("pty unavailable", "disk_full")


@pytest.mark.parametrize(
    "value", ["\ud800", object(), {("a",): 1}], ids=["surrogate", "object", "key"]
)
def test_encode_refuses_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(WireError) as caught:
        encode(ToolProgress(call_id="c", data=value))
    assert caught.value.reason == "bad_request"


def test_encode_refuses_a_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(WireError):
        encode(ToolProgress(call_id="c", data=value))


def test_encode_measures_after_encoding() -> None:
    fits = ShellOutput(session="s", data="a" * (MAX_EVENT_BYTES - 200))
    name, payload = encode(fits)
    assert event_bytes(name, payload) <= MAX_EVENT_BYTES
    with pytest.raises(WireError) as caught:
        encode(ShellOutput(session="s", data="\x1b" * (MAX_EVENT_BYTES // 6)))
    assert (caught.value.event, caught.value.reason) == ("shell_output", "too_large")


@pytest.mark.parametrize(
    ("max_payload", "limit"),
    [(None, 245_760), (0, 245_760), (1_000_000, 245_760), (100_000, 95_904), (4096, 0), (10, 0)],
)
def test_event_limit_keeps_a_margin_below_the_server_s(max_payload: int | None, limit: int) -> None:
    assert event_limit(max_payload) == limit
