"""Places and rates: a place is never lost and never there twice, whatever is cancelled when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.limits import Place, RateLimit, Slots, TokenBucket, Waiting
from workers.loop import Loop


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Waiter:
    """One in line, and what it was told."""

    def __init__(self) -> None:
        self.waiting: Waiting | None = None
        self.place: Place | None = None
        self.told: list[str] = []
        self.cancelled = False


class SlotsAgainstCount(RuleBasedStateMachine):
    """The model: who holds a place, who waits, in which order."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        self.slots = Slots(self.loop, self.LIMIT)
        self.held: list[Place] = []
        self.released: list[Place] = []
        self.forced = 0
        self.waiters: list[Waiter] = []
        self.served: list[Waiter] = []

    def teardown(self) -> None:
        self.loop.close()

    def settle(self) -> None:
        for _ in range(10):
            self.loop.turn(0)

    @rule()
    def take(self) -> None:
        waits = any(not w.told and not w.cancelled for w in self.waiters)
        place = self.slots.take()
        assert (place is None) == (waits or len(self.held) >= self.LIMIT)
        if place is not None:
            self.held.append(place)

    @rule()
    def force(self) -> None:
        self.held.append(self.slots.force())

    @rule(timeout_s=st.integers(1, 30))
    def wait(self, timeout_s: int) -> None:
        waiter = Waiter()

        def on_place(place: Place) -> None:
            waiter.told.append("place")
            waiter.place = place
            self.held.append(place)
            self.served.append(waiter)

        waiter.waiting = self.slots.wait(timeout_s, on_place, lambda: waiter.told.append("timeout"))
        self.waiters.append(waiter)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), times=st.integers(1, 3))
    def release(self, data: st.DataObject, times: int) -> None:
        place = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        for _ in range(times):
            place.release()
        self.released.append(place)

    @precondition(lambda self: self.released)
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.released)).release()

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        assert waiter.waiting is not None
        if not waiter.told:
            waiter.cancelled = True
        waiter.waiting.cancel()

    @rule(seconds=st.integers(0, 40))
    def pass_time(self, seconds: int) -> None:
        self.settle()
        self.clock.now_s += seconds
        self.settle()
        # Nobody who was still in line may have been passed over by a free place.
        left = [w for w in self.waiters if not w.told and not w.cancelled]
        assert not left or len(self.held) >= self.LIMIT

    @invariant()
    def count_is_right_and_each_was_told_once(self) -> None:
        assert self.slots.taken == len(self.held)
        for waiter in self.waiters:
            assert len(waiter.told) <= 1
            assert not (waiter.cancelled and waiter.told)

    @invariant()
    def line_holds_none_but_those_who_wait(self) -> None:
        left = [w for w in self.waiters if not w.told and not w.cancelled]
        assert self.slots.waiting == len(left) == len(self.slots._line)


SlotsAgainstCount.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=40
)
test_places_are_neither_lost_nor_doubled = SlotsAgainstCount.TestCase


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Any:
    made = Loop(clock=clock)
    yield made
    made.close()


def test_line_is_served_in_the_order_of_coming(loop: Loop) -> None:
    slots = Slots(loop, 1)
    first = slots.take()
    assert first is not None
    served: list[str] = []

    def serve(name: str) -> Any:
        def on_place(place: Place) -> None:
            served.append(name)
            place.release()

        return on_place

    for name in ("a", "b", "c"):
        slots.wait(10, serve(name), lambda: None)
    first.release()
    for _ in range(5):
        loop.turn(0)
    assert served == ["a", "b", "c"]
    assert slots.taken == 0


def test_callback_that_raises_keeps_the_count_right(clock: Clock) -> None:
    """Its own bug must not take the place from those behind it for ever."""
    errors: list[Exception] = []
    loop = Loop(on_error=errors.append, clock=clock)
    slots = Slots(loop, 1)
    held: list[Place] = []

    def bad(place: Place) -> None:
        held.append(place)
        raise ValueError

    slots.wait(10, bad, lambda: None)
    served: list[Place] = []
    slots.wait(10, served.append, lambda: None)
    loop.turn(0)
    held[0].release()
    loop.turn(0)
    loop.turn(0)
    loop.close()
    assert len(errors) == 1 and len(served) == 1 and slots.taken == 1


def test_zero_places_refuse_everybody_and_the_line_times_out(loop: Loop, clock: Clock) -> None:
    slots = Slots(loop, 0)
    told: list[str] = []
    assert slots.take() is None
    slots.wait(5, lambda place: told.append("place"), lambda: told.append("timeout"))
    clock.now_s += 6
    loop.turn(0)
    loop.turn(0)
    assert told == ["timeout"]


# -- rates ----------------------------------------------------------------------------------


@given(
    st.integers(1, 5),
    st.integers(1, 20),
    st.lists(st.integers(0, 10), max_size=80),
)
def test_rate_limit_never_admits_more_than_its_window_allows(
    most: int, window_s: int, steps: list[int]
) -> None:
    clock = Clock()
    limit = RateLimit(clock, most, window_s)
    admitted: list[float] = []
    for step in steps:
        clock.now_s += step
        recent = [at for at in admitted if clock.now_s - at < window_s]
        answer = limit.admits()
        assert answer == (len(recent) < most)
        if answer:
            admitted.append(clock.now_s)


def test_rate_limit_of_zero_is_none() -> None:
    limit = RateLimit(Clock(), 0, 60)
    assert all(limit.admits() for _ in range(1000))


@given(st.lists(st.floats(0, 0.1), max_size=200))
def test_token_bucket_admits_its_burst_and_then_its_rate(steps: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(clock, 20.0, 10)
    admitted = 0
    for step in steps:
        clock.now_s += step
        admitted += bucket.admits()
        assert admitted <= 10 + clock.now_s * 20.0 + 1e-6
    for _ in range(20):
        bucket.admits()
    clock.now_s += 1000
    assert sum(bucket.admits() for _ in range(100)) == 10
