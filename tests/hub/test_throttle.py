"""Failures are counted, forgiven by time, and bounded in number."""

from __future__ import annotations

import pytest

from hub import throttle
from hub.errors import RateLimitedError
from hub.throttle import Failures


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_limit_locks_for_a_window_from_the_last_failure() -> None:
    clock = Clock()
    failures = Failures(3, 60, clock)
    for _ in range(3):
        failures.check("a")
        failures.add("a")
        clock.now_s += 10
    with pytest.raises(RateLimitedError) as caught:
        failures.check("a")
    assert caught.value.retry_after_s == 50
    failures.check("b")
    clock.now_s += 51
    failures.check("a")


def test_failures_that_are_far_apart_lock_nobody() -> None:
    clock = Clock()
    failures = Failures(3, 60, clock)
    for _ in range(10):
        failures.add("a")
        failures.check("a")
        clock.now_s += 40


def test_forgiven_failures_are_gone() -> None:
    failures = Failures(1, 60)
    failures.add("a")
    failures.forgive("a")
    failures.check("a")


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_KEYS", 10)
    failures = Failures(1, 60)
    for n in range(100):
        failures.add(str(n))
    assert [failures.wait_s(str(n)) > 0 for n in (0, 89, 90, 99)] == [False, False, True, True]
