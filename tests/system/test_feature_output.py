"""Contract 1.7: output under credit, resumed, streamed and byte by byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.pair import Pair, connected, joined
from wire.limits import CREDIT_INITIAL_BYTES, REPLAY_BYTES


@pytest.fixture(scope="module")
def shared() -> Iterator[Pair]:
    with connected() as pair:
        yield pair


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """Both sides list everything; the hub's modes are back to normal for each test."""
    shared.hub.set(ack="now", credit="auto", shellAck=True, tally=[])
    return shared


def size_of(pair: Pair, session: str) -> int:
    """How much of a session has come, once everything that may come is here."""
    pair.round_trip()
    events = pair.hub.events("shell_output", session=session)
    return len(joined(events, events[0].payload["offset"]))


def end_of(pair: Pair, session: str) -> int:
    return max(
        one.payload["offset"] + len(one.raw())
        for one in pair.hub.events("shell_output", session=session)
    )


# -- credit -----------------------------------------------------------------------------------


def test_shell_output_stops_at_64_kib_and_goes_on_as_far_as_granted(pair: Pair) -> None:
    """Growth is the hub's: one grant may be larger than the window."""
    pair.hub.set(credit="manual")
    session = pair.shell()
    pair.type(session, "yes\n")
    expected = CREDIT_INITIAL_BYTES
    for grant in (0, 1, 1000, 256 * 1024):
        if grant:
            pair.hub.emit("shell_credit", {"session": session, "bytes": grant})
        expected += grant
        pair.wait_for_bytes("shell_output", expected, session=session)
        assert size_of(pair, session) == expected
    pair.hub.emit("shell_close", {"session": session})
    assert pair.hub.wait_for("shell_closed", session=session).payload["reason"] == "closed"
    (gap,) = pair.hub.events("shell_gap", session=session)  # who closes need not read on
    assert gap.payload["from"] == expected


def test_shell_held_up_by_credit_takes_input_and_others_are_not_held_up(pair: Pair) -> None:
    """Ctrl-C reaches a program whose output nobody takes."""
    pair.hub.set(credit="manual")
    session, other = pair.shell(), pair.shell()
    pair.type(session, "yes\n")
    pair.wait_for_bytes("shell_output", CREDIT_INITIAL_BYTES, session=session)
    pair.type(other, "echo not he''ld\n")
    pair.hub.wait_for_output(other, "not held\r\n")
    pair.type(session, "\x03")
    pair.type(session, "echo sto''pped\n")
    pair.hub.emit("shell_credit", {"session": session, "bytes": 4 << 20})
    pair.hub.wait_for_output(session, "stopped\r\n")
    for name in (session, other):
        pair.hub.emit("shell_close", {"session": name})


def test_shell_that_ends_out_of_credit_is_closed_after_its_last_byte(pair: Pair) -> None:
    pair.hub.set(credit="manual")
    session = pair.shell()
    pair.type(session, "stty -onlcr; seq 100000 120000; exec sh -c 'exit 7'\n")
    pair.wait_for_bytes("shell_output", CREDIT_INITIAL_BYTES, session=session)
    pair.round_trip()
    assert pair.hub.events("shell_closed", session=session) == []
    pair.hub.emit("shell_credit", {"session": session, "bytes": 1 << 20})
    closed = pair.hub.wait_for("shell_closed", session=session).payload
    assert (closed["code"], closed["reason"]) == (7, "exit")
    whole = joined(pair.hub.events("shell_output", session=session))
    assert whole.endswith("".join(f"{n}\n" for n in range(100_000, 120_001)).encode())


# -- resume -----------------------------------------------------------------------------------


def test_shell_output_bears_the_offset_of_its_first_byte(pair: Pair) -> None:
    session = pair.shell()
    pair.type(session, "echo é; seq 20000; exit\n")
    pair.hub.wait_for("shell_closed", session=session)
    at = 0
    for one in pair.hub.events("shell_output", session=session):
        assert one.payload["offset"] == at
        at += len(one.raw())


