"""Waits between attempts: the row, its jitter, and the refusals that set their own."""

from __future__ import annotations

import pytest

from agent.backoff import CLOCK_UNSET_WAIT_S, MAX_ASKED_WAIT_S, MIN_ASKED_WAIT_S, Backoff
from wire.limits import REVOKED_WAIT_S


def longest(low: float, high: float) -> float:
    return high


def test_backoff_doubles_up_to_thirty_seconds() -> None:
    backoff = Backoff(longest)
    assert [backoff.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_backoff_draws_each_wait_between_half_and_whole() -> None:
    drawn: list[tuple[float, float]] = []

    def shortest(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    backoff = Backoff(shortest)
    assert [backoff.next_s() for _ in range(3)] == [0.5, 1, 2]
    assert drawn == [(0.5, 1), (1, 2), (2, 4)]


def test_backoff_starts_over_only_when_reset() -> None:
    backoff = Backoff(longest)
    assert [backoff.next_s("closed"), backoff.next_s("server_closed")] == [1, 2]
    backoff.reset()
    assert backoff.next_s() == 1


def test_backoff_takes_the_servers_wait_and_does_not_climb_for_it() -> None:
    backoff = Backoff(longest)
    assert backoff.next_s("rate_limited", 4500.0) == 4.5
    assert backoff.next_s() == 1


def test_backoff_bounds_the_servers_wait() -> None:
    """A server that says "at once" to whom it refuses must not be asked without a pause."""
    backoff = Backoff(longest)
    assert backoff.next_s("rate_limited", 1e15) == MAX_ASKED_WAIT_S
    assert backoff.next_s("rate_limited", 0.0) == MIN_ASKED_WAIT_S == 0.5


@pytest.mark.parametrize("asked", [None, 10.0])
def test_backoff_waits_ten_minutes_when_revoked(asked: float | None) -> None:
    assert Backoff(longest).next_s("auth_revoked", asked) == REVOKED_WAIT_S == 600


def test_backoff_tries_every_thirty_seconds_while_the_clock_is_unset() -> None:
    backoff = Backoff(longest)
    assert [backoff.next_s("tls", is_clock_unset=True) for _ in range(3)] == [
        CLOCK_UNSET_WAIT_S
    ] * 3
    assert backoff.next_s() == 1
