"""Sessions with a worker that says whatever a test wants: one end each, and a stream that is whole.

`Reader` is a server: it puts together what it is sent, by offset where it has `resume`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.families import Core
from tests.doubles.pool import WorkerDouble, record_of
from wire.shell import (
    ShellAck,
    ShellClose,
    ShellClosed,
    ShellCredit,
    ShellGap,
    ShellInput,
    ShellOutput,
    ShellResume,
    ShellStart,
)
from workers.jobs import Spool
from workers.messages import (
    Acked,
    CommandEnded,
    Credit,
    End,
    Gap,
    Linked,
    Replay,
    Resize,
    ShellEnded,
    ShellSpec,
)

OURS = frozenset({"ack", "credit", "resume", "base64"})


@pytest.fixture(params=[frozenset(), OURS], ids=["foreign", "ours"])
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    made = Core(features=request.param, places=2)
    yield made
    made.close()


@pytest.fixture
def ours() -> Iterator[Core]:
    made = Core(features=OURS)
    yield made
    made.close()


@pytest.fixture
def foreign() -> Iterator[Core]:
    made = Core()
    yield made
    made.close()


def start(core: Core, session: str = "s") -> WorkerDouble:
    core.shells.on_start(ShellStart(session=session))
    worker = core.pool.workers[-1]
    worker.hello(started=False)
    return worker


def text(core: Core) -> str:
    return "".join(m.data for m in core.said(ShellOutput))


def closed(core: Core) -> list[tuple[str, str | None]]:
    return [(m.session, m.reason) for m in core.said(ShellClosed)]


# -- beginning and end ------------------------------------------------------------------------


def test_shell_output_then_close_then_the_worker_goes(core: Core) -> None:
    worker = start(core)
    worker.prints(0, b"hello")
    worker.ends(ShellEnded(reason="exit", code=3, offset=5))
    assert [type(m) for m in core.uplink.said] == [ShellOutput, ShellClosed]
    (event,) = core.said(ShellClosed)
    assert (event.code, event.reason, event.signal) == (3, "exit", None)
    assert core.pool.released == [worker]
    assert core.slots.taken == 0


def test_shell_close_waits_for_the_last_byte(core: Core) -> None:
    worker = start(core)
    worker.ends(ShellEnded(reason="exit", code=0, offset=5))
    assert closed(core) == []
    worker.prints(0, b"hello")
    assert closed(core) == [("s", "exit")]
    assert isinstance(core.uplink.said[-1], ShellClosed)


def test_shell_half_a_character_at_the_end_is_not_lost(core: Core) -> None:
    worker = start(core)
    worker.prints(0, b"x\xe2\x82")
    worker.ends(ShellEnded(reason="exit", offset=3))
    assert closed(core) == [("s", "exit")]
    assert len(core.said(ShellOutput)) == 2


def test_shell_second_start_on_a_live_session_is_ignored_and_logged(core: Core) -> None:
    start(core)
    core.shells.on_start(ShellStart(session="s"))
    assert len(core.pool.workers) == 1 and core.uplink.said == []
    assert len(core.log.records) == 1


def test_shell_refused_by_policy_asks_for_no_worker_and_no_place(core: Core) -> None:
    core.shell_refusal = ("disabled", None)
    core.shells.on_start(ShellStart(session="s"))
    assert closed(core) == [("s", "disabled")]
    assert core.pool.workers == [] and core.slots.taken == 0


def test_shell_over_the_limit_is_busy_and_a_place_comes_free_once(core: Core) -> None:
    first = start(core, "a")
    start(core, "b")
    core.shells.on_start(ShellStart(session="c"))
    assert closed(core) == [("c", "busy")]
    first.ends(ShellEnded(reason="exit", offset=0))
    first.dies()
    assert core.slots.taken == 1
    start(core, "d")
    assert closed(core) == [("c", "busy"), ("a", "exit")]


@pytest.mark.parametrize(
    "reason, expected",
    [
        ("worker_died", ("worker_died", None)),
        ("worker_stalled", ("worker_stalled", None)),
        ("stalled_io", ("stalled_io", None)),
        ("oom", ("oom", None)),
        ("resources", ("busy", "resources")),
        ("disk_full", ("busy", "disk_full")),
        ("no_user", ("disabled", None)),
    ],
)
def test_shell_lost_worker_closes_its_session_once(
    core: Core, reason: str, expected: tuple[str, str | None]
) -> None:
    worker = start(core)
    worker.dies(reason, signal=9)
    (event,) = core.said(ShellClosed)
    assert event.reason == expected[0]
    if expected[1] is not None:
        assert event.detail == expected[1]
    assert core.slots.taken == 0
    assert core.pool.dropped == [worker.record.job_id]
    core.shells.on_input(ShellInput(session="s", data="x"))
    core.shells.on_close(ShellClose(session="s"))
    assert worker.typed == []


def test_shell_close_asks_once_and_then_insists(core: Core) -> None:
    worker = start(core)
    core.shells.on_close(ShellClose(session="s"))
    assert [m.reason for m in worker.of(End)] == ["closed"]
    core.turn(2.9)
    assert worker.killed == []
    core.turn(0.2)
    assert [gone.reason for gone in worker.killed] == ["closed"]


def test_shell_that_obeyed_is_not_killed(core: Core) -> None:
    worker = start(core)
    core.shells.on_close(ShellClose(session="s"))
    worker.ends(ShellEnded(reason="closed", offset=0))
    core.turn(5.0)
    assert worker.killed == []
    assert closed(core) == [("s", "closed")]


def test_shell_input_after_its_end_is_nothing(core: Core) -> None:
    worker = start(core)
    worker.ends(ShellEnded(reason="exit", offset=99))
    core.shells.on_input(ShellInput(session="s", data="x"))
    assert worker.typed == []


def test_shell_session_is_known_until_its_final_is_stored(core: Core) -> None:
    core.uplink.disk_full = True
    worker = start(core)
    worker.ends(ShellEnded(reason="exit", offset=0))
    assert core.pool.released == []
    core.shells.on_start(ShellStart(session="s"))
    assert len(core.pool.workers) == 1


def test_shell_end_with_the_link_down_waits_for_it(foreign: Core) -> None:
    worker = start(foreign)
    worker.prints(0, b"abc")
    foreign.shells.on_drained("s", 3)
    foreign.uplink.is_up = False
    foreign.shells.on_link_down()
    worker.ends(ShellEnded(reason="exit", offset=6))
    assert closed(foreign) == []
    foreign.uplink.is_up = True
    foreign.shells.on_link_up()
    assert worker.of(Replay)[-1].offset == 3
    worker.prints(3, b"def")
    assert text(foreign) == "abcdef"
    assert closed(foreign) == [("s", "exit")]


# -- windows ----------------------------------------------------------------------------------


def test_shell_credit_is_ours_for_a_foreign_server(foreign: Core) -> None:
    worker = start(foreign)
    assert [m.bytes for m in worker.of(Credit)] == [256 << 10]
    worker.prints(0, b"x" * 100)
    foreign.shells.on_drained("s", 100)
    assert [m.bytes for m in worker.of(Credit)][1:] == [100]
    assert [m.offset for m in worker.of(Acked)] == [100]
    foreign.shells.on_credit(ShellCredit(session="s", bytes=10**9))
    assert len(worker.of(Credit)) == 2


def test_shell_credit_is_the_hub_s_where_it_has_the_feature(ours: Core) -> None:
    worker = start(ours)
    assert [m.bytes for m in worker.of(Credit)] == [64 << 10]
    worker.prints(0, b"x" * 100)
    ours.shells.on_drained("s", 100)
    assert len(worker.of(Credit)) == 1 and worker.of(Acked) == []
    ours.shells.on_credit(ShellCredit(session="s", bytes=7))
    ours.shells.on_ack(ShellAck(session="s", offset=100))
    assert [m.bytes for m in worker.of(Credit)] == [64 << 10, 7]
    assert [m.offset for m in worker.of(Acked)] == [100]


# -- streams that stay whole ------------------------------------------------------------------


def test_shell_output_that_was_under_way_at_a_replay_is_not_taken_for_it(foreign: Core) -> None:
    """The link comes back before the worker's last frames do: the replay alone counts."""
    worker = start(foreign)
    worker.prints(0, b"0123456789")
    foreign.shells.on_drained("s", 4)  # the rest died with the link's send queue
    foreign.uplink.is_up = False
    foreign.shells.on_link_down()
    foreign.uplink.said.clear()
    foreign.uplink.is_up = True
    foreign.shells.on_link_up()
    worker.prints(10, b"abc")  # sent before the worker heard of all that
    worker.prints(4, b"456789abc")
    worker.prints(13, b"def")
    assert text(foreign) == "456789abcdef"


