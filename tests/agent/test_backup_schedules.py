"""Plans on disk, and the schedules that run them: due once, caught up once, never twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agent.backup_clock import BackupClock
from agent.backup_schedules import GRACE_S, SCHEDULES, Schedule, Schedules, is_due, next_s
from agent.backup_store import KEEP_MS, Store, plan_of
from agent.errors import BackupPlanError
from tests.doubles.disk import DiskDouble
from tests.doubles.endpoint import ListLog
from workers import backup_state
from workers.backup_request import Request, difference, normalised
from workers.errors import BackupError
from workers.loop import Loop

NIGHTLY = Schedule(id="n", plan_id="p", cron="0 3 * * *", tz="Europe/Vienna")
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_schedule_fires_in_its_own_zone_and_once_when_clocks_change() -> None:
    assert next_s(NIGHTLY, at("2026-11-21T12:00")) == at("2026-11-22T02:00")
    twice = Schedule(id="n", plan_id="p", cron="30 2 * * *", tz="Europe/Vienna")
    first = next_s(twice, at("2026-10-24T12:00"))
    assert first is not None
    second = next_s(twice, first)
    assert second is not None and second - first > 20 * HOUR
    never_said = next_s(twice, at("2026-03-28T12:00"))  # 02:30 does not exist that night
    assert never_said is not None and never_said < at("2026-03-29T12:00")


def test_what_was_missed_is_due_once_and_a_clock_going_back_repeats_nothing() -> None:
    last = at("2026-11-01T03:00")
    assert is_due(NIGHTLY, last, at("2026-11-10T12:00"))
    assert not is_due(NIGHTLY, at("2026-11-10T12:00"), at("2026-11-10T12:01"))
    assert not is_due(NIGHTLY, at("2026-11-10T12:00"), at("2026-11-09T02:30"))


@pytest.mark.parametrize(
    "changes", [{"cron": "never"}, {"tz": "Mars/Base"}, {"tz": "../../etc/passwd"}, {"cron": ""}]
)
def test_schedule_that_means_nothing_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    kept = Schedules(tmp_path)
    with pytest.raises(BackupError) as caught:
        said: Any = {"id": "n", "plan_id": "p", "cron": "* * * * *", **changes}
        kept.write([Schedule(**said)], 0.0)
    assert caught.value.reason == "bad_schedule"
    assert kept.read() == []


def hubs(name: str, cron: str = "0 4 * * *", **changes: Any) -> Schedule:
    return Schedule(**{"id": name, "plan_id": "p", "cron": cron, **changes})


def test_hub_replaces_what_it_has_set_and_nothing_that_was_set_on_the_machine(
    tmp_path: Path,
) -> None:
    fixed = Schedule(id="fixed", plan_id="p", cron="0 1 * * *")
    kept = Schedules(tmp_path, [fixed])
    kept.write([NIGHTLY], 0.0)
    assert kept.take_from_hub([hubs("a"), hubs("b")], 1.0) == ["fixed", "n"]
    assert [(each.id, each.by) for each in kept.read()] == [
        ("fixed", "machine"), ("n", "machine"), ("a", "hub"), ("b", "hub"),
    ]  # fmt: skip
    # A hub sends back all that it was told.
    told = [fixed, NIGHTLY, hubs("b", "0 5 * * *")]
    assert kept.take_from_hub(told, 2.0) == []
    assert {each.id: each.cron for each in kept.read()} == {
        "fixed": "0 1 * * *", "n": "0 3 * * *", "b": "0 5 * * *",
    }  # fmt: skip
    assert [each.id for each in kept.written()] == ["n", "b"]


def test_hub_may_switch_the_machines_own_off_and_never_make_it_another(tmp_path: Path) -> None:
    fixed = Schedule(id="fixed", plan_id="p", cron="0 1 * * *")
    kept = Schedules(tmp_path, [fixed])
    kept.write([NIGHTLY], 0.0)
    off = hubs("n", NIGHTLY.cron, tz=NIGHTLY.tz, enabled=False)
    kept.take_from_hub([off], 1.0)
    assert [(each.id, each.enabled) for each in kept.written()] == [("n", False)]
    for other in (hubs("n"), hubs("fixed", fixed.cron, enabled=False)):
        with pytest.raises(BackupError) as caught:
            kept.take_from_hub([other, hubs("new")], 2.0)
        assert caught.value.reason == "bad_schedule" and repr(other.id) in str(caught.value)
    assert [each.id for each in kept.written()] == ["n"]


def test_schedule_that_is_changed_or_switched_on_again_counts_from_then_on(tmp_path: Path) -> None:
    kept = Schedules(tmp_path)
    kept.write([NIGHTLY], 100.0)
    kept.note_start("n", 200.0)
    kept.write([NIGHTLY, hubs("a")], 300.0)
    moments = {name: (each.since_s, each.start_s) for name, each in kept.moments().items()}
    assert moments == {"n": (100.0, 200.0), "a": (300.0, 300.0)}
    off = Schedule(id="n", plan_id="p", cron="0 3 * * *", tz="Europe/Vienna", enabled=False)
    for number, changed in enumerate([off, NIGHTLY, hubs("n", "0 9 * * *")]):
        kept.write([changed], 1000.0 * (number + 1))
        assert kept.moments()["n"].start_s == 1000.0 * (number + 1)
    assert list(kept.moments()) == ["n"]


def test_schedules_are_whole_on_a_disk_that_takes_a_part_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) on a nearly full disk takes what fits, and says so only in its result."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    Schedules(tmp_path).write([NIGHTLY, hubs("a")], 0.0)
    assert [each.id for each in Schedules(tmp_path).read()] == ["n", "a"]
    assert sorted(Schedules(tmp_path).moments()) == ["a", "n"]


def test_damaged_schedules_are_told_and_never_written_over(tmp_path: Path) -> None:
    fixed = Schedule(id="fixed", plan_id="p", cron="0 1 * * *")
    kept = Schedules(tmp_path, [fixed])
    kept.write([NIGHTLY], 100.0)
    kept.note_start("n", 200.0)
    whole = (tmp_path / SCHEDULES).read_bytes()
    (tmp_path / SCHEDULES).write_bytes(whole[:20])
    # Who has read them before goes on with them; who has not still has the owner's.
    assert [each.id for each in kept.read()] == ["fixed", "n"]
    fresh = Schedules(tmp_path, [fixed])
    assert [each.id for each in fresh.read()] == ["fixed"]
    for change in (lambda: fresh.write([], 300.0), lambda: fresh.take_from_hub([hubs("a")], 300.0)):
        with pytest.raises(BackupError) as caught:
            change()
        assert caught.value.reason == "io_error" and SCHEDULES in str(caught.value)
    fresh.settle(400.0)
    (tmp_path / SCHEDULES).write_bytes(whole)
    assert [each.id for each in fresh.read()] == ["fixed", "n"] and fresh.damage is None
    assert fresh.settle(500.0)["n"].start_s == 200.0


class Started:
    """In the place of the family."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.plans: list[str] = []

    def start_scheduled(self, plan_id: str) -> None:
        self.plans.append(plan_id)


