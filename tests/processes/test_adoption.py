"""What an agent leaves behind when it is killed, and what the next one makes of it.

The agents here are the core without a link; a new one on the same directories finds the workers of
the one before it, whose end none of them was told.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.adoption import adopt_all
from agent.commands import Commands
from agent.dirs import Dirs
from agent.limits import RateLimit, Slots
from agent.loner import Loner
from agent.stopping import end_everything
from tests.doubles.endpoint import Endpoint, Generations, generations
from tests.doubles.families import OpenRules, StoredResults
from tests.doubles.pool import record_of
from wire.admin import AdminResult, AdminRun, Command
from wire.shell import (
    ShellClosed,
    ShellCredit,
    ShellGap,
    ShellInput,
    ShellOutput,
    ShellResume,
    ShellStart,
)
from workers import jobs, processes
from workers.jobs import JobRecord
from workers.messages import ShellEnded, TelemetrySpec
from workers.zygote_address import address_of

OURS = frozenset({"ack", "credit", "resume", "base64"})


@pytest.fixture
def agents() -> Iterator[Generations]:
    with generations() as made:
        yield made


class Core:
    """One agent's families, and what it adopted."""

    def __init__(
        self,
        place: Endpoint,
        *,
        argv: list[str] | None = None,
        known: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.place = place
        self.shells = place.shells(argv)
        self.commands = Commands(
            place.loop,
            place.pool,
            place.uplink,
            Slots(place.loop, 4),
            RateLimit(place.loop.clock, 0, 60.0),
            OpenRules(),
            StoredResults(),
            place.log,
        )
        self.adopted = adopt_all(
            place.pool,
            place.state,
            {"shell": self.shells, "admin": self.commands},
            Loner(place.pool),
            known,
            place.log,
        )

    def start(self, session: str = "s", say: str = "") -> None:
        self.shells.on_start(ShellStart(session=session))
        self.type(session, f"echo up-$((40+2)){say}\n")
        self.place.until(lambda: "up-42" in self.text(session))

    def type(self, session: str, data: str) -> None:
        self.shells.on_input(ShellInput(session=session, data=data))

    def text(self, session: str) -> str:
        said = self.place.uplink.of(ShellOutput)
        return "".join(m.data for m in said if m.session == session)

    def closed(self) -> list[tuple[str, str | None]]:
        return [(m.session, m.reason) for m in self.place.uplink.of(ShellClosed)]

    def results(self) -> list[AdminResult]:
        return self.place.uplink.of(AdminResult)


def worker_pid(place: Endpoint) -> int:
    (worker,) = list(place.pool)
    place.until(lambda: worker.pid)
    return worker.pid


def is_gone(pid: int) -> bool:
    return processes.state(pid) in (None, "Z")


def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """Wait with no agent there."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "never came true"
        time.sleep(0.01)
    return found


def records(agents: Generations) -> list[JobRecord]:
    return jobs.read_records(f"{agents.root}/state")[0]


# -- adoption ---------------------------------------------------------------------------------


def test_adopted_shell_goes_on_under_its_session(agents: Generations) -> None:
    first = Core(agents.next())
    first.start()
    first.type("s", "MINE=kept\n")
    pid = worker_pid(first.place)
    second = Core(agents.next())
    assert second.adopted == 1
    assert worker_pid(second.place) == pid
    second.type("s", "echo $MINE-$((40+3)); exit 6\n")
    second.place.until(second.closed)
    assert "kept-43" in second.text("s")
    assert [m.code for m in second.place.uplink.of(ShellClosed)] == [6]
    second.place.until(lambda: not list(second.place.pool))
    second.place.until(lambda: os.listdir(f"{agents.root}/state/jobs") == [])
    assert Core(agents.next()).adopted == 0


def test_adopted_stream_is_byte_identical_for_a_hub_that_resumes(agents: Generations) -> None:
    """Whatever was under way when an agent died comes again, under its offset, without a hole."""
    place = agents.next()
    place.uplink.features = OURS
    script = "for ((i=1; i<=40000; i++)); do echo $i; done; echo the-end; sleep 1000"
    core = Core(place, argv=["/bin/bash", "-c", script])
    reader = Reader()
    core.shells.on_start(ShellStart(session="s"))
    for goal in (20_000, 60_000, 120_000):
        place.until(lambda goal=goal, core=core: reader.read(core) >= goal)  # type: ignore[misc]
        place = agents.next()
        place.uplink.features = OURS
        core = Core(place)
        assert core.adopted == 1
        (worker,) = list(place.pool)
        place.until(lambda worker=worker: worker.has_beaten)  # type: ignore[misc]
        core.shells.on_resume(ShellResume(session="s", offset=reader.end))
        reader.begin_again()
    place.until(lambda: reader.read(core) and "the-end" in reader.text[-400:])
    assert reader.text == "".join(f"{n}\r\n" for n in range(1, 40_001)) + "the-end\r\n"


class Reader:
    """A hub: takes output by offset and grants as much again."""

    def __init__(self) -> None:
        self.text = ""
        self.end = 0
        self._taken = 0

    def begin_again(self) -> None:
        self._taken = 0

    def read(self, core: Core) -> int:
        said = core.place.uplink.said
        for message in said[self._taken :]:
            assert not isinstance(message, ShellGap | ShellClosed), message
            if isinstance(message, ShellOutput):
                assert message.encoding is None and message.offset == self.end
                self.text += message.data
                size = len(message.data.encode())
                self.end += size
                core.shells.on_credit(ShellCredit(session="s", bytes=size))
        self._taken = len(said)
        return self.end


def test_adopted_command_gives_its_result_to_the_agent_that_is_there(
    agents: Generations, tmp_path: Path
) -> None:
    """It runs once: the file it appends to tells."""
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/count\nsleep 1\necho out\nexit 9\n")
    script.chmod(0o755)
    first = Core(agents.next())
    first.place.uplink.features = OURS
    first.commands.on_run(AdminRun(cmd=Command(command=str(script)), token="t", job_id="j1"))
    first.place.until((tmp_path / "count").exists)
    second = Core(agents.next())
    third = Core(agents.next())
    assert (second.adopted, third.adopted) == (1, 1)
    (result,) = third.place.until(third.results)
    assert (result.token, result.job_id, result.command) == ("t", "j1", str(script))
    assert result.result.summary.code == 9 and result.result.stdout == "out\n"
    assert (tmp_path / "count").read_text() == "ran\n"


def test_worker_whose_final_is_known_is_let_go_and_not_reported(agents: Generations) -> None:
    """The agent died between storing a result and telling the worker so."""
    first = agents.next()
    core = Core(first)
    first.uplink.disk_full = True  # the final is handed over, and never confirmed
    core.start(say="; exit")
    first.until(core.closed)
    pid = worker_pid(first)
    (record,) = records(agents)
    second = Core(agents.next(), known=lambda job_id: job_id == record.job_id)
    second.place.until(lambda: is_gone(pid))
    second.place.until(lambda: not list(second.place.pool))
    assert second.place.uplink.said == []
    second.place.until(lambda: records(agents) == [])


def test_finished_worker_without_an_agent_tells_the_next_one(agents: Generations) -> None:
    first = Core(agents.next())
    first.start()
    first.type("s", "sleep 0.3; exit 5\n")
    agents.abandon()
    until(lambda: jobs.read_spool(f"{agents.root}/state", records(agents)[0].job_id))
    second = Core(agents.next())
    second.place.until(second.closed)
    assert [m.code for m in second.place.uplink.of(ShellClosed)] == [5]
    second.place.until(lambda: records(agents) == [])


def test_telemetry_of_an_earlier_agent_is_ended_without_a_word(agents: Generations) -> None:
    first = agents.next()
    spec = TelemetrySpec(interval_s=60.0)
    loner = Loner(first.pool)
    first.pool.spawn("telemetry", "telemetry", spec, loner, {}, lease_s=60.0, durable=False)
    first.until(lambda: records(agents))
    pid = worker_pid(first)
    first.until(lambda: next(iter(first.pool)).has_beaten)
    second = Core(agents.next())
    second.place.until(lambda: is_gone(pid))
    second.place.until(lambda: records(agents) == [])
    assert second.place.uplink.said == []


def test_job_that_was_placed_but_never_begun_is_told_and_its_worker_goes(
    agents: Generations,
) -> None:
    """The agent died between the record and Start: such a worker must not wait for ever."""
    first = agents.next()
    core = Core(first)
    first.disk.submit = lambda task, on_done=None: _now(task)  # type: ignore[method-assign]
    core.shells.on_start(ShellStart(session="s"))
    first.until(lambda: records(agents))
    pid = worker_pid(first)
    second = Core(agents.next())
    assert second.adopted == 1
    second.place.until(second.closed)
    assert second.closed() == [("s", "agent_restarted")]
    second.place.until(lambda: is_gone(pid))
    second.place.until(lambda: not list(second.place.pool))


def _now(task: Callable[[], object]) -> None:
    """The disk does it, and the agent dies before it hears of it."""
    task()


# -- what is not there any more ---------------------------------------------------------------


def lose_everything(agents: Generations, pids: list[int]) -> None:
    """A power cut, with the state directory left."""
    agents.abandon()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(map(is_gone, pids)))


def test_lost_jobs_are_each_reported_once(agents: Generations) -> None:
    first = Core(agents.next())
    first.start()
    first.commands.on_run(AdminRun(cmd=Command(command="/bin/sleep 1000"), token="t"))
    first.place.until(lambda: all(w.has_beaten for w in first.place.pool))
    first.place.until(lambda: len(records(agents)) == 2)
    pids = [w.pid for w in first.place.pool]
    children = [w.child_pid for w in first.place.pool if w.child_pid]
    lose_everything(agents, pids)
    second = Core(agents.next())
    assert second.adopted == 0
    assert second.closed() == [("s", "agent_restarted")]
    (result,) = second.results()
    assert (result.token, result.result.error) == ("t", "unknown_outcome")
    assert result.result.summary.code != 0 and result.result.stderr
    second.place.until(lambda: records(agents) == [])
    second.place.until(lambda: all(map(is_gone, children)))
    third = Core(agents.next())
    assert third.place.uplink.said == []


def test_lost_job_is_reported_again_while_the_disk_is_full(agents: Generations) -> None:
    """Its record goes when the report is stored, not before."""
    first = Core(agents.next())
    first.start()
    lose_everything(agents, [worker_pid(first.place)])
    place = agents.next()
    place.uplink.disk_full = True
    assert Core(place).closed() == [("s", "agent_restarted")]
    assert len(records(agents)) == 1
    assert Core(agents.next()).closed() == [("s", "agent_restarted")]


def decoy() -> int:
    """A process that is nobody's job."""
    return os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})