def test_shell_replay_that_overlaps_what_has_come_is_cut(foreign: Core) -> None:
    """All had been drained, so what was under way is the very next: it is not told twice."""
    worker = start(foreign)
    worker.prints(0, b"0123456789")
    foreign.shells.on_drained("s", 10)
    foreign.shells.on_link_down()
    foreign.uplink.said.clear()
    foreign.shells.on_link_up()
    worker.prints(10, b"abc")  # under way
    worker.prints(10, b"abcdef")  # the replay
    worker.prints(16, b"ghi")
    assert text(foreign) == "abcdefghi"


def test_shell_second_hello_of_a_server_tells_nothing_twice(foreign: Core) -> None:
    """`hello_ack` may come late or again: output flows already."""
    worker = start(foreign)
    worker.prints(0, b"0123456789")
    foreign.shells.on_drained("s", 6)
    foreign.shells.on_link_up()
    worker.prints(10, b"abc")  # under way
    for replay in worker.of(Replay):
        worker.prints(replay.offset, (b"0123456789abc")[replay.offset :])
    worker.prints(13, b"def")
    assert text(foreign) == "0123456789abcdef"


def test_shell_resume_sends_from_there_by_offset(ours: Core) -> None:
    worker = start(ours)
    worker.prints(0, b"0123456789")
    ours.shells.on_link_down()
    ours.shells.on_link_up()
    assert worker.of(Replay) == []
    ours.shells.on_resume(ShellResume(session="s", offset=7))
    assert worker.of(Replay)[-1].offset == 7
    worker.prints(10, b"stale")
    worker.prints(7, b"789stale")
    offsets = [(m.offset, m.data) for m in ours.said(ShellOutput)[1:]]
    assert offsets == [(7, "789stale")]


