"""One order for many machines: waves, concurrency, and when it stops."""

from __future__ import annotations

import threading

import pytest

from hub.cli import exits
from hub.cli.bulk import Outcome, Plan, Target, carry_out, waves
from hub.errors import CliError

TARGETS = [Target(f"id{n}", f"m{n}") for n in range(10)]


def good(target: Target) -> Outcome:
    return Outcome(target, {}, "succeeded", exits.OK)


def bad(target: Target) -> Outcome:
    return Outcome(target, None, "failed", exits.FAILED)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [(None, [10]), ("1,3", [1, 3, 3, 3]), ("10%,50%", [1, 5, 4]), ("20", [10]), ("1%", [1] * 10)],
)
def test_waves_are_read(sizes: str | None, expected: list[int]) -> None:
    assert waves(10, sizes) == expected


@pytest.mark.parametrize("sizes", ["", "0", "-1", "x", "1,,2", "1.5"])
def test_waves_that_are_none_are_refused(sizes: str) -> None:
    with pytest.raises(CliError):
        waves(10, sizes)


def test_every_machine_is_asked_and_told() -> None:
    told: list[Outcome] = []
    outcomes = carry_out(TARGETS, Plan([4, 6], 3, None), good, told.append)
    assert sorted(outcomes) == sorted(told)
    assert {one.target for one in outcomes} == set(TARGETS)


def test_no_more_run_at_once_than_may() -> None:
    lock, now, most = threading.Lock(), 0, 0
    third = threading.Barrier(3, timeout=60)

    def one(target: Target) -> Outcome:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        third.wait()
        with lock:
            now -= 1
        return good(target)

    carry_out(TARGETS[:9], Plan([9], 3, None), one, lambda _: None)
    assert most == 3


def test_a_wave_begins_when_the_one_before_has_ended() -> None:
    ended: list[Target] = []

    def one(target: Target) -> Outcome:
        first_wave = set(TARGETS[:4])
        if target not in first_wave:
            assert first_wave <= set(ended)
        ended.append(target)
        return good(target)

    assert len(carry_out(TARGETS, Plan([4, 6], 10, None), one, lambda _: None)) == 10


@pytest.mark.parametrize(("allowed", "asked"), [("0", 1), ("2", 3), ("50%", 6), (None, 10)])
def test_once_more_have_failed_than_may_nobody_else_is_asked(
    allowed: str | None, asked: int
) -> None:
    outcomes = carry_out(TARGETS, Plan([10], 1, allowed), bad, lambda _: None)
    assert len(outcomes) == asked
