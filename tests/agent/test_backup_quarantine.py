"""A plan that crashes its worker three times is left alone for a day, by a new agent too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from agent.backup_quarantine import HELD_MS, Quarantine
from tests.doubles.disk import DiskDouble
from tests.doubles.endpoint import ListLog
from workers.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def made(loop: Loop, root: Path, wall: list[int]) -> Quarantine:
    found = Quarantine(root, DiskDouble(loop).as_disk, cast(Any, ListLog()), wall=lambda: wall[0])
    loop.turn(0)
    return found


def test_three_crashes_hold_that_plan_for_a_day(loop: Loop, tmp_path: Path) -> None:
    wall = [1_000_000]
    quarantine = made(loop, tmp_path, wall)
    assert [quarantine.note_crash("run", "p") for _ in range(3)] == [False, False, True]
    assert quarantine.holds("run", "p")
    assert not quarantine.holds("run", "q")
    assert not quarantine.holds("restore", "p")
    assert made(loop, tmp_path, wall).holds("run", "p")
    wall[0] += HELD_MS
    assert not quarantine.holds("run", "p")
    assert quarantine.note_crash("run", "p") is False


def test_end_of_its_own_counts_from_the_beginning_again(loop: Loop, tmp_path: Path) -> None:
    quarantine = made(loop, tmp_path, [1_000_000])
    for _ in range(5):
        quarantine.note_crash("run", "p")
        quarantine.note_crash("run", "p")
        quarantine.note_end("run", "p")
    assert not quarantine.holds("run", "p")


def test_clock_that_went_back_holds_nothing_for_ever(loop: Loop, tmp_path: Path) -> None:
    wall = [10 * HELD_MS]
    quarantine = made(loop, tmp_path, wall)
    for _ in range(3):
        quarantine.note_crash("run", "p")
    wall[0] = HELD_MS
    assert not quarantine.holds("run", "p")


def test_file_that_is_damaged_holds_nothing(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "quarantine.json").write_bytes(b"{")
    assert not made(loop, tmp_path, [1]).holds("run", "p")
