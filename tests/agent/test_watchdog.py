"""When silence is a hang: a table of cases, each with what was seen and the verdict."""

from __future__ import annotations

import pytest

from agent.watchdog import Patience, Silence, Verdict, judge

SINCE_S = 1000.0
PATIENCE = Patience()


def verdict_on(
    silent_s: float,
    *,
    cpu_s: float = 0.0,
    state: str | None = "S",
    overloaded: bool = False,
    patience: Patience = PATIENCE,
) -> Verdict:
    silence = Silence(since_s=SINCE_S, cpu_s=7.0)
    return judge(silence, SINCE_S + silent_s, 7.0 + cpu_s, state, overloaded, patience)


@pytest.mark.parametrize(
    "silent_s, cpu_s, state, overloaded, expected",
    [
        # Idle: 15 s.
        (0.0, 0.0, "S", False, "alive"),
        (14.9, 0.0, "S", False, "alive"),
        (15.0, 0.0, "S", False, "worker_stalled"),
        (15.0, 0.0, None, False, "worker_stalled"),
        (15.0, 0.0, "I", False, "worker_stalled"),
        # A trickle of CPU (a signal handler, a fault) is not work.
        (15.0, 0.2, "S", False, "worker_stalled"),
        # Working without a beat: 120 s.
        (15.0, 0.5, "R", False, "alive"),
        (119.0, 110.0, "R", False, "alive"),
        (120.0, 110.0, "R", False, "worker_stalled"),
        # Stopped or traced: whatever it did before, it does nothing now.
        (14.9, 0.0, "T", False, "alive"),
        (15.0, 0.0, "T", False, "worker_stalled"),
        (15.0, 2.0, "T", False, "worker_stalled"),
        (15.0, 2.0, "t", False, "worker_stalled"),
        (15.0, 2.0, "T", True, "worker_stalled"),
        # An overloaded host is no hang, until it is.
        (15.0, 0.0, "S", True, "alive"),
        (15.0, 0.0, "R", True, "alive"),
        (119.0, 0.0, "R", True, "alive"),
        (120.0, 0.0, "R", True, "worker_stalled"),
    ],
)
def test_silence_is_judged(
    silent_s: float, cpu_s: float, state: str | None, overloaded: bool, expected: Verdict
) -> None:
    assert verdict_on(silent_s, cpu_s=cpu_s, state=state, overloaded=overloaded) == expected


def test_silence_in_the_kernel_counts_from_when_it_was_seen_there() -> None:
    silence = Silence(since_s=SINCE_S, cpu_s=0.0)
    assert judge(silence, SINCE_S + 40, 0.0, "D", False) == "alive"
    assert judge(silence, SINCE_S + 99, 0.0, "D", False) == "alive"
    assert judge(silence, SINCE_S + 100, 0.0, "D", False) == "stalled_io"


def test_silence_in_the_kernel_starts_anew_after_a_moment_outside() -> None:
    """It got on: the disk is slow, not dead."""
    silence = Silence(since_s=SINCE_S, cpu_s=0.0)
    judge(silence, SINCE_S + 10, 0.0, "D", False)
    assert judge(silence, SINCE_S + 14, 0.0, "R", False) == "alive"
    assert silence.kernel_since_s is None
    assert judge(silence, SINCE_S + 71, 0.0, "D", False) == "alive"
    assert judge(silence, SINCE_S + 131, 0.0, "D", False) == "stalled_io"


def test_silence_is_judged_by_the_patience_that_is_given() -> None:
    short = Patience(stall_s=1.0, stall_io_s=2.0, stall_busy_s=3.0)
    assert verdict_on(1.0, patience=short) == "worker_stalled"
    assert verdict_on(1.0, cpu_s=1.0, patience=short) == "alive"
    assert verdict_on(3.0, cpu_s=1.0, patience=short) == "worker_stalled"
    assert short.look_s < PATIENCE.look_s == 1.0
