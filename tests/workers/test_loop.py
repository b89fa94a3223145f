"""The selector loop on a clock of the test's own: order, timers, and what may not break it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.loop import Loop, Timer


class Clock:
    """Seconds that move when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Iterator[Loop]:
    made = Loop(clock=clock)
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    r, w = os.pipe()
    os.set_blocking(r, False)
    os.set_blocking(w, False)
    yield r, w
    for fd in (r, w):
        os.close(fd)


@given(st.lists(st.floats(-1, 10, allow_nan=False), max_size=30))
def test_timers_run_in_order_of_their_time_and_of_their_making(delays: list[float]) -> None:
    clock = Clock()
    loop = Loop(clock=clock)
    ran: list[int] = []
    for number, delay in enumerate(delays):
        loop.call_later(delay, lambda number=number: ran.append(number))  # type: ignore[misc]
    clock.now_s += 20
    loop.turn(0)
    loop.close()
    due = [100.0 + max(0.0, delay) for delay in delays]
    assert ran == sorted(range(len(delays)), key=lambda number: (due[number], number))


def test_timer_comes_at_its_time_and_once(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []
    loop.call_later(5, lambda: ran.append("five"))
    clock.now_s += 4.9
    loop.turn(0)
    assert ran == []
    clock.now_s += 0.2
    loop.turn(0)
    loop.turn(0)
    assert ran == ["five"]


def test_timer_of_many_years_lets_the_loop_wait_for_the_rest() -> None:
    """A selector refuses to wait that long: a command without a near end would end its worker."""
    loop = Loop()
    ran: list[str] = []
    loop.call_later(1e9, lambda: ran.append("in thirty years"))
    waker = threading.Timer(0.05, lambda: loop.call_threadsafe(lambda: ran.append("woken")))
    waker.start()
    while not ran:
        loop.turn()
    waker.join()
    loop.close()
    assert ran == ["woken"]


def test_cancelled_timer_never_comes_and_may_be_cancelled_again(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []
    timer = loop.call_later(1, lambda: ran.append("late"))
    other = loop.call_later(1, timer.cancel)
    timer.cancel()
    timer.cancel()
    clock.now_s += 2
    loop.turn(0)
    other.cancel()
    assert ran == []


def test_timer_may_cancel_one_that_is_due_in_the_same_turn(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []
    timers: list[Timer] = []
    first = loop.call_later(1, lambda: list(map(Timer.cancel, timers)))
    timers.append(loop.call_later(1, lambda: ran.append("second")))
    clock.now_s += 2
    loop.turn(0)
    assert ran == [] and first.callback is None


def test_timer_that_sets_itself_anew_lets_the_turn_end(loop: Loop, clock: Clock) -> None:
    """A clock may stand still for milliseconds: descriptors must get their turn all the same."""
    ran: list[int] = []

    def again() -> None:
        ran.append(1)
        assert len(ran) < 100, "the turn never ended"
        loop.call_later(0, again)

    loop.call_later(0, again)
    loop.turn(0)
    assert len(ran) == 1
    loop.turn(0)
    assert len(ran) == 2


def test_call_soon_from_a_callback_waits_for_the_next_turn(loop: Loop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.call_soon(lambda: ran.append("second"))

    loop.call_soon(first)
    loop.turn(0)
    assert ran == ["first"]
    loop.turn()
    assert ran == ["first", "second"]


def test_reader_is_called_while_there_is_something_to_read(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    r, w = pipe
    got: list[bytes] = []
    loop.set_reader(r, lambda: got.append(os.read(r, 1)))
    os.write(w, b"ab")
    loop.turn(0)
    loop.turn(0)
    loop.turn(0)
    loop.forget(r)
    assert got == [b"a", b"b"]


def test_reader_and_writer_of_one_descriptor_come_and_go_apart(loop: Loop) -> None:
    import socket

    left, right = socket.socketpair()
    with left, right:
        calls: list[str] = []
        loop.set_reader(left.fileno(), lambda: calls.append("read"))
        loop.set_writer(left.fileno(), lambda: calls.append("write"))
        right.send(b"x")
        loop.turn(0)
        assert calls == ["read", "write"]
        loop.set_writer(left.fileno(), None)
        loop.turn(0)
        assert calls == ["read", "write", "read"]
        loop.set_reader(left.fileno(), None)
        loop.turn(0)
        assert calls == ["read", "write", "read"]
        loop.forget(left.fileno())


def test_descriptor_forgotten_by_a_callback_of_the_same_turn_is_not_called(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    """Its number may already belong to somebody else."""
    r, w = pipe
    other_r, other_w = os.pipe()
    calls: list[str] = []

    def forget_both(name: str) -> None:
        calls.append(name)
        loop.forget(r)
        loop.forget(other_r)

    loop.set_reader(r, lambda: forget_both("one"))
    loop.set_reader(other_r, lambda: forget_both("other"))
    os.write(w, b"x")
    os.write(other_w, b"x")
    loop.turn(0)
    loop.turn(0)
    for fd in (other_r, other_w):
        os.close(fd)
    assert len(calls) == 1


def test_forget_twice_or_of_a_stranger_is_nothing(loop: Loop, pipe: tuple[int, int]) -> None:
    r, _ = pipe
    loop.forget(r)
    loop.set_reader(r, lambda: None)
    loop.forget(r)
    loop.forget(r)
    loop.set_reader(r, None)


def test_descriptor_that_cannot_be_watched_leaves_no_trace(loop: Loop, tmp_path) -> None:
    """epoll takes no regular file; the number must be usable for the next one."""
    with open(tmp_path / "file", "wb") as file, pytest.raises(OSError):
        loop.set_reader(file.fileno(), lambda: None)
    r, w = os.pipe()
    got: list[bytes] = []
    loop.set_reader(r, lambda: got.append(os.read(r, 10)))
    os.write(w, b"x")
    loop.turn(0)
    loop.forget(r)
    os.close(r)
    os.close(w)
    assert got == [b"x"]


def test_callback_that_raises_is_told_and_the_rest_goes_on(clock: Clock) -> None:
    errors: list[Exception] = []
    loop = Loop(on_error=errors.append, clock=clock)
    ran: list[str] = []
    loop.call_soon(lambda: 1 // 0)
    loop.call_soon(lambda: ran.append("soon"))
    loop.call_later(0, lambda: int("no"))
    loop.call_later(0, lambda: ran.append("timer"))
    loop.turn(0)
    loop.close()
    assert [type(e) for e in errors] == [ValueError, ZeroDivisionError]
    assert ran == ["timer", "soon"]


def test_callback_that_raises_ends_a_loop_without_on_error(loop: Loop) -> None:
    loop.call_soon(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run()


def test_call_from_another_thread_wakes_a_waiting_loop(loop: Loop) -> None:
    ran: list[str] = []
    waiting = threading.Thread(target=lambda: loop.call_threadsafe(lambda: ran.append("woken")))
    waiting.start()
    for _ in range(10):
        if not ran:
            loop.turn(10)
    waiting.join()
    assert ran == ["woken"]


def test_calls_from_many_threads_all_come_in_each_thread_s_order(loop: Loop) -> None:
    came: list[tuple[int, int]] = []

    def call(thread: int) -> None:
        for number in range(500):
            loop.call_threadsafe(lambda number=number: came.append((thread, number)))  # type: ignore[misc]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while len(came) < 2000:
        before = len(came)
        loop.turn(20)
        assert len(came) > before, "the loop was not woken"
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [n for thread, n in came if thread == number] == list(range(500))


def test_signal_handler_wakes_a_waiting_loop(loop: Loop) -> None:
    ran: list[str] = []
    before = signal.signal(
        signal.SIGUSR1, lambda *_: loop.call_threadsafe(lambda: ran.append("signal"))
    )
    try:
        timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        timer.start()
        while not ran:
            loop.turn(20)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ran == ["signal"]


def test_call_to_a_closed_loop_is_lost_quietly(clock: Clock) -> None:
    loop = Loop(clock=clock)
    loop.close()
    loop.call_threadsafe(lambda: None)


def test_stop_ends_run_after_the_turn(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: ran.append("same turn"))
    loop.run()
    assert ran == ["same turn"]
