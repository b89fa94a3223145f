"""A session's window: never more than is granted, never stuck, wider where the link is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.shell.credit import Credit
from wire.limits import CREDIT_INITIAL_BYTES, CREDIT_MAX_BYTES


def test_a_keystrokes_echo_costs_no_grant() -> None:
    credit = Credit()
    credit.received(10)
    assert credit.grant(10) == 0


def test_half_a_window_taken_is_granted_again() -> None:
    credit = Credit()
    half = CREDIT_INITIAL_BYTES // 2
    credit.received(half)
    assert credit.grant(half) == half
    assert credit.granted_to == half + CREDIT_INITIAL_BYTES


def test_a_consumer_that_takes_nothing_stops_the_agent() -> None:
    credit = Credit()
    credit.received(CREDIT_INITIAL_BYTES)
    assert credit.grant(0) == 0


def test_the_window_grows_while_it_is_full_and_no_further_than_the_most() -> None:
    credit, end = Credit(), 0
    for _ in range(6):
        end = credit.granted_to
        credit.received(end)
        credit.grant(end)
    assert credit.granted_to - end == CREDIT_MAX_BYTES


def test_a_resumed_agent_starts_with_its_first_window() -> None:
    credit = Credit()
    credit.received(credit.granted_to)
    credit.grant(credit.granted_to)
    credit.begin(1000)
    assert credit.granted_to == 1000 + CREDIT_INITIAL_BYTES


def test_lost_output_costs_no_credit() -> None:
    credit = Credit()
    credit.skipped(5_000_000)
    assert credit.granted_to == 5_000_000 + CREDIT_INITIAL_BYTES


@given(st.lists(st.tuples(st.integers(1, 1 << 18), st.floats(0, 1)), max_size=50))
def test_no_flow_is_stuck_and_no_window_is_passed(steps: list[tuple[int, float]]) -> None:
    credit, sent, consumed = Credit(), 0, 0
    for wish, share in steps:
        sent = min(credit.granted_to, sent + wish)
        credit.received(sent)
        consumed += int((sent - consumed) * share)
        credit.grant(consumed)
        assert credit.granted_to - consumed <= CREDIT_MAX_BYTES
    credit.received(sent)
    credit.grant(sent)
    assert credit.granted_to > sent
