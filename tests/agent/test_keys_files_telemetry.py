"""Keys, files and telemetry with workers that say whatever a test wants: one answer each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agent.limits import MOST_WAITING
from tests.doubles.families import Core
from tests.doubles.pool import record_of
from wire.files import (
    DirListRequest,
    DirListResponse,
    LogTailClosed,
    LogTailOutput,
    LogTailStart,
    LogTailStop,
)
from wire.keys import KeysSyncResult, SyncKeys
from wire.telemetry import Stats
from workers.jobs import Spool
from workers.messages import (
    End,
    Entry,
    KeysEnded,
    Listed,
    Sample,
    Sampled,
    ShellEnded,
    Stopped,
    TailEnded,
    TailText,
)


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core()
    yield made
    made.close()


# -- keys -------------------------------------------------------------------------------------


def sync(core: Core, user: str = "someone") -> Any:
    core.keys.on_sync(SyncKeys(user=user))
    core.turn()
    return core.pool.workers[-1]


def test_keys_result_is_final_and_the_worker_goes_when_it_is_stored(core: Core) -> None:
    worker = sync(core)
    core.uplink.disk_full = True
    worker.ends(KeysEnded(ok=True, added=2, rejected=1, duration_ms=5))
    (answer,) = core.uplink.finals
    assert answer == KeysSyncResult(ok=True, user="someone", added=2, ms=5, rejected=1)
    assert core.pool.released == []


def test_keys_syncs_come_one_after_the_other(core: Core) -> None:
    first = sync(core, "a")
    for user in ("b", "c"):
        core.keys.on_sync(SyncKeys(user=user))
    core.turn()
    assert [w.record.wire["user"] for w in core.pool.workers] == ["a"]
    first.ends(KeysEnded(ok=True))
    core.turn()
    assert [w.record.wire["user"] for w in core.pool.workers] == ["a", "b"]
    core.pool.workers[1].dies()
    core.turn()
    assert [w.record.wire["user"] for w in core.pool.workers] == ["a", "b", "c"]


def test_keys_sync_in_line_is_refused_on_a_machine_that_was_paused_meanwhile(core: Core) -> None:
    first = sync(core, "a")
    core.keys.on_sync(SyncKeys(user="b"))
    core.refusal = "locked_by_host"
    first.ends(KeysEnded(ok=True))
    core.turn()
    assert len(core.pool.workers) == 1
    assert [(each.user, each.error) for each in core.said(KeysSyncResult)] == [
        ("a", None), ("b", "locked_by_host"),
    ]  # fmt: skip


def test_keys_line_has_an_end(core: Core) -> None:
    for _ in range(MOST_WAITING + 1):
        core.keys.on_sync(SyncKeys(user="b"))
    assert [each.error for each in core.said(KeysSyncResult)] == ["busy"]


def test_keys_sync_that_waited_too_long_is_busy(core: Core) -> None:
    sync(core, "a")
    core.keys.on_sync(SyncKeys(user="b"))
    core.turn(61.0)
    (answer,) = core.said(KeysSyncResult)
    assert (answer.user, answer.error) == ("b", "busy")
    core.pool.workers[0].ends(KeysEnded(ok=True))
    core.turn()
    assert len(core.pool.workers) == 1


@pytest.mark.parametrize(
    "reason, error",
    [
        ("worker_died", "worker_died"),
        ("worker_stalled", "timeout"),
        ("stalled_io", "timeout"),
        ("resources", "busy"),
        ("no_user", "no_user"),
    ],
)
def test_keys_lost_worker_is_told_in_the_family_s_words(
    core: Core, reason: str, error: str
) -> None:
    sync(core).dies(reason, detail="why")
    (answer,) = core.uplink.finals
    assert (answer.ok, answer.error, answer.detail) == (False, error, "why")
    assert len(core.pool.dropped) == 1


def test_keys_refused_sync_asks_for_no_worker(core: Core) -> None:
    core.refusal = "policy_denied"
    core.keys.on_sync(SyncKeys(user="x"))
    core.turn()
    (answer,) = core.uplink.finals
    assert (answer.ok, answer.error) == (False, "policy_denied")
    assert core.pool.workers == []


def test_keys_of_an_earlier_agent_are_reported_once(core: Core) -> None:
    spooled, lost = record_of("keys", "a", {"user": "a"}), record_of("keys", "b", {"user": "b"})
    stored: list[str] = []
    core.keys.recover(
        spooled, Spool(result=KeysEnded(ok=True, added=1)), lambda: stored.append("a")
    )
    core.keys.recover(lost, None, lambda: stored.append("b"))
    wrong = record_of("keys", "c", {"user": "c"})
    core.keys.recover(wrong, Spool(result=ShellEnded(reason="exit")), lambda: stored.append("c"))
    assert [(m.user, m.ok, m.error) for m in core.uplink.finals] == [
        ("a", True, None),
        ("b", False, "unknown_outcome"),
        ("c", False, "unknown_outcome"),
    ]
    assert stored == ["a", "b", "c"]


def test_keys_adopted_sync_holds_the_line_and_is_answered(core: Core) -> None:
    record = record_of("keys", "a", {"user": "a"})
    worker = core.pool.adopted(record, core.keys)
    core.keys.adopt(worker, record)  # type: ignore[arg-type]
    core.keys.on_sync(SyncKeys(user="b"))
    core.turn()
    assert len(core.pool.workers) == 1
    worker.ends(KeysEnded(ok=True, added=3))
    core.turn()
    assert [m.user for m in core.uplink.finals] == ["a"]
    assert [w.record.wire["user"] for w in core.pool.workers] == ["a", "b"]


# -- files ------------------------------------------------------------------------------------


def tail(core: Core, session: str = "t", lines: int | None = None) -> Any:
    core.files.on_tail_start(LogTailStart(session=session, lines=lines))
    return core.pool.workers[-1]


@pytest.mark.parametrize("asked, given", [(None, 10), (0, 1), (-5, 1), (7, 7), (201, 200)])
def test_tail_lines_are_held_to_their_bounds(core: Core, asked: int | None, given: int) -> None:
    assert tail(core, lines=asked).spec.lines == given


def test_tail_sends_lines_and_then_its_end_once(core: Core) -> None:
    worker = tail(core)
    worker.says(TailText(data="one\n"))
    core.files.on_tail_stop(LogTailStop(session="t"))
    assert [m.reason for m in worker.of(End)] == ["stopped"]
    worker.ends(TailEnded(reason="stopped"))
    output, closed = core.uplink.said
    assert isinstance(output, LogTailOutput) and isinstance(closed, LogTailClosed)
    assert closed.reason == "stopped"
    assert core.pool.released == [worker]
    assert core.uplink.finals == []


def test_tail_second_start_on_a_live_session_is_ignored(core: Core) -> None:
    tail(core)
    core.files.on_tail_start(LogTailStart(session="t"))
    assert len(core.pool.workers) == 1 and core.uplink.said == []


def test_tail_fifth_is_busy_until_one_ends(core: Core) -> None:
    first = tail(core, "t0")
    for number in range(1, 5):
        core.files.on_tail_start(LogTailStart(session=f"t{number}"))
    assert [(m.session, m.reason) for m in core.said(LogTailClosed)] == [("t4", "busy")]
    first.dies()
    tail(core, "t4")
    assert len(core.pool.workers) == 5


def test_tail_of_a_rotated_log_goes_on_under_the_same_session(core: Core) -> None:
    worker = tail(core)
    worker.ends(TailEnded(reason="rotated"))
    assert len(core.pool.workers) == 2 and core.uplink.said == []
    assert core.pool.workers[1].spec.from_start
    core.pool.workers[1].says(TailText(data="new\n"))
    assert [m.session for m in core.said(LogTailOutput)] == ["t"]


def test_tail_that_nobody_reads_is_left_out_not_queued(core: Core) -> None:
    worker = tail(core)
    for _ in range(200):
        worker.says(TailText(data="x" * 10_000))
    queued = sum(len(m.data) for m in core.said(LogTailOutput))
    assert queued <= (256 << 10) + 10_000
    core.files.on_drained("t", queued)  # a shell of that name
    worker.says(TailText(data="still too much"))
    assert core.said(LogTailOutput)[-1].data != "still too much"
    core.files.on_drained("tail\nt", queued)
    worker.says(TailText(data="again"))
    assert core.said(LogTailOutput)[-1].data == "again"


def test_tail_ends_with_the_link(core: Core) -> None:
    worker = tail(core)
    core.files.on_link_down()
    assert [m.reason for m in worker.of(End)] == ["link_lost"]


def test_tail_whose_worker_dies_is_closed(core: Core) -> None:
    tail(core).dies()
    (closed,) = core.said(LogTailClosed)
    assert closed.reason == "worker_died"
    assert len(core.pool.dropped) == 1


def listing(core: Core, request_id: str = "r", mode: str = "local") -> None:
    core.files.on_list(DirListRequest(client_id="c", request_id=request_id, mode=mode, path="/x"))


def test_listing_comes_back_under_its_request(core: Core) -> None:
    listing(core)
    (worker,) = core.pool.workers
    entries = [Entry(name="d", is_dir=True), Entry(name="f", is_dir=False, size=3)]
    worker.ends(Listed(entries=entries, truncated=True))
    (answer,) = core.said(DirListResponse)
    assert (answer.client_id, answer.request_id, answer.path) == ("c", "r", "/x")
    assert [(e.name, e.type, e.size) for e in answer.entries] == [
        ("d", "dir", None),
        ("f", "file", 3),
    ]
    assert answer.truncated


@pytest.mark.parametrize(
    "reason, error", [("worker_died", "worker_died"), ("stalled_io", "timeout")]
)
def test_listing_whose_worker_is_lost_is_answered(core: Core, reason: str, error: str) -> None:
    listing(core)
    core.pool.workers[0].dies(reason)
    (answer,) = core.said(DirListResponse)
    assert (answer.error, answer.entries) == (error, ())


def test_listing_with_a_wrong_result_is_answered(core: Core) -> None:
    listing(core)
    core.pool.workers[0].ends(Stopped())
    (answer,) = core.said(DirListResponse)
    assert answer.error == "failed"


def test_listing_refused_ninth_and_foreign_mode(core: Core) -> None:
    listing(core, mode="ssh")
    assert core.said(DirListResponse)[0].error == "bad_mode"
    for number in range(9):
        listing(core, f"r{number}")
    assert [(m.request_id, m.error) for m in core.said(DirListResponse)[1:]] == [("r8", "busy")]
    core.refusal = "policy_denied"
    listing(core, "r9")
    assert core.said(DirListResponse)[-1].error == "policy_denied"


def test_listings_under_one_request_id_are_each_answered(core: Core) -> None:
    listing(core)
    listing(core)
    for worker in list(core.pool.workers):
        worker.ends(Listed())
    assert len(core.said(DirListResponse)) == 2


# -- telemetry --------------------------------------------------------------------------------


def started(core: Core) -> Any:
    core.telemetry.start()
    return core.pool.workers[-1]


def test_telemetry_newest_sample_goes_out(core: Core) -> None:
    worker = started(core)
    worker.says(Sampled(data={"cpu": 1.5, "hostname": "h"}))
    (stats,) = core.said(Stats)
    assert (stats.data.cpu, stats.data.hostname, stats.data.agent_version) == (1.5, "h", "1.0")
    assert stats.data.ts


def test_telemetry_without_a_link_says_nothing(core: Core) -> None:
    worker = started(core)
    core.uplink.is_up = False
    worker.says(Sampled(data={"cpu": 1.0}))
    assert core.uplink.said == []


@pytest.mark.parametrize("data", [{"cpu": "hot"}, {"disk": 5}, {"mem": []}, {1: 2}])
def test_telemetry_sample_that_is_none_is_dropped_and_logged(core: Core, data: Any) -> None:
    worker = started(core)
    worker.says(Sampled(data=data))
    worker.says(Sampled(data={"cpu": 1.0}))
    assert len(core.said(Stats)) == 1
    assert [level for level, *_ in core.log.records] == ["error"]


def test_telemetry_asks_for_a_sample_at_hello(core: Core) -> None:
    core.telemetry.on_hello()
    worker = started(core)
    core.telemetry.on_hello()
    assert len(worker.of(Sample)) == 1


def test_telemetry_comes_back_ever_more_slowly(core: Core) -> None:
    """At once, then after 1, 2, 4 … 30 s; and at once again after a good minute."""
    started(core)
    waits = []
    for _ in range(9):
        count = len(core.pool.workers)
        core.pool.workers[-1].dies()
        waited = 0
        while len(core.pool.workers) == count:
            core.turn()
            if len(core.pool.workers) == count:
                waited += 1
                core.clock.now_s += 1.0
        waits.append(waited)
    assert waits == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    core.clock.now_s += 61.0
    core.pool.workers[-1].dies()
    core.turn()
    assert len(core.pool.workers) == 11


def test_telemetry_restart_kills_a_worker_that_may_not_obey(core: Core) -> None:
    worker = started(core)
    core.telemetry.restart()
    assert [gone.reason for gone in worker.killed] == ["restart"]
    worker.dies("restart")
    core.turn()
    assert len(core.pool.workers) == 2


def test_telemetry_restart_by_an_admin_does_not_wait(core: Core) -> None:
    """However often it died before: somebody asks for it now."""
    started(core)
    for _ in range(4):
        core.pool.workers[-1].dies()
        core.turn(31.0)
    count = len(core.pool.workers)
    core.telemetry.restart()
    core.pool.workers[-1].dies("restart")
    core.turn()
    assert len(core.pool.workers) == count + 1


def test_telemetry_stopped_stays_stopped(core: Core) -> None:
    worker = started(core)
    core.telemetry.stop()
    assert len(worker.of(End)) == 1
    worker.ends(Stopped())
    core.turn(60.0)
    core.telemetry.start()
    assert len(core.pool.workers) == 1


def test_telemetry_end_of_an_older_worker_changes_nothing(core: Core) -> None:
    first = started(core)
    first.dies()
    core.turn()
    first.dies()
    core.turn(60.0)
    assert len(core.pool.workers) == 2
