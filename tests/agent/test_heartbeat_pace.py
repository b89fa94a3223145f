"""How long the heartbeat waits; a hub that comes back is not met by all at once."""

from __future__ import annotations

import random

import pytest

from agent.heartbeat_pace import MAX_STEP_S, Pace


def test_answered_beats_are_the_hub_s_interval_apart_within_a_tenth() -> None:
    pace = Pace()
    for _ in range(200):
        assert 54.0 <= pace.after_answer(60.0) <= 66.0


def test_failures_are_waited_out_with_full_jitter_up_to_five_minutes() -> None:
    highest = Pace(lambda _low, high: high)
    waits = [highest.after_failure("unreachable") for _ in range(9)]
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, MAX_STEP_S, MAX_STEP_S, MAX_STEP_S]
    lowest = Pace(lambda low, _high: low)
    assert lowest.after_failure("unreachable") == 0.0


def test_answer_starts_the_row_again() -> None:
    pace = Pace(lambda _low, high: high)
    for _ in range(5):
        pace.after_failure("timeout")
    pace.after_answer(60.0)
    assert pace.after_failure("timeout") == 5.0


def test_two_thousand_agents_come_back_spread_over_minutes() -> None:
    """After a long outage no second sees more than a few of them."""
    chance = random.Random(7)
    back = []
    for _ in range(2000):
        pace = Pace(chance.uniform)
        for _ in range(20):
            pace.after_failure("unreachable")
        back.append(int(pace.after_failure("unreachable")))
    busiest = max(back.count(second) for second in set(back))
    assert busiest < 30 and max(back) > 290


@pytest.mark.parametrize("asked", [0.0, 1.0, 30.0, 600.0])
def test_asked_wait_is_a_minimum(asked: float) -> None:
    pace = Pace()
    for _ in range(100):
        waited = pace.after_failure("unavailable", asked)
        assert asked <= waited <= asked + max(60.0, asked / 2)


def test_agents_of_a_hub_that_cannot_store_do_not_come_back_in_step() -> None:
    """Its database is away for minutes, and it says `Retry-After: 2` to everybody."""
    chance = random.Random(7)
    back = []
    for _ in range(2000):
        pace, at_s = Pace(chance.uniform), 0.0
        pace.after_answer(60.0)
        while at_s < 300.0:
            at_s += pace.after_failure("unavailable", 2.0)
        back.append(int(at_s))
    busiest = max(back.count(second) for second in set(back))
    assert busiest < 120 and max(back) <= 360


def test_first_refusal_with_a_wait_is_taken_at_its_word() -> None:
    assert Pace(lambda _low, high: high).after_failure("unavailable", 2.0) == 5.0


def test_wait_that_no_hub_can_mean_is_cut() -> None:
    assert Pace(lambda low, _high: low).after_failure("unavailable", 1e9) == 3600.0


def test_revoked_agent_waits_ten_minutes_whatever_else_was_said() -> None:
    assert Pace().after_failure("agent_revoked", 1.0) == 600.0
