"""Plans on disk, and the schedules that run them: due once, caught up once, never twice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agent.backup_clock import BackupClock
from agent.backup_schedules import Schedule, Schedules, is_due, next_s
from agent.backup_store import KEEP_MS, Store, plan_of
from agent.errors import BackupPlanError
from tests.doubles.disk import DiskDouble
from tests.doubles.endpoint import ListLog
from workers import backup_state
from workers.backup_request import Request, difference, normalised
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
    with pytest.raises(BackupPlanError):
        said: Any = {"id": "n", "plan_id": "p", "cron": "* * * * *", **changes}
        kept.write([Schedule(**said)])
    assert kept.read() == []


class Started:
    """In the place of the family."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.plans: list[str] = []

    def start_scheduled(self, plan_id: str) -> None:
        self.plans.append(plan_id)


def test_clock_starts_what_is_due_once_and_tells_what_is_overdue(tmp_path: Path) -> None:
    wall, steady = [at("2026-11-21T00:00")], [0.0]
    loop = Loop(clock=lambda: steady[0])
    store = Store(tmp_path)
    kept, family = Schedules(store.root), Started(store)
    kept.write([NIGHTLY])
    clock = BackupClock(
        loop,
        DiskDouble(loop).as_disk,
        cast(Any, family),
        kept,
        24.0,
        cast(Any, ListLog()),
        wall=lambda: int(wall[0] * 1000),
        jitter_s=0.0,
    )
    clock.start()

    def pass_time(seconds: float) -> None:
        wall[0] += seconds
        for _ in range(3):
            steady[0] += 21.0
            for _ in range(4):
                loop.turn(0)

    pass_time(HOUR)
    assert family.plans == []
    pass_time(2 * HOUR)
    assert family.plans == ["p"]
    pass_time(HOUR)
    pass_time(-2 * HOUR)
    pass_time(2 * HOUR)
    assert family.plans == ["p"]
    pass_time(5 * 24 * HOUR)
    assert family.plans == ["p", "p"]
    assert list(clock.overdue) == ["p"]
    folder = store.folder("p")
    folder.mkdir()
    backup_state.add_history(folder, {"endedAt": wall[0], "partial": False})
    pass_time(1.0)
    assert list(clock.overdue) == []
    loop.close()


def test_what_was_missed_starts_after_a_while_that_differs_from_machine_to_machine(
    tmp_path: Path,
) -> None:
    waits: set[float] = set()
    for _ in range(8):
        wall, steady = [at("2026-11-21T00:00")], [0.0]
        loop = Loop(clock=lambda steady=steady: steady[0])  # type: ignore[misc]
        store = Store(tmp_path / f"{len(waits)}-{steady}")
        kept, family = Schedules(store.root), Started(store)
        kept.write([NIGHTLY])
        kept.note_start("n", at("2026-11-18T12:00"))
        clock = BackupClock(
            loop,
            DiskDouble(loop).as_disk,
            cast(Any, family),
            kept,
            None,
            cast(Any, ListLog()),
            wall=lambda wall=wall: int(wall[0] * 1000),  # type: ignore[misc]
            jitter_s=1_000.0,
        )
        clock.start()
        for _ in range(1_001):
            loop.turn(0)
            if family.plans:
                break
            steady[0] += 1.0
        assert family.plans == ["p"]
        waits.add(steady[0])
        loop.close()
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
    now_ms = store.load("q").made_ms + KEEP_MS + 1
    assert store.drop_old({"p\u2603"}, now_ms) == 1
    with pytest.raises(BackupPlanError):
        store.load("../../x")
    assert store.load("q").plan_id == "q"


def test_requests_are_compared_normalised() -> None:
    one = normalised(["/a/b/"], "/d", "", None, 0, None)
    assert one == Request(sources=("/a/b",), dest_root="/d")
    assert difference(one, normalised(["/a/b"], "/d/", None, "", "22", [])) is None
    assert difference(one, normalised(["/a/b"], "/d", "h", None, 22, [])) == "host"
    assert difference(one, normalised(["/a/b"], "/d", None, None, 22, ["x"])) == "ignoreGlobs"