class Time:
    """A wall and a steady clock, and the clock of backups on both."""

    def __init__(
        self, root: Path, schedules: list[Schedule], max_age_hours: float | None, jitter_s: float
    ) -> None:
        self.wall_s, self.steady_s = at("2026-11-21T00:00"), 0.0
        self.loop = Loop(clock=lambda: self.steady_s)
        self.store = Store(root)
        self.kept, self.family = Schedules(self.store.root), Started(self.store)
        self.kept.write(schedules, self.wall_s)
        self.clock = BackupClock(
            self.loop,
            DiskDouble(self.loop).as_disk,
            cast(Any, self.family),
            self.kept,
            max_age_hours,
            cast(Any, ListLog()),
            wall=lambda: int(self.wall_s * 1000),
            jitter_s=jitter_s,
        )

    def passes(self, seconds: float) -> list[str]:
        """Let time pass; return what is overdue then."""
        self.wall_s += seconds
        for _ in range(3):
            self.steady_s += 21.0
            for _ in range(4):
                self.loop.turn(0)
        return list(self.clock.overdue)

    def runs(self, *, partial: bool = False) -> None:
        """A run has ended just now."""
        folder = self.store.folder("p")
        folder.mkdir(parents=True, exist_ok=True)
        backup_state.add_history(folder, {"endedAt": self.wall_s, "partial": partial})


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Time]]:
    made: list[Time] = []

    def start(
        *schedules: Schedule, max_age_hours: float | None = None, jitter_s: float = 0.0
    ) -> Time:
        root = tmp_path / str(len(made))
        made.append(Time(root, list(schedules), max_age_hours, jitter_s))
        made[-1].clock.start()
        return made[-1]

    yield start
    for one in made:
        one.loop.close()