def test_shell_resume_beyond_the_end_loses_nothing_and_ends(ours: Core) -> None:
    """A hub that asks for what was never printed gets what comes, under its true offset."""
    worker = start(ours)
    worker.prints(0, b"0123456789")
    ours.shells.on_resume(ShellResume(session="s", offset=10**9))
    worker.prints(10, b"abc")
    worker.ends(ShellEnded(reason="exit", offset=13))
    assert [(m.offset, m.data) for m in ours.said(ShellOutput)[1:]] == [(10, "abc")]
    assert closed(ours) == [("s", "exit")]


def test_shell_that_nobody_resumes_flows_after_a_while(ours: Core) -> None:
    worker = start(ours)
    worker.prints(0, b"0123")
    ours.shells.on_link_down()
    ours.shells.on_link_up()
    ours.turn(9.9)
    assert worker.of(Replay) == []
    ours.turn(0.2)
    assert len(worker.of(Replay)) == 1


def test_shell_gap_is_an_event_for_ours_and_a_line_for_a_stranger(core: Core) -> None:
    worker = start(core)
    worker.prints(0, b"ab")
    worker.says(Gap(start=2, end=100))
    worker.prints(100, b"cd")
    worker.ends(ShellEnded(reason="exit", offset=102))
    gaps = [(m.start, m.end) for m in core.said(ShellGap)]
    if core.uplink.features:
        assert gaps == [(2, 100)] and text(core) == "abcd"
        assert [m.offset for m in core.said(ShellOutput)] == [0, 100]
    else:
        assert gaps == [] and "98 bytes" in text(core) and text(core).endswith("cd")
    assert closed(core) == [("s", "exit")]


def test_shell_gap_that_was_under_way_at_a_replay_is_not_taken_for_one(ours: Core) -> None:
    worker = start(ours)
    worker.prints(0, b"0123456789")
    ours.shells.on_link_down()
    ours.shells.on_link_up()
    ours.shells.on_resume(ShellResume(session="s", offset=4))
    worker.says(Gap(start=10, end=500))  # from before
    worker.prints(4, b"456789")
    assert ours.said(ShellGap) == []
    assert [(m.offset, m.data) for m in ours.said(ShellOutput)[1:]] == [(4, "456789")]


def test_shell_worker_that_prints_without_leave_does_not_fill_the_queue(core: Core) -> None:
    """Its window is the only thing that bounds our send queue: more is no output of ours."""
    worker = start(core)
    size = 16 << 10
    sent = 0
    for number in range(400):
        worker.prints(number * size, b"x" * size)
        sent += size
        if worker.killed:
            break
    window = 64 << 10 if core.uplink.features else 256 << 10
    assert len(text(core)) <= window + size
    assert [gone.reason for gone in worker.killed] == ["worker_died"]
    assert "ipc_protocol" in (worker.killed[0].detail or "")


# -- adoption, detachment, restart ------------------------------------------------------------


def adopt(core: Core, key: str = "s") -> WorkerDouble:
    wire: dict[str, Any] = {"argv": ["/bin/zsh"], "env": {"A": "b"}, "cwd": "/srv"}
    record = record_of("shell", key, wire)
    worker = core.pool.adopted(record, core.shells)
    core.shells.adopt(worker, record)  # type: ignore[arg-type]
    return worker


def test_shell_adopted_goes_on_from_what_is_kept(foreign: Core) -> None:
    worker = adopt(foreign)
    worker.hello(offset=100, kept_from=60)
    assert worker.of(Replay)[-1].offset == 60
    worker.prints(60, b"x" * 40)
    assert len(text(foreign)) == 40
    assert foreign.slots.taken == 1