@pytest.mark.parametrize(
    "changes",
    [{"boot_id": "another boot"}, {"start_time": 1}, {"pid": 2**22 + 7}, {"pid": 0}],
    ids=["boot", "reused", "nobody", "unborn"],
)
def test_record_of_another_process_is_reported_and_nobody_is_signalled(
    agents: Generations, changes: dict[str, Any]
) -> None:
    """The pid of a record is somebody else's by now."""
    state = f"{agents.root}/state"
    os.makedirs(state, 0o700)
    pid = decoy()
    try:
        started = processes.start_time(pid)
        assert started is not None
        true = msgspec.structs.replace(
            record_of("shell", "s"), pid=pid, start_time=started, boot_id=processes.boot_id() or ""
        )
        jobs.place_record(state, msgspec.structs.replace(true, **changes))
        core = Core(agents.next())
        assert core.adopted == 0
        assert core.closed() == [("s", "agent_restarted")]
        core.place.until(lambda: records(agents) == [])
        agents.abandon()
        jobs.place_record(state, msgspec.structs.replace(true, **changes))
        assert end_everything(dirs(agents), 10.0) == []
        assert processes.state(pid) == "S"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_worker_that_is_dead_and_not_reaped_is_not_adopted(agents: Generations) -> None:
    """Its zygote stands still, or is gone: what it left is in its spool, and answers nobody."""
    state = f"{agents.root}/state"
    os.makedirs(state, 0o700)
    pid = decoy()
    started = processes.start_time(pid)
    assert started is not None
    record = record_of("shell", "s")
    jobs.place_record(
        state,
        msgspec.structs.replace(
            record, pid=pid, start_time=started, boot_id=processes.boot_id() or ""
        ),
    )
    spool = jobs.Spool(result=ShellEnded(reason="lease_expired", offset=0))
    fd = jobs.open_spool(jobs.spool_path(state, record.job_id))
    jobs.write_spool(fd, spool)
    os.close(fd)
    os.kill(pid, signal.SIGKILL)
    try:
        until(lambda: processes.state(pid) == "Z")
        core = Core(agents.next())
        assert core.adopted == 0
        assert core.closed() == [("s", "lease_expired")]
    finally:
        os.waitpid(pid, 0)


