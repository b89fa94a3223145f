"""Samples are stored, rolled up, thinned, and dropped when old, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from hub.agents import service as agents
from hub.agents.models import Asset
from hub.assembly import Hub
from hub.clock import iso, now_ms
from hub.db.database import Database
from hub.operators.models import Tenant
from hub.telemetry import rollups, service
from hub.telemetry.figures import figures, kept, texts
from hub.telemetry.models import ROLLUP_MS, Rollup, Sample
from tests.doubles.hub_client import HubClient
from tests.hub.conftest import Headers
from wire import telemetry
from wire.events import Direction, decode

HOUR_MS = 3_600_000
START = 1_000 * ROLLUP_MS


def asset_of(database: Database, tenant_id: str = "t1") -> str:
    return database.write_now(None, lambda session: agents.add_asset(session, tenant_id, "x").id)


def put(
    database: Database, asset_id: str, at_ms: int, tenant_id: str = "t1", **some: float
) -> None:
    empty: dict[str, float | None] = dict.fromkeys(
        ("cpu", "mem_percent", "mem_used", "load1", "disk_percent", "rx_bps", "tx_bps", "rtt_ms")
    )
    one = service.Taken(tenant_id, asset_id, at_ms, {"seen_ms": at_ms}, {**empty, **some})
    database.write_now(None, lambda session: service.store(session, [one]))


def count(database: Database, table: Any) -> int:
    query = select(func.count()).select_from(table)
    return database.read_now(None, lambda session: session.scalar(query) or 0)


def test_a_rollup_has_mean_and_worst_and_is_written_once(database: Database) -> None:
    asset_id = asset_of(database)
    for n, cpu in enumerate((10.0, 20.0, 90.0)):
        put(database, asset_id, START + n * 60_000, cpu=cpu)
    put(database, asset_id, START + ROLLUP_MS, cpu=1.0)
    late = START + ROLLUP_MS + rollups.SETTLE_MS + 1
    for _ in range(2):
        database.write_now(None, lambda session: rollups.roll_up(session, late))
    row = database.read_now(None, lambda session: session.scalars(select(Rollup)).one())
    assert (row.at_ms, row.count, row.cpu, row.cpu_max) == (START, 3, 40.0, 90.0)
    assert row.mem_percent is None
    database.write_now(None, lambda session: rollups.roll_up(session, late + ROLLUP_MS))
    assert count(database, Rollup) == 2


def test_old_samples_go_and_none_while_the_newest_lies_in_the_future(database: Database) -> None:
    asset_id = asset_of(database)
    now = START + 100 * HOUR_MS
    put(database, asset_id, START, cpu=1.0)
    put(database, asset_id, now, cpu=2.0)
    prune = lambda at: database.write_now(  # noqa: E731
        None, lambda session: service.prune(session, at, 48 * HOUR_MS, 720 * HOUR_MS)
    )
    assert prune(now - 2 * HOUR_MS) == 0
    assert prune(now) == 1
    assert count(database, Sample) == 1


def test_a_series_is_samples_while_there_are_and_rollups_before(database: Database) -> None:
    asset_id = asset_of(database)
    put(database, asset_id, START, cpu=10.0)
    put(database, asset_id, START + ROLLUP_MS, cpu=20.0)
    database.write_now(None, lambda s: rollups.roll_up(s, START + 3 * ROLLUP_MS))
    read = lambda raw: database.read_now(  # noqa: E731
        "t1", lambda s: service.series(s, asset_id, START, START + 9 * ROLLUP_MS, raw)
    )
    step, columns, rows = read(START)
    assert (step, columns[:2], [row[:2] for row in rows]) == (
        0, ("at_ms", "cpu"), [(START, 10.0), (START + ROLLUP_MS, 20.0)],
    )  # fmt: skip
    step, columns, rows = read(START + 1)
    assert step == ROLLUP_MS
    assert "cpu_max" in columns
    assert len(rows) == 2


def test_series_of_more_samples_than_are_read_keeps_the_newest(database: Database) -> None:
    asset_id = asset_of(database)
    total = service.MAX_POINTS * 5 + 1001
    rows = [
        {"tenant_id": "t1", "asset_id": asset_id, "at_ms": START + n * 5000} for n in range(total)
    ]
    database.write_now(None, lambda session: session.execute(insert(Sample), rows))
    _, _, found = database.read_now(
        "t1", lambda s: service.series(s, asset_id, START, START + total * 5000, START)
    )
    stamps = [row[0] for row in found]
    assert stamps == sorted(stamps)
    assert stamps[-1] == START + (total - 1) * 5000
    assert len(stamps) == service.MAX_POINTS


def test_a_series_by_the_api_names_its_columns(
    hub: Hub, api: HubClient, acme: Tenant, as_role: Headers
) -> None:
    asset_id = asset_of(hub.database, acme.id)
    at = now_ms() - 60_000
    put(hub.database, asset_id, at, acme.id, cpu=12.5)
    path = f"/api/v1/agents/{asset_id}/telemetry"
    reply = api.get(path, headers=as_role("auditor")).json()
    assert reply["rows"][0][:2] == [at, 12.5]
    assert reply["columns"][:2] == ["at_ms", "cpu"]
    wrong = {"start": iso(at), "end": iso(at)}
    assert api.get(path, params=wrong, headers=as_role("auditor")).status_code == 400
    bare = {"start": "2026-11-28T09:00:00"}
    assert api.get(path, params=bare, headers=as_role("auditor")).status_code == 400


@pytest.mark.parametrize(
    "data, expected",
    [
        (b'{"cpu": 5, "mem": {"used": 25, "total": 100}}', {"cpu": 5.0, "mem_percent": 25.0}),
        (b'{"disk": [{"capacity": "81%"}, {"capacity": 12}]}', {"disk_percent": 81.0}),
        (b'{"diskPercent": 7.5, "disk": [{"capacity": 90}]}', {"disk_percent": 7.5}),
        (b'{"net": [{"rxBps": 1, "txBps": 2}, {"rxBps": 3}]}', {"rx_bps": 4.0, "tx_bps": 2.0}),
        (b'{"disk": [{"capacity": "full"}], "mem": {"used": 1, "total": 0}}', {}),
        (b'{"cpu": 1e300}', {}),
        (b"{}", {}),
    ],
)
def test_figures_of_any_maker_are_read_or_missing(data: bytes, expected: dict[str, float]) -> None:
    stats = decode(Direction.TO_SERVER, "stats", b'{"data": ' + data + b"}")
    assert isinstance(stats, telemetry.Stats)
    found = {name: one for name, one in figures(stats.data, None).items() if one is not None}
    found.pop("mem_used", None)
    assert found == expected


def test_what_a_machine_says_of_itself_is_bounded_and_printable() -> None:
    sample = telemetry.Sample(platform="a\x00b" * 100, hostname="h\ud7ff", cpu=float("inf"))
    assert len(texts(sample)["platform"]) == 128
    assert "\x00" not in str(kept(sample))
    assert kept(sample)["cpu"] is None


def test_a_sample_of_the_database_changes_its_machine(database: Database) -> None:
    asset_id = asset_of(database)
    other = asset_of(database)
    now = now_ms()
    empty: dict[str, float | None] = dict.fromkeys(
        ("cpu", "mem_percent", "mem_used", "load1", "disk_percent", "rx_bps", "tx_bps", "rtt_ms")
    )
    taken = [
        service.Taken(
            "t1", asset_id, now, {"cpu": 3.0, "sample": {"cpu": 3}, "seen_ms": now}, empty
        ),
        service.Taken("t1", other, now, {"platform": "linux", "seen_ms": now}, empty),
    ]

    def store(session: Session) -> None:
        service.store(session, taken)

    database.write_now(None, store)
    one = database.read_now(None, lambda session: session.get_one(Asset, asset_id))
    two = database.read_now(None, lambda session: session.get_one(Asset, other))
    assert (one.cpu, one.sample, two.platform) == (3.0, {"cpu": 3}, "linux")


def rollups_of(database: Database) -> list[tuple[Any, ...]]:
    query = select(Rollup.at_ms, Rollup.count, Rollup.cpu).order_by(Rollup.at_ms)
    return database.read_now(None, lambda session: list(map(tuple, session.execute(query).all())))


def test_samples_that_come_late_are_rolled_up_after_all(database: Database) -> None:
    asset_id, other = asset_of(database), asset_of(database)
    now = START + 3 * ROLLUP_MS + rollups.SETTLE_MS
    put(database, asset_id, START, cpu=10.0)
    put(database, other, START + 2 * ROLLUP_MS, cpu=1.0)
    database.write_now(None, lambda session: rollups.roll_up(session, now))

    late = [START + 60_000, START + ROLLUP_MS, START + 3 * ROLLUP_MS]
    for at_ms in late:
        put(database, asset_id, at_ms, cpu=30.0)
    stored = [(asset_id, at_ms) for at_ms in late]
    for _ in range(2):
        database.write_now(None, lambda session: rollups.roll_up_late(session, stored, now))
    assert rollups_of(database) == [
        (START, 2, 20.0),
        (START + ROLLUP_MS, 1, 30.0),
        (START + 2 * ROLLUP_MS, 1, 1.0),
    ]


def test_what_no_rollup_has_come_to_is_left_to_it(database: Database) -> None:
    """Else it would take the machines beside for rolled up."""
    asset_id, other = asset_of(database), asset_of(database)
    now = START + 9 * ROLLUP_MS
    for at_ms in (START, START + ROLLUP_MS):
        put(database, asset_id, at_ms, cpu=1.0)
        put(database, other, at_ms, cpu=2.0)
    stored = [(asset_id, START)]
    database.write_now(None, lambda session: rollups.roll_up_late(session, stored, now))
    assert rollups_of(database) == []
    database.write_now(None, lambda session: rollups.roll_up(session, now))
    assert len(rollups_of(database)) == 4


def test_late_sample_does_not_replace_a_rollup_whose_samples_are_gone(database: Database) -> None:
    asset_id = asset_of(database)
    now = START + 100 * HOUR_MS
    for n in range(3):
        put(database, asset_id, START + n * 60_000, cpu=10.0)
    database.write_now(None, lambda session: rollups.roll_up(session, now))
    database.write_now(None, lambda s: service.prune(s, now, HOUR_MS, 720 * HOUR_MS))
    put(database, asset_id, START + 200_000, cpu=90.0)
    stored = [(asset_id, START + 200_000)]
    database.write_now(None, lambda session: rollups.roll_up_late(session, stored, now))
    assert rollups_of(database) == [(START, 3, 10.0)]