def test_flood_is_byte_identical_over_a_link_that_is_dropped_in_it(pair: Pair) -> None:
    """What prints less than is kept loses nothing, however often the link goes."""
    session = pair.shell()
    flood = "for n in {100000..160000}; do echo $n; done"
    pair.type(session, f"stty -onlcr; {flood}; read; exec true\n")
    for how in ("abort", "close", "namespace"):
        pair.wait_for_bytes("shell_output", 30_000, session=session)
        connection = pair.reconnected(how)
        (job,) = [each for each in connection.auth["jobs"] if each["id"] == session]
        assert job["kind"] == "shell"
        resumed = end_of(pair, session)
        pair.hub.emit("shell_resume", {"session": session, "offset": resumed})
    pair.type(session, "\n")  # it ends no sooner, however fast it is
    pair.hub.wait_for("shell_closed", session=session)
    assert pair.hub.events("shell_gap", session=session) == []
    whole = joined(pair.hub.events("shell_output", session=session))
    assert whole.endswith("".join(f"{n}\n" for n in range(100_000, 160_001)).encode())


def test_shell_resumed_from_an_old_offset_repeats_the_same_bytes(pair: Pair) -> None:
    """On the same link, while output is under way."""
    pair.hub.set(shellAck=False)
    session = pair.shell()
    pair.type(session, "stty -onlcr; seq 100000 170000; echo e''nd\n")
    pair.wait_for_bytes("shell_output", 300_000, session=session)
    mark = pair.hub.record.mark()
    pair.hub.emit("shell_resume", {"session": session, "offset": 1000})
    again = pair.hub.wait_for("shell_output", lambda p: p["offset"] == 1000, since=mark)
    assert again.payload["session"] == session
    pair.type(session, "exit\n")
    pair.hub.wait_for("shell_closed", session=session)
    whole = joined(pair.hub.events("shell_output", session=session))  # repeated bytes are compared
    assert pair.hub.events("shell_gap", session=session) == []
    assert "".join(f"{n}\n" for n in range(100_000, 170_001)).encode() in whole


def test_shell_resumed_beyond_its_end_goes_on_from_its_end(pair: Pair) -> None:
    session = pair.shell()
    pair.hub.emit("shell_resume", {"session": session, "offset": 10**12})
    pair.type(session, "echo go''es on\n")
    pair.hub.wait_for_output(session, "goes on\r\n")
    joined(pair.hub.events("shell_output", session=session))
    pair.hub.emit("shell_close", {"session": session})


def test_output_beyond_what_is_kept_is_told_as_a_gap(pair: Pair, tmp_path: Path) -> None:
    """Nobody reads while there is no link: the program is not held up, the last MiB is kept."""
    pair.hub.set(credit="manual")
    session, done = pair.shell(), tmp_path / "done"
    pair.type(session, f"stty -onlcr; seq 1000000 1400000; touch {done}; echo e''nd\n")
    pair.wait_for_bytes("shell_output", CREDIT_INITIAL_BYTES, session=session)
    pair.hub.kill()
    pair.agent.until(done.exists)
    mark = pair.hub.record.mark()
    pair.hub.start()
    pair.hub.wait_for_connection(since=mark)
    had = CREDIT_INITIAL_BYTES
    pair.hub.emit("shell_resume", {"session": session, "offset": had})
    pair.type(session, "exit\n")
    pair.hub.wait_for("shell_closed", session=session)
    (gap,) = pair.hub.events("shell_gap", session=session)
    events = pair.hub.events("shell_output", since=mark, session=session)
    kept = joined(events, gap.payload["to"])
    assert gap.payload["from"] == had and gap.payload["to"] > 8 * 400_000 - REPLAY_BYTES
    assert REPLAY_BYTES - 200 < len(kept) < REPLAY_BYTES + 200
    lines = kept.partition(b"end\n")[0].split(b"\n")[1:-1]
    assert lines == [b"%d" % n for n in range(int(lines[0]), 1_400_001)]