def test_record_that_makes_no_sense_keeps_no_other_job_from_being_found(
    agents: Generations,
) -> None:
    """Half a record of another version, a torn one, one of an unknown kind: told, and passed."""
    first = Core(agents.next())
    first.start()
    agents.abandon()
    state = f"{agents.root}/state"
    jobs.place_record(state, record_of("admin", "a", {}))
    jobs.place_record(state, record_of("admin", "b", {"request": {"cmd": 5}}))
    jobs.place_record(state, record_of("shell", "c", {"argv": 5, "env": "x"}))
    jobs.place_record(state, record_of("of-another-version", "d", {}))
    Path(f"{state}/jobs/e.job").write_bytes(b"\x81\xa6job_id")
    core = Core(agents.next())
    assert core.adopted == 1
    core.type("s", "echo still-$((40+3))\n")
    core.place.until(lambda: "still-43" in core.text("s"))
    assert ("c", "agent_restarted") in core.closed()
    assert len([r for r in core.place.log.records if r[0] == "error"]) >= 3


# -- without an agent -------------------------------------------------------------------------


def test_worker_without_an_agent_ends_with_its_lease_and_leaves_its_result(
    agents: Generations,
) -> None:
    place = agents.next()
    shells = place.shells(lease_s=1.0)
    shells.on_start(ShellStart(session="s"))
    place.until(lambda: place.uplink.of(ShellOutput))
    pid = worker_pid(place)
    child = next(iter(place.pool)).child_pid
    assert child is not None
    (record,) = place.until(lambda: records(agents))
    agents.abandon()
    until(lambda: is_gone(pid) and is_gone(child))
    spool = jobs.read_spool(f"{agents.root}/state", record.job_id)
    assert spool is not None and isinstance(spool.result, ShellEnded)
    assert spool.result.reason == "lease_expired"
    core = Core(agents.next())
    core.place.until(core.closed)  # after its unread output
    assert core.closed() == [("s", "lease_expired")]
    core.place.until(lambda: os.listdir(f"{agents.root}/state/jobs") == [])