def test_clock_starts_what_is_due_once(started: Callable[..., Time]) -> None:
    time = started(NIGHTLY)
    time.passes(HOUR)
    assert time.family.plans == []
    time.passes(2 * HOUR)
    assert time.family.plans == ["p"]
    time.passes(HOUR)
    time.passes(-2 * HOUR)
    time.passes(2 * HOUR)
    assert time.family.plans == ["p"]
    time.passes(5 * 24 * HOUR)
    assert time.family.plans == ["p", "p"]


def test_clock_that_was_years_ahead_for_a_moment_silences_nothing(
    started: Callable[..., Time],
) -> None:
    """A machine without a battery may wake up in 2036, run its backup, and then be set right."""
    time = started(NIGHTLY, max_age_hours=24.0)
    ten_years = 10 * 365 * 24 * HOUR
    time.passes(ten_years)
    assert time.family.plans == ["p"]
    time.runs()
    time.passes(-ten_years)
    assert time.family.plans == ["p"]
    assert time.passes(26 * HOUR) == ["p"]
    assert time.family.plans == ["p", "p"]


def test_success_that_is_older_than_the_owner_allows_is_overdue(
    started: Callable[..., Time],
) -> None:
    """A partial run is none, and a new schedule has its time."""
    time = started(NIGHTLY, max_age_hours=24.0)
    assert time.passes(23 * HOUR) == []
    time.runs(partial=True)
    assert time.passes(2 * HOUR) == ["p"]
    time.runs()
    assert time.passes(23 * HOUR) == []
    assert time.passes(2 * HOUR) == ["p"]


def test_what_did_not_run_when_its_schedule_says_is_overdue_by_itself(
    started: Callable[..., Time],
) -> None:
    """A weekly backup has its week, and a run its hours to end."""
    weekly = Schedule(id="w", plan_id="p", cron="0 3 * * 0")  # from a Saturday on
    time = started(weekly)
    assert time.passes(3 * HOUR + GRACE_S) == []
    assert time.passes(25 * HOUR) == ["p"]
    time.runs(partial=True)
    assert time.passes(6 * 24 * HOUR) == []
    assert time.passes(24 * HOUR + GRACE_S) == ["p"]
    backup_state.write(time.store.folder("p"), {"state": "running", **backup_state.me()})
    assert time.passes(1.0) == []


def test_what_was_missed_starts_after_a_while_that_differs_from_machine_to_machine(
    started: Callable[..., Time],
) -> None:
    waits: set[float] = set()
    for _ in range(8):
        time = started(NIGHTLY, jitter_s=1_000.0)
        time.kept.note_start("n", at("2026-11-18T12:00"))
        for _ in range(1_025):
            time.loop.turn(0)
            if time.family.plans:
                break
            time.steady_s += 1.0
        assert time.family.plans == ["p"]
        waits.add(time.steady_s)
    assert len(waits) > 3


def test_plan_is_kept_under_a_hashed_name_and_dropped_when_nobody_used_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    request = normalised(["/a/b/"], "/d/e/", "", "", "22", None)
    for plan_id in ("../../x", "p\u2603", "q"):
        store.save(plan_of(plan_id, request, "mirror"))
        assert store.load(plan_id).request() == request
        assert store.folder(plan_id).parent == store.root
    (store.folder("q") / "manifests").mkdir()
    (store.folder("q") / "manifests" / "000001.tsv").touch()
    store.folder("never made").mkdir()
    (store.root / "locks").mkdir()
    now_ms = store.load("q").made_ms + KEEP_MS + 1
    assert store.drop_old({"p\u2603"}, store.load("q").made_ms + 1) == 0
    assert store.drop_old({"p\u2603"}, now_ms + 60_000) == 2
    assert sorted(each.name for each in store.root.iterdir()) == sorted(
        ["locks", store.folder("q").name, store.folder("p\u2603").name]
    )
    with pytest.raises(BackupPlanError):
        store.load("../../x")
    assert store.load("q").plan_id == "q"


def test_requests_are_compared_normalised() -> None:
    one = normalised(["/a/b/"], "/d", "", None, 0, None)
    assert one == Request(sources=("/a/b",), dest_root="/d")
    assert difference(one, normalised(["/a/b"], "/d/", None, "", "22", [])) is None
    assert difference(one, normalised(["/a/b"], "/d", "h", None, 22, [])) == "host"
    assert difference(one, normalised(["/a/b"], "/d", None, None, 22, ["x"])) == "ignoreGlobs"
