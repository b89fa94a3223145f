"""Stamps of signatures: the system's time, the server's where that is wrong, none twice."""

from __future__ import annotations

from agent.clock import CORRECT_BEYOND_MS, SigningClock

NOW_MS = 1_790_000_000_000


class Time:
    """A wall clock that can be set, and a steady one that only goes on."""

    def __init__(self, wall_ms: int = NOW_MS) -> None:
        self.wall_ms = wall_ms
        self.steady_s = 1000.0

    def go(self, seconds: float) -> None:
        self.wall_ms += round(seconds * 1000)
        self.steady_s += seconds

    def clock(self) -> SigningClock:
        return SigningClock(lambda: self.wall_ms, lambda: self.steady_s)


def test_clock_uses_the_systems_time_by_itself() -> None:
    time = Time()
    assert time.clock().stamp_ms() == NOW_MS


def test_clock_never_gives_the_same_stamp_twice() -> None:
    clock = Time().clock()
    stamps = [clock.stamp_ms() for _ in range(5)]
    assert stamps == sorted(set(stamps))


def test_clock_is_corrected_by_the_server() -> None:
    time = Time()
    clock = time.clock()
    assert clock.learn(NOW_MS + 360_000) == 360_000
    assert clock.stamp_ms() == NOW_MS + 360_000


def test_clock_leaves_a_small_difference_alone() -> None:
    clock = Time().clock()
    assert clock.learn(NOW_MS + CORRECT_BEYOND_MS) == 0
    assert clock.stamp_ms() == NOW_MS


def test_clock_is_not_misled_by_a_later_step_of_the_wall() -> None:
    time = Time()
    clock = time.clock()
    clock.learn(NOW_MS)
    time.go(10)
    time.wall_ms += 86_400_000
    assert clock.stamp_ms() == NOW_MS + 10_000
    time.wall_ms -= 2 * 86_400_000
    time.go(1)
    assert clock.stamp_ms() == NOW_MS + 11_000


def test_clock_set_back_by_hand_starts_over() -> None:
    time = Time()
    clock = time.clock()
    clock.stamp_ms()
    time.wall_ms -= 86_400_000
    assert clock.stamp_ms() == NOW_MS - 86_400_000


def test_clock_without_battery_is_unset_until_a_server_tells_the_time() -> None:
    time = Time(wall_ms=5_000)
    clock = time.clock()
    assert clock.is_unset()
    clock.learn(NOW_MS)
    assert not clock.is_unset()
    assert clock.stamp_ms() == NOW_MS