def test_worker_that_is_adopted_in_time_does_not_end_with_its_lease(agents: Generations) -> None:
    place = agents.next()
    shells = place.shells(lease_s=2.0)
    shells.on_start(ShellStart(session="s"))
    place.until(lambda: place.uplink.of(ShellOutput))
    place.until(lambda: records(agents))
    core = Core(agents.next())
    core.place.until(lambda: all(w.has_beaten for w in core.place.pool))
    deadline_s = time.monotonic() + 3.0
    while time.monotonic() < deadline_s:
        core.place.loop.turn(0.05)
    core.type("s", "echo still-$((40+3))\n")
    core.place.until(lambda: "still-43" in core.text("s"))


def test_zygote_ends_when_no_agent_comes_back_and_nothing_is_left(agents: Generations) -> None:
    place = agents.next()
    zygote = place.until(lambda: place.nursery.pid)
    agents.abandon()
    until(lambda: reaped(zygote))
    assert not os.path.exists(address_of(f"{agents.root}/run", "test"))


def test_zygote_stays_for_a_job_on_lease_and_not_for_the_report_of_its_end(
    agents: Generations,
) -> None:
    place = agents.next()
    shells = place.shells(lease_s=1.0)
    shells.on_start(ShellStart(session="s"))
    place.until(lambda: place.uplink.of(ShellOutput))
    pid, zygote = worker_pid(place), place.nursery.pid
    assert zygote is not None
    agents.abandon()
    until(lambda: is_gone(pid))
    until(lambda: reaped(zygote))


