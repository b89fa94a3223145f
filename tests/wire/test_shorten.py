"""Every family's way to fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.wire.strategies import FUZZ, ROWS, messages
from wire.admin import OMITTED, AdminResult, Outcome, Summary
from wire.backup import BackupPlanned
from wire.errors import WireError
from wire.events import TABLE, Direction, Message, encode, event_bytes
from wire.files import DirEntry, DirListResponse, LogTailOutput
from wire.keys import KeysSyncResult
from wire.limits import FOREIGN_AGENT_EVENT_BYTES, MAX_EVENT_BYTES
from wire.shell import ShellInput, ShellOutput
from wire.shorten import encode_within, shorten
from wire.telemetry import Disk, Sample, Stats
from wire.tools import ToolResult

LIMIT = FOREIGN_AGENT_EVENT_BYTES


def result(stdout: str, stderr: str = "", **summary: Any) -> AdminResult:
    return AdminResult(
        command="c",
        result=Outcome(
            stdout=stdout, stderr=stderr, summary=Summary(code=0, duration_ms=1, **summary)
        ),
    )


def sent(message: Message, limit: int = LIMIT) -> dict[str, Any]:
    name, payload = encode_within(message, limit)
    assert event_bytes(name, payload) <= limit
    built: dict[str, Any] = json.loads(payload)
    return built


def test_shorten_leaves_alone_what_fits() -> None:
    message = result("out", "err")
    assert shorten(message, LIMIT) is message


@pytest.mark.parametrize("unit", ["a", "é", "\x1b", '"', "\\", "😀", "line\n"])
def test_command_output_keeps_head_and_tail_and_fills_the_event(unit: str) -> None:
    text = "HEAD" + unit * (1_000_000 // len(unit)) + "TAIL"
    payload = sent(result(text), MAX_EVENT_BYTES)
    stdout, summary = payload["result"]["stdout"], payload["result"]["summary"]
    assert stdout.startswith("HEAD" + unit) and stdout.endswith(unit + "TAIL")
    assert stdout.count(OMITTED) == 1
    assert summary["truncated"] is True
    assert (summary["stdoutBytes"], summary["stderrBytes"]) == (len(text.encode()), 0)
    _, encoded = encode_within(result(text), MAX_EVENT_BYTES)
    assert len(encoded) > MAX_EVENT_BYTES - 200


def test_command_output_keeps_the_counts_that_the_worker_gave() -> None:
    summary = sent(result("a" * 99_999, stdout_bytes=5_000_000_000, stderr_bytes=7))["result"][
        "summary"
    ]
    assert (summary["stdoutBytes"], summary["stderrBytes"]) == (5_000_000_000, 7)


def test_a_small_stream_stays_whole_while_the_other_is_cut() -> None:
    small = "why\n" * 100
    cut = sent(result("a" * 100_000, small))["result"]
    assert cut["stderr"] == small and OMITTED in cut["stdout"]
    cut = sent(result(small, "a" * 100_000))["result"]
    assert cut["stdout"] == small and OMITTED in cut["stderr"]
    both = sent(result("a" * 100_000, "b" * 100_000))["result"]
    assert abs(len(both["stdout"]) - len(both["stderr"])) < 4


def test_output_that_was_cut_before_has_one_mark_at_its_cut() -> None:
    text = "a" * 50_000 + OMITTED + "\x1b" * 50_000
    stdout = sent(result(text))["result"]["stdout"]
    before, _, after = stdout.partition(OMITTED)
    assert set(before) == {"a"} and set(after) == {"\x1b"}


@pytest.mark.parametrize("limit", [LIMIT, 8_192])
def test_the_echo_of_a_command_leaves_room_for_what_is_said_of_it(limit: int) -> None:
    message = result("x" * 500_000, "the command is too long")
    told = sent(structs.replace(message, command="echo " + "y" * 1_000_000), limit)
    assert told["command"].startswith("echo yyy") and len(told["command"]) <= limit // 4
    assert told["result"]["stderr"] == "the command is too long"
    assert len(told["result"]["stdout"]) > limit // 2


def test_lists_lose_entries_and_say_so() -> None:
    entries = tuple(DirEntry(name=f"n{i}" * 10, type="file", size=i) for i in range(5000))
    message = DirListResponse(
        client_id="c", request_id="r", mode="local", path="/", entries=entries
    )
    payload = sent(message)
    assert payload["truncated"] is True
    assert 100 < len(payload["entries"]) < 5000
    assert payload["entries"][0]["name"] == entries[0].name
    _, encoded = encode_within(message, LIMIT)
    assert len(encoded) > LIMIT - 300


def test_samples_and_stats_lose_entries() -> None:
    plan = BackupPlanned(
        plan_id="p",
        total_files=1,
        total_bytes=1,
        files=("f" * 9000,) * 25,
        modifies=("m" * 900,) * 25,
    )
    payload = sent(plan)
    assert payload["truncated"] is True and payload["modifies"]
    disks = tuple(Disk(mount="/" + "m" * 100) for _ in range(5000))
    data = sent(Stats(data=Sample(cpu=1, disk=disks)))["data"]
    assert data["truncated"] is True and 0 < len(data["disk"]) < 5000 and data["cpu"] == 1


def test_sentences_lose_their_end_and_a_log_its_beginning() -> None:
    payload = sent(KeysSyncResult(ok=False, user="u" * 90_000, added=0, ms=1, error="e" * 90_000))
    assert payload["user"].endswith("…")
    tail = sent(LogTailOutput(session="s", data="old\n" + "x" * 90_000 + "\nnew\n", ts=1))["data"]
    assert tail.startswith("…") and tail.endswith("\nnew\n")


def test_a_tool_s_result_goes_as_a_whole() -> None:
    payload = sent(ToolResult(call_id="c", ok=True, duration_ms=1, result={"a": "b" * 90_000}))
    assert payload["truncated"] is True and "result" not in payload


@pytest.mark.parametrize(
    "message",
    [ShellOutput(session="s", data="a" * 99_999), ShellInput(session="s", data="a" * 99_999)],
    ids=["output", "input"],
)
def test_terminal_data_is_never_cut(message: Message) -> None:
    with pytest.raises(WireError) as caught:
        encode_within(message, LIMIT)
    assert caught.value.reason == "too_large"


def test_a_message_that_cannot_fit_is_a_wire_error() -> None:
    with pytest.raises(WireError) as caught:
        encode_within(result("a" * 1000), 150)
    assert caught.value.reason == "too_large"


def encoded_or_reason(message: Message, limit: int) -> tuple[str, bytes] | str:
    try:
        return encode_within(message, limit)
    except WireError as error:
        return error.reason


@FUZZ
@given(data=st.data(), row=st.sampled_from(ROWS), limit=st.integers(0, 700))
def test_any_message_that_encodes_is_under_its_size(
    data: st.DataObject, row: tuple[Direction, str], limit: int
) -> None:
    message = data.draw(messages(*row))
    encoded = encoded_or_reason(message, limit)
    if isinstance(encoded, str):
        assert encoded == "too_large"
        return
    name, payload = encoded
    assert event_bytes(name, payload) <= limit
    assert type(message) is TABLE[row[0]][name]
    if event_bytes(*encode(message)) <= limit:
        assert (name, payload) == encode(message)


@pytest.mark.parametrize("size", [1, 50_000, 500_000])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_is_no_unicode_is_a_wire_error(stream: str, size: int) -> None:
    streams = {"stdout": "", "stderr": "", stream: "\ud800" * size}
    with pytest.raises(WireError) as caught:
        encode_within(result(**streams))
    assert caught.value.reason == "bad_request"


@FUZZ
@given(
    out=st.text(st.sampled_from("aé\x1b\\\n😀"), max_size=300),
    err=st.text(st.sampled_from("aé\x1b\\\n😀"), max_size=300),
    limit=st.integers(320, 2000),
)
def test_any_output_fits_any_event(out: str, err: str, limit: int) -> None:
    payload = sent(result(out, err), limit)
    cut = payload["result"]["summary"].get("truncated", False)
    assert cut == ((payload["result"]["stdout"], payload["result"]["stderr"]) != (out, err))