def test_what_was_acknowledged_is_not_kept(pair: Pair) -> None:
    session = pair.shell()
    pair.type(session, "stty -onlcr; seq 100000 110000; echo e''nd\n")
    pair.hub.wait_for_output(session, "end\n")
    end = end_of(pair, session)
    pair.hub.emit("shell_ack", {"session": session, "offset": end - 10})
    pair.round_trip()
    mark = pair.hub.record.mark()
    pair.hub.emit("shell_resume", {"session": session, "offset": 0})
    gap = pair.hub.wait_for("shell_gap", session=session, since=mark).payload
    assert gap["from"] == 0 and end - 10 <= gap["to"] <= end_of(pair, session)
    pair.hub.emit("shell_close", {"session": session})


def test_shell_goes_on_where_it_was_acknowledged_when_nobody_asks(pair: Pair) -> None:
    """A hub that does not ask to resume misses nothing; it may get twice what it did not ack."""
    pair.hub.set(shellAck=False)
    session = pair.shell()
    pair.type(session, "echo be''fore\n")
    pair.hub.wait_for_output(session, "before\r\n")
    pair.reconnected()
    pair.type(session, "echo af''ter; exit\n")
    pair.hub.wait_for("shell_closed", session=session)
    whole = joined(pair.hub.events("shell_output", session=session))
    assert whole.count(b"before\r\n") == whole.count(b"after\r\n") == 1


# -- stream -----------------------------------------------------------------------------------


def test_command_is_streamed_whole_and_in_order_on_both_streams(pair: Pair) -> None:
    pair.hub.set(tally=["admin_output"])
    script = "for n in $(seq 10); do seq 1000000 1065535; seq 2000000 2065535 >&2; done"
    job = pair.begin(f"sh -c '{script}'", timeoutSec=100)
    summary = pair.result(job, timeout=100)["result"]["summary"]
    assert summary["stdoutBytes"] == summary["stderrBytes"] == 10 * 8 * 65_536
    # Both streams in one tally would depend on how they mix: only the sum is told of them.
    told = pair.hub.tally()[f"admin_output {job}"]
    assert told["bytes"] == 20 * 8 * 65_536


@pytest.mark.parametrize("redirect", ["", " >&2"])
def test_streamed_bytes_are_the_commands_own(pair: Pair, tmp_path: Path, redirect: str) -> None:
    """Random bytes, so that nothing is text; offsets without a hole."""
    data = os.urandom(2_000_000)
    (tmp_path / "data").write_bytes(data)
    job = pair.begin(f"sh -c 'cat {tmp_path}/data{redirect}'")
    pair.result(job)
    name = "stderr" if redirect else "stdout"
    assert joined(pair.streamed(job, name)) == data
    assert pair.streamed(job, "stdout" if redirect else "stderr") == []


