"""The golden frames: what is on the wire, byte for byte of meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wire.errors import WireError
from wire.events import TABLE, Direction, decode, decode_object, encode

FRAMES = Path(__file__).parent / "frames"
FILES = {
    (Direction(path.parent.name), path.stem): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FRAMES.glob("*/*.json"))
}


def examples(part: str) -> list[Any]:
    return [
        pytest.param(direction, name, frame, id=f"{direction.value}-{name}-{frame['note']}")
        for (direction, name), document in FILES.items()
        for frame in document[part]
    ]


def test_every_row_of_the_table_has_valid_and_malformed_frames() -> None:
    rows = {(direction, name) for direction in Direction for name in TABLE[direction]}
    assert set(FILES) == rows
    for (direction, name), document in FILES.items():
        assert (document["direction"], document["event"]) == (direction.value, name)
        assert document["valid"]


@pytest.mark.parametrize(("direction", "name", "frame"), examples("valid"))
def test_frame_is_read_and_written_again(
    direction: Direction, name: str, frame: dict[str, Any]
) -> None:
    payload = frame["payload"]
    message = decode(direction, name, json.dumps(payload))
    assert decode(direction, name, json.dumps(payload, ensure_ascii=False).encode()) == message
    assert decode_object(direction, name, payload) == message
    sent_name, sent = encode(message)
    expected = frame.get("sends", payload)
    assert (sent_name, json.loads(sent)) == (name, {"type": name, "t": name, **expected})
    assert decode(direction, name, sent) == message


@pytest.mark.parametrize(("direction", "name", "frame"), examples("malformed"))
def test_malformed_frame_is_refused_with_its_ids(
    direction: Direction, name: str, frame: dict[str, Any]
) -> None:
    payload = frame["payload"]
    for read, given in ((decode, json.dumps(payload)), (decode_object, payload)):
        with pytest.raises(WireError) as caught:
            read(direction, name, given)
        assert caught.value.reason == "bad_request"
        assert caught.value.event == name
        assert dict(caught.value.ids) == frame["ids"]


def test_payload_may_be_absent_where_nothing_is_required() -> None:
    for name in ("hello_ack", "check_updates", "agent_update", "poll_now", "ping"):
        for empty in ("", b"", "null", b"null", "{}", b"{}"):
            decode(Direction.TO_AGENT, name, empty)
