"""Recordings as asciicast v3: what was printed comes back, also from a file that was cut off."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadRequestError
from hub.shell import cast


def recorded(*events: tuple[float, cast.Code, str]) -> bytes:
    writer = cast.Writer()
    lines = [writer.event(*event) for event in events]
    return cast.header(80, 24, 1_800_000_000, "root@here") + b"".join(lines)


def test_a_file_is_what_other_players_read() -> None:
    text = recorded((0.5, "o", "hi\r\n"), (2.0, "r", "100x40"), (2.25, "x", "0"))
    first, *rest = text.splitlines()
    assert json.loads(first) == {
        "version": 3,
        "term": {"cols": 80, "rows": 24, "type": "xterm-256color"},
        "timestamp": 1_800_000_000,
        "title": "root@here",
    }
    assert [json.loads(line) for line in rest] == [
        [0.5, "o", "hi\r\n"], [1.5, "r", "100x40"], [0.25, "x", "0"],
    ]  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 10), st.text(st.characters(exclude_categories=["Cs"])))))
def test_what_is_written_is_read(steps: list[tuple[float, str]]) -> None:
    at_s, events = 0.0, []
    for wait_s, data in steps:
        at_s += wait_s
        events.append((at_s, "o", data))
    _, found = cast.read(recorded(*events).splitlines(keepends=True))  # type: ignore[arg-type]
    listed = list(found)
    assert cast.outputs(listed) == "".join(data for _, data in steps)
    assert sum(event.interval_s for event in listed) == pytest.approx(at_s, abs=1e-5)


def test_times_do_not_drift_over_many_small_steps() -> None:
    writer = cast.Writer()
    lines = [writer.event(number / 3e6, "o", "x") for number in range(30_000)]
    assert sum(json.loads(line)[0] for line in lines) == pytest.approx(0.01, abs=1e-6)


def test_the_last_comment_tells_where_to_go_on() -> None:
    writer = cast.Writer()
    head = cast.header(80, 24, 0, "t")
    whole = head + writer.event(1.5, "o", "abc") + writer.mark(3)
    torn = whole + writer.event(2.0, "o", "def")[:-4]
    mark = cast.last_mark(torn[10:], 10)
    assert mark == cast.Mark(3, 1.5, len(whole))
    assert cast.last_mark(head) is None


def test_comments_and_a_torn_last_line_are_no_events() -> None:
    text = recorded((0, "o", "a")) + b"# offset 1 at 0.000000\n" + b'[0.1, "o", "tor'
    _, events = cast.read(text.splitlines(keepends=True))
    assert cast.outputs(events) == "a"


@pytest.mark.parametrize("text", [b"", b"{}\n", b'{"version": 2, "width": 80}\n', b"\xff\n"])
def test_another_format_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequestError, match="asciicast"):
        cast.read([text])


def test_a_line_that_is_no_event_is_refused() -> None:
    _, events = cast.read([cast.header(80, 24, 0, "t"), b'{"no": "event"}\n'])
    with pytest.raises(BadRequestError, match="no event"):
        list(events)
