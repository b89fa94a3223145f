"""Arrival without acknowledgements: pong behind it, then a ping."""

from __future__ import annotations

from agent.confirmations import Confirmations


def test_final_is_confirmed_by_the_ping_after_the_pong_behind_it() -> None:
    seen = Confirmations()
    seen.written(1)
    seen.pong_written()
    assert seen.ping_came() == [1]
    assert seen.ping_came() == []


def test_final_is_not_confirmed_by_a_ping_that_was_under_way() -> None:
    seen = Confirmations()
    seen.pong_written()
    seen.written(1)
    assert seen.ping_came() == []
    seen.pong_written()
    seen.written(2)
    assert seen.ping_came() == [1]
