"""One live session: every byte once to every console, credit by the writer alone."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hub.errors import AgentOfflineError, ConflictError
from hub.shell.live import Facts, Live
from tests.doubles.screens import Clock, Peer, Screen
from wire.limits import CREDIT_INITIAL_BYTES
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellCredit,
    ShellGap,
    ShellInput,
    ShellOutput,
    ShellResize,
    ShellResume,
)

FACTS = Facts("s1", "t1", "asset", "user", "ann", 0)


class Tape:
    """In the place of a `Recording`: a disk that is as fast as the test wants."""

    def __init__(self, end: int = 0, scrollback: bytes = b"") -> None:
        self.on_flushed: Any = None
        self.end = end
        self.scrollback = scrollback
        self.flushed_to: int | None = end
        self.backlog = 0
        self.sizes: list[tuple[int, int]] = []
        self.text = b""

    def output(self, offset: int, data: bytes) -> None:
        fresh = data[max(0, self.end - offset) :]
        self.text += fresh
        self.end = max(self.end, offset) + len(fresh)

    def lost(self, offset: int) -> None:
        self.end = max(self.end, offset)

    def resize(self, cols: int, rows: int) -> None:
        self.sizes.append((cols, rows))

    def flush(self) -> None:
        if self.flushed_to is not None:
            self.flushed_to = self.end


def live(tape: Tape | None = None, link: Peer | None = None, **options: Any) -> Live:
    recording: Any = tape or Tape()
    return Live(
        FACTS,
        80,
        24,
        recording,
        lambda to, message: to.sent.append(message),
        Clock(),
        link,
        **options,
    )


def out(offset: int | None, data: str | bytes) -> ShellOutput:
    if isinstance(data, bytes):
        text = base64.b64encode(data).decode()
        return ShellOutput(session="s1", data=text, offset=offset, encoding="base64")
    return ShellOutput(session="s1", data=data, offset=offset)


# -- writer and observers ----


def test_output_reaches_writer_and_observers_alike() -> None:
    link, writer, observer = Peer(), Screen(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    session.observe(observer, None)
    session.on_output(link, out(0, "hé"))
    session.on_output(link, out(3, b"\xff\x00"))
    assert bytes(writer.data) == bytes(observer.data) == "hé".encode() + b"\xff\x00"


def test_only_the_writer_types_and_resizes() -> None:
    link, writer, observer = Peer(), Screen(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    session.observe(observer, None)
    session.input(writer, "ls\n")
    session.resize(writer, 100, 40)
    assert [message.data for message in link.of(ShellInput)] == ["ls\n"]
    assert observer.of("shell_resized") == [{"session": "s1", "cols": 100, "rows": 40}]
    for attempt in (lambda: session.input(observer, "x"), lambda: session.resize(observer, 9, 9)):
        with pytest.raises(ConflictError) as refused:
            attempt()
        assert refused.value.code == "not_attached"
    assert len(link.of(ShellInput)) == len(link.of(ShellResize)) == 1


def test_a_second_writer_takes_over_and_the_first_is_told() -> None:
    link, first, second = Peer(), Screen(), Screen()
    session = live(link=link)
    session.attach(first, None)
    session.on_output(link, out(0, "before"))
    session.attach(second, None)
    session.on_output(link, out(6, " after"))
    assert first.of("shell_detached") == [{"session": "s1", "reason": "taken_over"}]
    assert bytes(first.data) == b"before"
    assert bytes(second.data) == b"before after"


def test_a_console_that_comes_back_is_shown_what_it_missed_and_no_byte_twice() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.attach(screen, None)
    session.on_output(link, out(0, "abc"))
    session.detach(screen)
    session.on_output(link, out(3, "def"))
    assert session.attach(screen, screen.end) == 3
    session.on_output(link, out(6, "ghi"))
    assert bytes(screen.data) == b"abcdefghi"


def test_a_console_that_was_away_too_long_is_told_of_the_gap() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.attach(screen, None)
    session.on_output(link, out(0, "abc"))
    session.detach(screen)
    for number in range(100):
        session.on_output(link, out(3 + number * 8192, "y" * 8192))
    session.attach(screen, 3)
    assert screen.gaps == [(3, session.replay.kept_from)]
    assert screen.end == session.replay.end


def test_an_offset_beyond_the_end_is_the_end() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.on_output(link, out(0, "abc"))
    assert session.attach(screen, 10**9) == 3


def test_a_paste_of_a_megabyte_is_cut_and_stays_in_order() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.attach(screen, None)
    text = "".join(f"{number:07}\n" for number in range(1 << 17))
    session.input(screen, text)
    parts = [message.data for message in link.of(ShellInput)]
    assert "".join(parts) == text
    assert max(map(len, parts)) < 240_000


# -- credit and acknowledgements ----


def flood(session: Live, link: Peer, start: int, size: int) -> None:
    for offset in range(start, start + size, 4096):
        session.on_output(link, out(offset, "y" * 4096))


def test_the_writers_word_grants_credit_and_an_observers_does_not() -> None:
    link, writer, observer = Peer(), Screen(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    session.observe(observer, None)
    flood(session, link, 0, CREDIT_INITIAL_BYTES)
    session.consumed(observer, CREDIT_INITIAL_BYTES)
    assert link.of(ShellCredit) == []
    session.consumed(writer, CREDIT_INITIAL_BYTES)
    assert sum(message.bytes for message in link.of(ShellCredit)) >= CREDIT_INITIAL_BYTES


def test_an_observer_that_takes_nothing_holds_nobody_up() -> None:
    link, writer, observer = Peer(), Screen(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    session.observe(observer, None)
    for start in range(0, 1 << 20, CREDIT_INITIAL_BYTES):
        flood(session, link, start, CREDIT_INITIAL_BYTES)
        session.consumed(writer, start + CREDIT_INITIAL_BYTES)
        assert session.credit.granted_to > start + CREDIT_INITIAL_BYTES


def test_without_a_writer_the_session_goes_on() -> None:
    link = Peer()
    session = live(link=link)
    flood(session, link, 0, CREDIT_INITIAL_BYTES)
    assert session.credit.granted_to > CREDIT_INITIAL_BYTES


def test_a_writer_that_leaves_frees_the_flow() -> None:
    link, writer = Peer(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    flood(session, link, 0, CREDIT_INITIAL_BYTES)
    session.detach(writer)
    assert session.credit.granted_to > CREDIT_INITIAL_BYTES


def test_a_word_of_more_than_was_sent_grants_no_more_than_was_sent() -> None:
    link, writer = Peer(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    session.on_output(link, out(0, "y" * 1000))
    session.consumed(writer, 10**12)
    assert session.credit.granted_to <= 1000 + 256 * 1024


def test_a_disk_that_is_slow_holds_the_agent_back_until_it_has_caught_up() -> None:
    link, tape = Peer(), Tape()
    session = live(tape, link)
    tape.backlog = 2 << 20
    flood(session, link, 0, CREDIT_INITIAL_BYTES)
    assert link.of(ShellCredit) == []
    tape.backlog = 0
    tape.on_flushed()
    assert link.of(ShellCredit) != []


def test_only_what_is_shown_and_on_the_disk_is_acknowledged() -> None:
    link, writer, tape = Peer(), Screen(), Tape()
    session = live(tape, link)
    session.attach(writer, None)
    session.on_output(link, out(0, "x" * 100))
    session.consumed(writer, 60)
    assert link.of(ShellAck) == []
    session.tick()
    assert link.of(ShellAck) == [ShellAck(session="s1", offset=60)]
    session.consumed(writer, 100)
    session.tick()
    assert link.of(ShellAck)[-1].offset == 100


def test_a_recording_that_has_ended_holds_no_acknowledgement_back() -> None:
    link, tape = Peer(), Tape()
    session = live(tape, link)
    tape.flushed_to = None
    session.on_output(link, out(0, "x" * 50_000))
    assert link.of(ShellAck) == [ShellAck(session="s1", offset=50_000)]


# -- links ----


def test_a_new_link_resumes_where_the_hub_stands_and_repeats_are_left_out() -> None:
    old, new, screen = Peer(), Peer(), Screen()
    session = live(link=old)
    session.attach(screen, None)
    session.on_output(old, out(0, "abcdef"))
    session.on_unlink(old)
    session.on_link(new)
    assert new.of(ShellResume) == [ShellResume(session="s1", offset=6)]
    session.on_output(new, out(3, "defghi"))
    assert bytes(screen.data) == b"abcdefghi"
    assert [payload["up"] for payload in screen.of("shell_link")] == [False, True]


def test_what_comes_by_a_link_that_was_replaced_is_dropped() -> None:
    old, new, screen = Peer(), Peer(), Screen()
    session = live(link=old)
    session.attach(screen, None)
    session.on_link(new)
    session.on_output(old, out(0, "late"))
    session.on_unlink(old)
    assert session.link is new
    assert screen.data == b""


def test_no_key_is_kept_for_an_agent_that_is_away() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.attach(screen, None)
    session.on_unlink(link)
    with pytest.raises(AgentOfflineError):
        session.input(screen, "rm -rf x\n")
    session.on_link(link)
    assert link.of(ShellInput) == []


def test_a_gap_of_the_agents_is_told_and_costs_no_credit() -> None:
    link, screen, tape = Peer(), Screen(), Tape()
    session = live(tape, link)
    session.attach(screen, None)
    session.on_output(link, out(0, "abc"))
    session.on_gap(link, ShellGap(session="s1", start=3, end=5_000_003))
    session.on_output(link, out(5_000_003, "def"))
    assert screen.gaps == [(3, 5_000_003)]
    assert bytes(screen.data) == b"def"
    assert session.credit.granted_to == 5_000_000 + CREDIT_INITIAL_BYTES


# -- after a restart of the hub ----


def rebuilt(scrollback: bytes = b"old and ") -> tuple[Live, Tape]:
    tape = Tape(end=len(scrollback), scrollback=scrollback)
    return live(tape, is_rebuilt=True), tape


def test_after_a_restart_a_console_goes_on_by_the_byte_and_the_recording_too() -> None:
    session, tape = rebuilt()
    screen, link = Screen(), Peer()
    screen.start, screen.data = 0, bytearray(b"old an")
    session.attach(screen, 6)
    session.on_link(link)
    assert link.of(ShellResume) == [ShellResume(session="s1", offset=0)]
    session.on_gap(link, ShellGap(session="s1", start=0, end=4))
    session.on_output(link, out(4, "and new"))
    assert bytes(screen.data) == b"old and new"
    assert screen.gaps == []
    assert tape.text == b"new"


def test_after_a_restart_a_new_console_is_shown_the_recordings_end_even_without_the_agent() -> None:
    session, _ = rebuilt()
    screen, link = Screen(), Peer()
    session.attach(screen, None)
    assert bytes(screen.data) == b"old and "
    session.on_link(link)
    session.on_gap(link, ShellGap(session="s1", start=0, end=4))
    session.on_output(link, out(4, "and new"))
    assert bytes(screen.data) == b"old and new"


def test_after_a_restart_a_later_console_has_scrollback_from_before_it() -> None:
    session, _ = rebuilt()
    screen, link = Screen(), Peer()
    session.on_link(link)
    session.on_gap(link, ShellGap(session="s1", start=0, end=4))
    session.on_output(link, out(4, "and new"))
    session.attach(screen, None)
    assert bytes(screen.data) == b"old and new"


def test_after_a_restart_what_the_agent_no_longer_has_is_a_gap() -> None:
    session, tape = rebuilt()
    screen, link = Screen(), Peer()
    session.attach(screen, None)
    session.on_link(link)
    session.on_gap(link, ShellGap(session="s1", start=0, end=100))
    session.on_output(link, out(100, "new"))
    assert screen.gaps == [(8, 100)]
    assert bytes(screen.data) == b"new"
    assert tape.end == 103


def test_a_close_that_the_agent_never_heard_is_said_again() -> None:
    session = live(is_rebuilt=True, wanted="operator_lost")
    link = Peer()
    session.on_link(link)
    assert link.of(ShellClose) == [ShellClose(session="s1")]


# -- foreign agents ----


def test_a_foreign_agent_is_sent_no_credit_no_acknowledgement_and_no_resume() -> None:
    link, screen = Peer(features=None), Screen()
    session = live(link=link)
    session.attach(screen, None)
    for _ in range(40):
        session.on_output(link, out(None, "y" * 4096))
    session.consumed(screen, 160_000)
    session.tick()
    session.on_unlink(link)
    session.on_link(link)
    session.on_output(link, out(None, "end"))
    assert link.sent == []
    assert bytes(screen.data) == b"y" * 163_840 + b"end"


def test_a_foreign_agents_session_goes_on_after_a_restart_of_the_hub() -> None:
    session, _ = rebuilt()
    screen, link = Screen(), Peer(features=None)
    session.attach(screen, 8 + 5)  # it has seen five bytes more than were recorded
    session.on_link(link)
    session.on_output(link, out(None, "new"))
    assert bytes(screen.data) == b"new"
    assert screen.start == 8 + 5  # or it would be taken for known


def test_a_console_that_comes_late_and_has_seen_more_is_shown_what_comes_next() -> None:
    session, _ = rebuilt()
    early, late, link = Screen(), Screen(), Peer(features=None)
    session.on_link(link)
    session.observe(early, 8)
    session.attach(late, 8 + 5)
    assert early.gaps == [(8, 8 + 5)]
    session.on_output(link, out(None, "new"))
    assert (bytes(early.data), bytes(late.data), late.start) == (b"new", b"new", 8 + 5)


def test_a_console_that_is_ahead_of_its_agent_is_shown_nothing_twice() -> None:
    session, _ = rebuilt()
    screen, link = Screen(), Peer()
    session.on_link(link)
    session.on_output(link, out(0, "old "))
    screen.start, screen.data = 0, bytearray(b"old and n")
    assert session.attach(screen, 9) == 9
    session.on_output(link, out(4, "and "))
    session.on_output(link, out(8, "new"))
    assert bytes(screen.data) == b"old and new"


def test_a_console_cannot_move_a_session_further_than_a_hub_can_have_forgotten() -> None:
    session, _ = rebuilt()
    screen, link = Screen(), Peer(features=None)
    session.on_link(link)
    session.attach(screen, 1 << 60)
    session.on_output(link, out(None, "new"))
    assert screen.start == 8


# -- the end ----


def test_after_a_close_no_key_is_taken_and_the_first_reason_stays() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.attach(screen, None)
    session.close("operator_lost")
    session.close("idle_timeout")
    with pytest.raises(ConflictError) as refused:
        session.input(screen, "x")
    assert refused.value.code == "session_ended"
    assert session.wanted == "operator_lost"
    assert len(link.of(ShellClose)) == 1


def test_every_console_hears_the_end_once_and_a_late_one_too_with_the_last_output() -> None:
    link, writer, observer, late = Peer(), Screen(), Screen(), Screen()
    session = live(link=link)
    session.attach(writer, None)
    session.observe(observer, None)
    session.on_output(link, out(0, "bye\r\n"))
    session.end({"session": "s1", "reason": "exit", "code": 0})
    session.end({"session": "s1", "reason": "exit", "code": 1})
    session.attach(late, None)
    for screen in (writer, observer, late):
        assert [payload["code"] for payload in screen.of("shell_closed")] == [0]
        assert screen.events[-1][0] == "shell_closed"
        assert bytes(screen.data) == b"bye\r\n"


def test_idle_and_detached_times_count_from_the_last_key_and_the_last_look() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    clock: Any = session.now
    session.attach(screen, None)
    clock.now_s += 50
    assert (session.idle_s(), session.detached_s()) == (50, 0)
    session.input(screen, "x")
    assert session.idle_s() == 0
    session.detach(screen)
    clock.now_s += 70
    assert (session.idle_s(), session.detached_s()) == (70, 70)


def test_a_lost_operator_is_told_and_types_no_more() -> None:
    link, screen = Peer(), Screen()
    session = live(link=link)
    session.attach(screen, None)
    session.close("operator_lost")
    session.dismiss_writer("operator_lost")
    assert screen.of("shell_detached") == [{"session": "s1", "reason": "operator_lost"}]
