"""Signs of life: when to ask, when to give up, what counts."""

from __future__ import annotations

from agent.presence import Presence


def presence() -> Presence:
    return Presence(heartbeat_s=20, pong_timeout_s=90, now_s=0)


def test_presence_asks_after_half_the_timeout_without_sending() -> None:
    watch = presence()
    assert watch.look(20, last_sent_s=0) is None
    watch.came(30)
    assert watch.look(40, last_sent_s=0) is None
    assert watch.look(45, last_sent_s=0) is None  # between two looks
    assert watch.look(60, last_sent_s=0) == "ping"


def test_presence_does_not_ask_while_it_sends() -> None:
    watch = presence()
    assert [watch.look(at, last_sent_s=at - 10) for at in (20.0, 40.0, 60.0, 80.0)] == [None] * 4


def test_presence_sends_do_not_keep_a_dead_link_alive() -> None:
    watch = presence()
    assert watch.look(89.9, last_sent_s=89) is None
    assert watch.look(90, last_sent_s=90) == "dead"


def test_presence_is_kept_by_whatever_comes_in() -> None:
    watch = presence()
    watch.came(80)
    assert watch.look(169, last_sent_s=169) is None
    assert watch.look(170, last_sent_s=170) == "dead"


def test_presence_wakes_for_a_death_between_two_looks() -> None:
    watch = presence()
    watch.look(80, last_sent_s=80)
    assert watch.wait_s(80) == 10


def test_presence_measures_the_round_trip_of_its_own_ping_alone() -> None:
    watch = presence()
    watch.asked(1234, 10.0)
    watch.answered(999, 10.5)
    assert watch.rtt_ms is None
    watch.answered(1234, 10.25)
    assert watch.rtt_ms == 250.0
    watch.answered(1234, 99)
    assert watch.rtt_ms == 250.0
    assert watch.last_pong_s == 99
