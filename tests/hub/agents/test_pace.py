"""Turns are given at the rate, kept for who was told to come back, and not for ever."""

from __future__ import annotations

from hub.agents.pace import GRACE_S, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_storm_is_spread_at_the_rate_and_everybody_gets_in_at_their_turn() -> None:
    clock = Clock()
    pace = Pace(100.0, clock)
    waits = {f"a{n}": pace.ask(f"a{n}") for n in range(1000)}
    at_once = [name for name, wait in waits.items() if wait == 0]
    assert 90 <= len(at_once) <= 120
    assert max(waits.values()) <= 10
    turns = sorted((wait, name) for name, wait in waits.items() if wait > 0)
    for wait, name in turns:
        clock.now = 100.0 + wait
        assert pace.ask(name) == 0
    assert len({round(wait, 6) for wait, _ in turns}) == len(turns)


def test_who_comes_too_early_keeps_its_turn_and_newcomers_queue_behind() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    while pace.ask("first") == 0:
        clock.now += 0.0
    wait = pace.ask("first")
    assert pace.ask("first") == wait
    assert pace.ask("second") > wait


def test_a_turn_that_nobody_takes_is_forgotten() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    while (wait := pace.ask("late")) == 0:
        pass
    clock.now += wait + GRACE_S
    assert pace.ask("late") == 0
    clock.now += 1000.0
    assert pace.ask("anybody") == 0