def test_command_is_streamed_while_it_runs(pair: Pair, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.02; done; echo last >&2"
    job = pair.begin(f"sh -c '{script}'")
    pair.wait_for_bytes("admin_output", 6, jobId=job, stream="stdout")
    assert pair.hub.events("admin_result", jobId=job) == []
    go.touch()
    outcome = pair.result(job)["result"]
    assert (outcome["stdout"], outcome["stderr"]) == ("first\n", "last\n")
    assert joined(pair.streamed(job, "stderr")) == b"last\n"
    order = [event.name for event in pair.hub.events(jobId=job)]
    assert order[-1] == "admin_result"


def test_streamed_command_stops_without_credit(pair: Pair) -> None:
    pair.hub.set(credit="manual")
    job = pair.begin("seq 100000 140000")
    pair.wait_for_bytes("admin_output", CREDIT_INITIAL_BYTES, jobId=job)
    pair.hub.emit("admin_credit", {"jobId": job, "bytes": 1000})
    pair.wait_for_bytes("admin_output", CREDIT_INITIAL_BYTES + 1000, jobId=job)
    pair.round_trip()
    assert len(joined(pair.streamed(job, "stdout"))) == CREDIT_INITIAL_BYTES + 1000
    assert pair.hub.events("admin_result", jobId=job) == []
    pair.hub.emit("admin_credit", {"jobId": job, "bytes": 1 << 20})
    assert pair.result(job)["result"]["summary"]["code"] == 0
    expected = "".join(f"{n}\n" for n in range(100_000, 140_001)).encode()
    assert joined(pair.streamed(job, "stdout")) == expected


def test_streamed_command_without_credit_obeys_its_timeout(pair: Pair) -> None:
    pair.hub.set(credit="manual")
    job = pair.begin("yes", timeoutSec=1)
    assert pair.result(job)["result"]["summary"]["code"] == 124
    assert len(joined(pair.streamed(job, "stdout"))) == CREDIT_INITIAL_BYTES


def test_streamed_command_that_uses_its_credit_up_exactly_is_not_held_up(pair: Pair) -> None:
    """Its pipe is at its end, but nobody may read to see so."""
    pair.hub.set(credit="manual")
    job = pair.begin(f"head -c {CREDIT_INITIAL_BYTES} /dev/zero", timeoutSec=60)
    assert pair.result(job)["result"]["summary"]["code"] == 0
    assert len(joined(pair.streamed(job, "stdout"))) == CREDIT_INITIAL_BYTES


def test_command_goes_on_without_a_link_and_is_streamed_on_with_the_next(
    pair: Pair, tmp_path: Path
) -> None:
    """The link holds no command up; the offset tells what of the live output was missed."""
    pair.hub.set(credit="manual")
    done, go = tmp_path / "done", tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.02; done"
    job = pair.begin(f"sh -c 'seq 100000 150000; touch {done}; {wait}; echo last'")
    pair.wait_for_bytes("admin_output", CREDIT_INITIAL_BYTES, jobId=job)
    connection = pair.reconnected()
    assert {"id": job, "kind": "admin", "state": "running"} in connection.auth["jobs"]
    pair.agent.until(done.exists)
    go.touch()
    outcome = pair.result(job)["result"]
    assert outcome["summary"]["stdoutBytes"] == 7 * 50_001 + 5
    assert outcome["stdout"].startswith("100000\n") and outcome["stdout"].endswith("\nlast\n")
    assert pair.streamed(job, "stdout")[-1].raw().endswith(b"last\n")
    assert pair.streamed(job, "stdout")[-1].payload["offset"] > CREDIT_INITIAL_BYTES


def test_stream_without_credit_is_bounded_by_what_the_link_takes() -> None:
    features = ("ack", "stream", "base64")
    with connected(features=features, modes={"tally": ["admin_output"]}) as pair:
        job = pair.begin("seq 1000000 1500000")
        assert pair.result(job)["result"]["summary"]["code"] == 0
        told = pair.hub.tally()[f"admin_output {job}"]
    expected = "".join(f"{n}\n" for n in range(1_000_000, 1_500_001)).encode()
    assert (told["bytes"], told["sha256"]) == (len(expected), hashlib.sha256(expected).hexdigest())


# -- base64 -----------------------------------------------------------------------------------


def test_terminal_bytes_that_are_no_text_come_byte_identical(pair: Pair, tmp_path: Path) -> None:
    data = os.urandom(300_000) + "é".encode() * 1000 + b"\xff" + "€".encode()[:2]
    (tmp_path / "data").write_bytes(data)
    session = pair.shell()
    pair.type(session, f"stty raw -echo; cat {tmp_path}/data; exit\n")
    pair.hub.wait_for("shell_closed", session=session)
    events = pair.hub.events("shell_output", session=session)
    assert data in joined(events)
    assert {one.payload.get("encoding") for one in events} == {None, "base64"}


def test_without_base64_bytes_that_are_no_text_become_replacement_characters() -> None:
    with connected(features=("ack", "credit")) as pair:
        session = pair.shell()
        pair.type(session, "printf 'a\\377b\\303'; printf '\\251c\\n'; exit\n")
        pair.hub.wait_for("shell_closed", session=session)
        assert "a\ufffdbéc" in pair.hub.output(session).decode()
        assert all("encoding" not in one.payload for one in pair.hub.events("shell_output"))