def reaped(pid: int) -> bool:
    """It is this process's child."""
    return os.waitpid(pid, os.WNOHANG)[0] == pid


# -- `jackline stop` with no agent running ----------------------------------------------------


def dirs(agents: Generations) -> Dirs:
    root = Path(agents.root)
    return Dirs(config=root, state=root / "state", run=root / "run", log=root)


def left_of(agents: Generations) -> list[str]:
    """Every process that has our directory in its command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if f"{agents.root}/".encode() in command and int(name) != os.getpid():
            found.append(command.replace(b"\0", b" ").decode())
    return found


def collect() -> None:
    """The zygotes are this process's children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def test_stop_without_an_agent_leaves_nothing_and_is_quick_about_it(agents: Generations) -> None:
    core = Core(agents.next())
    for session in ("a", "b", "c"):
        core.start(session)
    core.type("b", "trap '' HUP TERM; setsid sleep 1000 & echo deaf-$((1+1))\n")
    core.place.until(lambda: "deaf-2" in core.text("b"))
    core.place.until(lambda: len(records(agents)) == 3)
    pids = [pid for w in core.place.pool for pid in (w.pid, w.child_pid) if pid]
    agents.abandon()
    begun_s = time.monotonic()
    assert end_everything(dirs(agents), 30.0) == []
    took_s = time.monotonic() - begun_s
    assert all(map(is_gone, pids))
    collect()
    assert left_of(agents) == []
    assert took_s < 5.0  # a closed shell is killed after 1 s; what obeys is not waited for
    second = Core(agents.next())
    second.place.until(lambda: len(second.closed()) == 3)
    assert sorted(second.closed()) == [(key, "agent_stopped") for key in ("a", "b", "c")]


def test_stop_without_an_agent_ends_what_is_stopped(agents: Generations) -> None:
    core = Core(agents.next())
    core.start("a")
    pid = worker_pid(core.place)
    zygote = core.place.until(lambda: core.place.nursery.pid)
    core.place.until(lambda: records(agents))
    agents.abandon()
    os.kill(pid, signal.SIGSTOP)
    os.kill(zygote, signal.SIGSTOP)
    assert end_everything(dirs(agents), 30.0) == []
    assert is_gone(pid)
    until(lambda: is_gone(zygote))
    collect()
    assert left_of(agents) == []


def test_stop_twice_or_with_nothing_there_is_nothing(agents: Generations) -> None:
    assert end_everything(dirs(agents), 5.0) == []
    agents.next()
    agents.abandon()
    assert end_everything(dirs(agents), 5.0) == []
    assert end_everything(dirs(agents), 5.0) == []
