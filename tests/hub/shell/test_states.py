"""A session's life: it ends once, and an agent's own word replaces only a guess."""

from __future__ import annotations

import pytest

from hub.shell.states import State, may_end, may_follow, reason_of


def test_nothing_follows_the_end() -> None:
    assert not any(may_follow(State.ENDED, wanted) for wanted in State)


@pytest.mark.parametrize("now", [state for state in State if state is not State.ENDED])
def test_every_living_session_can_end(now: State) -> None:
    assert may_follow(now, State.ENDED)


def test_a_session_that_is_to_be_closed_is_never_open_again() -> None:
    assert not may_follow(State.CLOSING, State.OPEN)


def test_only_a_guess_is_replaced() -> None:
    assert may_end(State.ENDED, "unknown_outcome")
    assert not may_end(State.ENDED, "exit")
    assert may_end(State.CLOSING, None)


@pytest.mark.parametrize(
    ("wanted", "told", "reason"),
    [
        (None, "exit", "exit"),
        (None, None, "exit"),
        ("operator_lost", "closed", "operator_lost"),
        ("operator_lost", None, "operator_lost"),
        ("idle_timeout", "worker_died", "worker_died"),
        (None, "busy", "busy"),
    ],
)
def test_the_reason_is_the_hubs_where_the_agent_only_obeyed(
    wanted: str | None, told: str | None, reason: str
) -> None:
    assert reason_of(wanted, told) == reason
