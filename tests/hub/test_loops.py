"""A loop of the hub that meets what it does not expect goes on."""

from __future__ import annotations

from hub.loops import keep_up
from tests.doubles.loop import run


def test_loop_that_fails_begins_again_until_it_returns() -> None:
    rounds: list[int] = []

    async def loop() -> None:
        rounds.append(len(rounds))
        if len(rounds) < 3:
            raise ValueError("of a round")

    run(keep_up(loop, pause_s=0.0))
    assert rounds == [0, 1, 2]
