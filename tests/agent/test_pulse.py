"""The pulse: regular while all is well, silent when not, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

from agent import pulse
from agent.pulse import Pulse
from workers.loop import Loop


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def run_for(loop: Loop, clock: FakeClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now_s += 1
        loop.turn(0)


def test_pulse_is_ascii_and_every_two_seconds() -> None:
    clock = FakeClock()
    loop = Loop(clock=clock)
    out, into = os.pipe()
    Pulse(loop, lambda: True, into).start()
    run_for(loop, clock, 6)
    assert os.read(out, 4096).decode("ascii").splitlines() == [
        f"JACKLINE-PULSE {number}" for number in (1, 2, 3, 4)
    ]
    os.close(out)
    os.close(into)
    loop.close()


def test_pulse_stops_while_the_link_is_stuck_and_comes_back() -> None:
    clock, well = FakeClock(), [True]
    loop = Loop(clock=clock)
    out, into = os.pipe()
    os.set_blocking(out, False)
    Pulse(loop, lambda: well[0], into).start()
    os.read(out, 4096)
    well[0] = False
    run_for(loop, clock, 20)
    try:
        assert os.read(out, 4096) == b""
    except BlockingIOError:
        pass
    well[0] = True
    run_for(loop, clock, 2)
    assert os.read(out, 4096).count(b"\n") == 1
    os.close(out)
    os.close(into)
    loop.close()


def test_pulse_into_a_full_or_broken_pipe_is_skipped() -> None:
    clock = FakeClock()
    loop = Loop(clock=clock)
    out, into = os.pipe()
    os.set_blocking(into, False)
    try:
        while True:
            os.write(into, b"x" * 65536)
    except BlockingIOError:
        pass
    Pulse(loop, lambda: True, into).start()
    run_for(loop, clock, 4)
    os.close(out)
    run_for(loop, clock, 4)
    os.close(into)
    loop.close()


def test_pulse_is_wanted_under_supervisord_alone(tmp_path: Path) -> None:
    out, into = os.pipe()
    file = os.open(tmp_path / "x", os.O_CREAT | os.O_WRONLY)
    under = {"SUPERVISOR_ENABLED": "1"}
    assert pulse.is_wanted(under, into)
    assert not pulse.is_wanted({}, into)
    assert not pulse.is_wanted(under, file)
    for fd in (out, into, file):
        os.close(fd)