def test_shell_adopted_waits_for_the_hub_to_say_from_where(ours: Core) -> None:
    ours.uplink.is_up = False
    worker = adopt(ours)
    worker.hello(offset=100, kept_from=60)
    assert [(s.id, s.state, s.offset) for s in ours.shells.states()] == [("s", "running", 60)]
    ours.uplink.is_up = True
    ours.shells.on_link_up()
    ours.shells.on_resume(ShellResume(session="s", offset=80))
    worker.prints(80, b"y" * 20)
    assert [(m.offset, len(m.data)) for m in ours.said(ShellOutput)] == [(80, 20)]


def test_shell_adopted_beyond_the_limit_counts(core: Core) -> None:
    for key in ("a", "b", "c"):
        adopt(core, key)
    core.shells.on_start(ShellStart(session="d"))
    assert closed(core) == [("d", "busy")]


def test_shell_of_an_earlier_agent_is_reported_once(core: Core) -> None:
    stored: list[str] = []
    ended = Spool(result=ShellEnded(reason="exit", code=4, offset=0))
    core.shells.recover(record_of("shell", "a"), ended, lambda: stored.append("a"))
    core.shells.recover(record_of("shell", "b"), None, lambda: stored.append("b"))
    wrong = Spool(result=CommandEnded(code=0, duration_ms=1))
    core.shells.recover(record_of("shell", "c"), wrong, lambda: stored.append("c"))
    assert closed(core) == [("a", "exit"), ("b", "agent_restarted"), ("c", "agent_restarted")]
    assert stored == ["a", "b", "c"]


def test_shell_unread_output_of_a_spool_goes_before_its_close(core: Core) -> None:
    """What a shell printed last, while there was no agent, is what its user waits for."""
    core.uplink.is_up = False
    ended = ShellEnded(reason="exit", code=0, offset=10)
    spool = Spool(result=ended, offset=0, unread=b"last words")
    core.shells.recover(record_of("shell", "s"), spool, lambda: None)
    core.uplink.is_up = True
    core.shells.on_link_up()
    core.turn(11.0)
    assert text(core) == "last words"
    assert isinstance(core.uplink.said[-1], ShellClosed)


def test_shell_without_a_link_for_long_is_ended_and_one_with_it_again_is_not(core: Core) -> None:
    worker = start(core)
    core.shells.on_link_down()
    core.turn(800.0)
    core.shells.on_link_up()
    core.turn(800.0)
    assert worker.of(End) == []
    core.shells.on_link_down()
    core.shells.on_link_down()
    core.turn(901.0)
    assert [m.reason for m in worker.of(End)] == ["detached_timeout"]


def test_shell_restart_gives_a_new_terminal_where_the_old_one_ended(core: Core) -> None:
    worker = start(core)
    worker.prints(0, b"old")
    assert core.shells.restart(worker.id)
    assert not core.shells.restart(worker.id)
    worker.ends(ShellEnded(reason="restart", offset=3))
    core.turn(1.1)
    renewed = core.pool.workers[-1]
    assert renewed is not worker and renewed.id == worker.id
    spec = renewed.spec
    assert isinstance(spec, ShellSpec) and spec.first_offset == 3 and b"restarted" in spec.notice
    assert core.pool.released == [worker]
    renewed.prints(3, b"new")
    assert text(core) == "oldnew" and closed(core) == []
    assert core.slots.taken == 1
    renewed.ends(ShellEnded(reason="exit", offset=6))
    assert closed(core) == [("s", "exit")] and core.slots.taken == 0


def test_shell_restart_of_a_worker_that_has_to_be_killed(core: Core) -> None:
    worker = start(core)
    assert core.shells.restart(worker.id)
    core.turn(3.1)
    assert [gone.reason for gone in worker.killed] == ["restart"]
    worker.dies("restart", signal=9)
    assert len(core.pool.workers) == 2 and closed(core) == []
    assert core.slots.taken == 1


def test_shell_that_dies_while_it_is_to_be_restarted_is_closed(core: Core) -> None:
    worker = start(core)
    core.shells.restart(worker.id)
    worker.dies("worker_died", signal=9)
    core.turn(5.0)
    assert closed(core) == [("s", "worker_died")]
    assert len(core.pool.workers) == 1 and core.slots.taken == 0


def test_shell_resize_reaches_the_worker(core: Core) -> None:
    from wire.shell import ShellResize

    worker = start(core)
    core.shells.on_resize(ShellResize(session="s", cols=120, rows=40))
    assert [(m.cols, m.rows) for m in worker.of(Resize)] == [(120, 40)]


def test_shell_link_down_tells_the_worker(core: Core) -> None:
    worker = start(core)
    core.shells.on_link_down()
    assert [m.up for m in worker.of(Linked)] == [False]
    worker.prints(0, b"into the ring")
    assert text(core) == ""
