"""What workers and zygotes can do to the agent's core: die, stop, hang, fail to begin."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.shells import Shells
from agent.watchdog import Patience
from agent.worker import Gone, Worker
from tests.doubles.endpoint import Endpoint, endpoint, generations
from tests.facilities import only_if, require_root
from wire.shell import ShellClose, ShellClosed, ShellInput, ShellOutput, ShellStart
from workers import processes
from workers.messages_zygote import Spawn, Spawned
from workers.program import own_command
from workers.queues_posix import bind
from workers.zygote_address import address_of

# A worker beats every 2 s: this is the shortest silence that is none.
SHORT = Patience(stall_s=4.0, stall_io_s=3.0, stall_busy_s=20.0)


@pytest.fixture
def place() -> Iterator[Endpoint]:
    with endpoint(patience=SHORT, answer_s=1.0) as built:
        yield built


def output(place: Endpoint, session: str) -> str:
    return "".join(m.data for m in place.uplink.of(ShellOutput) if m.session == session)


def closed(place: Endpoint, session: str) -> ShellClosed | None:
    found = [m for m in place.uplink.of(ShellClosed) if m.session == session]
    assert len(found) <= 1, found
    return found[0] if found else None


def echo(place: Endpoint, shells: Shells, session: str, word: str) -> None:
    """Type something whose answer is not its own echo."""
    shells.on_input(ShellInput(session=session, data=f"echo {word}-$((40+2))\n"))
    place.until(lambda: f"{word}-42" in output(place, session))


def open_shell(place: Endpoint, shells: Shells, session: str) -> Worker:
    shells.on_start(ShellStart(session=session))
    echo(place, shells, session, "up")
    return worker_of(place, session)


def worker_of(place: Endpoint, session: str) -> Worker:
    (found,) = [w for w in place.pool if w.record.key == session]
    return found


def is_gone(pid: int) -> bool:
    return processes.state(pid) in (None, "Z")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# -- death ------------------------------------------------------------------------------------


@pytest.mark.family("workers")
def test_killed_workers_are_each_told_and_leave_nothing(place: Endpoint, soak: bool) -> None:
    """Kill after kill: every session is told, descriptors and memory stay what they were."""
    kills = 280 if soak else 25
    shells = place.shells(limit=4)
    chosen = random.Random(4)
    live: list[str] = []
    count = 0
    marks: list[tuple[int, int]] = []
    for number in range(kills):
        while len(live) < 3:
            count += 1
            live.append(f"s{count}")
            shells.on_start(ShellStart(session=live[-1]))
        if number % 3:
            echo(place, shells, live[-1], f"k{number}")
        victim = live.pop(chosen.randrange(len(live)))
        worker = worker_of(place, victim)
        place.until(lambda worker=worker: worker.has_beaten)  # type: ignore[misc]
        os.kill(worker.pid, signal.SIGKILL)
        place.until(lambda victim=victim: closed(place, victim))  # type: ignore[misc]
        told = closed(place, victim)
        assert told is not None and (told.reason, told.signal) == ("worker_died", 9)
        place.uplink.said.clear()
        place.uplink.finals.clear()
        place.log.records.clear()
        if number >= kills // 3:
            place.until(lambda: len(list(place.pool)) == 2)
            marks.append((descriptors(), resident_bytes()))
    zygote = place.nursery.pid
    assert place.nursery.restarts == 0 and zygote is not None
    assert max(fds for fds, _ in marks) - min(fds for fds, _ in marks) <= 8  # three are starting
    assert marks[-1][0] <= marks[0][0] + 4
    assert marks[-1][1] - marks[0][1] < 4 << 20
    place.until(lambda: len(os.listdir(f"{place.state}/jobs")) <= 2 * 2)
    assert len(os.listdir(place.run)) <= 3


def test_worker_killed_while_it_floods_disturbs_no_other(place: Endpoint) -> None:
    shells = place.shells()
    open_shell(place, shells, "quiet")
    noisy = open_shell(place, shells, "noisy")
    shells.on_input(ShellInput(session="noisy", data="yes\n"))
    place.until(lambda: len(output(place, "noisy")) > 200_000)
    os.kill(noisy.pid, signal.SIGKILL)
    place.until(lambda: closed(place, "noisy"))
    echo(place, shells, "quiet", "after")
    assert closed(place, "quiet") is None


def test_worker_killed_before_it_was_dialled_is_told(place: Endpoint) -> None:
    shells = place.shells()
    kill_at_birth(place, times=1)
    shells.on_start(ShellStart(session="s"))
    told = place.until(lambda: closed(place, "s"))
    assert told.reason == "worker_died"
    place.until(lambda: not list(place.pool))
    open_shell(place, shells, "t")


def kill_at_birth(place: Endpoint, times: int) -> list[int]:
    """Kill each of the next workers before it can say anything."""
    ask = place.nursery.spawn
    killed: list[int] = []

    def spawn(request: Spawn, on_answer: Callable[[Any], object]) -> None:
        def answer(answer: Any) -> None:
            if isinstance(answer, Spawned) and len(killed) < times:
                os.kill(answer.pid, signal.SIGKILL)
                killed.append(answer.pid)
            on_answer(answer)

        ask(request, answer)

    place.nursery.spawn = spawn  # type: ignore[method-assign, assignment]
    return killed


def test_kind_that_dies_five_times_at_birth_is_given_up_until_an_admin_says_so(
    place: Endpoint,
) -> None:
    shells = place.shells()
    killed = kill_at_birth(place, times=5)
    for number in range(8):
        shells.on_start(ShellStart(session=f"s{number}"))
        place.until(lambda number=number: closed(place, f"s{number}"))  # type: ignore[misc]
    assert len(killed) == 5
    assert place.pool.fatal == {"shell"}
    reasons = [(m.reason, m.detail) for m in place.uplink.of(ShellClosed)]
    assert [reason for reason, _ in reasons[:5]] == ["worker_died"] * 5
    assert reasons[5:] == [("busy", "resources")] * 3
    assert list(place.pool) == []
    place.pool.fatal.discard("shell")
    open_shell(place, shells, "again")


def test_workers_that_die_later_do_not_make_a_kind_fatal(place: Endpoint) -> None:
    shells = place.shells()
    for number in range(6):
        worker = open_shell(place, shells, f"s{number}")
        os.kill(worker.pid, signal.SIGKILL)
        place.until(lambda number=number: closed(place, f"s{number}"))  # type: ignore[misc]
    assert place.pool.fatal == set()


def test_jobs_refused_for_want_of_a_disk_do_not_make_a_kind_fatal(place: Endpoint) -> None:
    """The disk may have room again in a minute; nobody has to come and say so."""
    shells = place.shells()
    Path(f"{place.state}/jobs").write_bytes(b"a file stands in the way")
    for number in range(6):
        shells.on_start(ShellStart(session=f"s{number}"))
        place.until(lambda number=number: closed(place, f"s{number}"))  # type: ignore[misc]
    assert {m.reason for m in place.uplink.of(ShellClosed)} == {"busy"}
    os.unlink(f"{place.state}/jobs")
    open_shell(place, shells, "again")


# -- hangs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "flooding"])
def test_stopped_worker_is_killed_as_stalled_in_time(place: Endpoint, busy: bool) -> None:
    """What it did before does not matter: it is stopped."""
    shells = place.shells()
    open_shell(place, shells, "other")
    worker = open_shell(place, shells, "s")
    child = worker.child_pid
    assert child is not None
    if busy:
        shells.on_input(ShellInput(session="s", data="yes\n"))
        place.until(lambda: len(output(place, "s")) > 1_000_000)
        place.uplink.said.clear()
    os.kill(worker.pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    told = place.until(lambda: closed(place, "s"))
    assert told.reason == "worker_stalled"
    assert time.monotonic() - stopped_s < SHORT.stall_s + 2.0
    place.until(lambda: is_gone(worker.pid) and is_gone(child))
    echo(place, shells, "other", "still")
    open_shell(place, shells, "new")


def test_stopped_worker_that_goes_on_in_time_is_left_alone(place: Endpoint) -> None:
    shells = place.shells()
    worker = open_shell(place, shells, "s")
    for _ in range(2):
        os.kill(worker.pid, signal.SIGSTOP)
        wait(place, SHORT.stall_s / 2)
        os.kill(worker.pid, signal.SIGCONT)
        wait(place, 2.5)  # a beat comes
    echo(place, shells, "s", "alive")
    assert closed(place, "s") is None


def wait(place: Endpoint, seconds: float) -> None:
    """Let time pass: what is tested is that nothing happens, or only then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        place.loop.turn(0.05)


def test_stopped_agent_does_not_take_its_workers_for_hung(place: Endpoint) -> None:
    """Its own sleep is nobody's silence: the beats are there when it wakes."""
    shells = place.shells()
    open_shell(place, shells, "s")
    time.sleep(SHORT.stall_s + 2.0)  # this process is the agent: it does nothing meanwhile
    echo(place, shells, "s", "awake")
    wait(place, 1.0)
    assert closed(place, "s") is None


def test_closing_a_stopped_worker_kills_it(place: Endpoint) -> None:
    shells = place.shells()
    worker = open_shell(place, shells, "s")
    os.kill(worker.pid, signal.SIGSTOP)
    shells.on_close(ShellClose(session="s"))
    told = place.until(lambda: closed(place, "s"))
    assert told.reason == "closed"
    place.until(lambda: is_gone(worker.pid))
    place.until(lambda: not list(place.pool))


def test_finished_worker_that_does_not_go_is_killed(place: Endpoint) -> None:
    """It has given its result; then it hangs: the session is over, and the process must be, too."""
    shells = place.shells()
    worker = open_shell(place, shells, "s")
    place.uplink.disk_full = True
    shells.on_input(ShellInput(session="s", data="exit 5\n"))
    place.until(lambda: closed(place, "s"))
    os.kill(worker.pid, signal.SIGSTOP)
    place.pool.release(worker)
    place.until(lambda: is_gone(worker.pid))
    place.until(lambda: not list(place.pool))


def test_worker_killed_before_it_exists_does_not_live(place: Endpoint) -> None:
    """A restart may come while the zygote has not answered yet."""
    shells = place.shells()
    shells.on_start(ShellStart(session="s"))
    (worker,) = list(place.pool)
    assert worker.pid == 0
    worker.kill(Gone(reason="restart"))
    place.until(lambda: not list(place.pool))
    assert worker.pid and is_gone(worker.pid)


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A version 1 freezer: what is frozen there is in D state, and SIGKILL does not end it."""
    require_root()
    root = Path("/sys/fs/cgroup/freezer")
    only_if((root / "cgroup.procs").exists(), "no version 1 freezer")
    made = root / f"jackline-test-{os.getpid()}"
    made.mkdir()
    yield made
    (made / "freezer.state").write_text("THAWED")
    deadline_s = time.monotonic() + 20
    while (made / "cgroup.procs").read_text() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    made.rmdir()


def freeze(freezer: Path, pid: int) -> None:
    (freezer / "cgroup.procs").write_text(str(pid))
    (freezer / "freezer.state").write_text("FROZEN")
    while (freezer / "freezer.state").read_text().strip() != "FROZEN":
        time.sleep(0.01)
    assert processes.state(pid) == "D"


def test_worker_stuck_in_the_kernel_is_detached_and_its_place_freed(
    place: Endpoint, freezer: Path
) -> None:
    shells = place.shells(limit=1)
    worker = open_shell(place, shells, "s")
    freeze(freezer, worker.pid)
    told = place.until(lambda: closed(place, "s"))
    assert told.reason == "stalled_io"
    assert not is_gone(worker.pid)
    place.until(lambda: not list(place.pool))
    open_shell(place, shells, "new")
    (freezer / "freezer.state").write_text("THAWED")
    place.until(lambda: is_gone(worker.pid))


def test_closing_a_worker_stuck_in_the_kernel_frees_its_place(
    place: Endpoint, freezer: Path
) -> None:
    """SIGKILL waits for the disk as the job does; the operator does not."""
    shells = place.shells(limit=1)
    worker = open_shell(place, shells, "s")
    freeze(freezer, worker.pid)
    shells.on_close(ShellClose(session="s"))
    told = place.until(lambda: closed(place, "s"))
    assert told.reason in ("closed", "stalled_io")
    open_shell(place, shells, "new")
    place.until(lambda: len(list(place.pool)) == 1)


# -- the zygote -------------------------------------------------------------------------------


def zygote_pid(place: Endpoint) -> int:
    found = place.until(lambda: place.nursery.pid)
    assert isinstance(found, int)
    return found


def test_killed_zygote_leaves_its_workers_and_a_new_one_comes(place: Endpoint) -> None:
    shells = place.shells()
    worker = open_shell(place, shells, "s")
    first = zygote_pid(place)
    os.kill(first, signal.SIGKILL)
    place.until(lambda: zygote_pid(place) != first)
    echo(place, shells, "s", "orphan")
    open_shell(place, shells, "t")
    os.kill(worker.pid, signal.SIGKILL)
    told = place.until(lambda: closed(place, "s"))
    assert told.reason == "worker_died"
    shells.on_input(ShellInput(session="t", data="exit 7\n"))
    assert place.until(lambda: closed(place, "t")).code == 7


def test_zygote_killed_with_requests_open_is_asked_again(place: Endpoint) -> None:
    shells = place.shells()
    os.kill(zygote_pid(place), signal.SIGSTOP)
    shells.on_start(ShellStart(session="s"))
    os.kill(zygote_pid(place), signal.SIGKILL)
    echo(place, shells, "s", "late")


def test_stopped_zygote_is_replaced_and_says_busy_once(place: Endpoint) -> None:
    shells = place.shells()
    open_shell(place, shells, "old")
    first = zygote_pid(place)
    os.kill(first, signal.SIGSTOP)
    shells.on_start(ShellStart(session="s"))
    told = place.until(lambda: closed(place, "s"))
    assert (told.reason, told.detail) == ("busy", "resources")
    place.until(lambda: is_gone(first))
    open_shell(place, shells, "new")
    echo(place, shells, "old", "still")


def test_stopped_zygote_of_an_earlier_agent_is_replaced() -> None:
    """It has never said its pid to this agent."""
    with generations(answer_s=1.0) as agents:
        first = agents.next()
        open_shell(first, first.shells(), "s")
        old = zygote_pid(first)
        agents.abandon()
        os.kill(old, signal.SIGSTOP)
        try:
            second = agents.next()
            shells = second.shells()
            shells.on_start(ShellStart(session="a"))
            second.until(lambda: closed(second, "a"))
            open_shell(second, shells, "b")
        finally:
            os.kill(old, signal.SIGCONT)
        wait(second, 0.5)
        open_shell(second, shells, "c")
        assert os.path.exists(address_of(second.run, "test"))


def test_zygote_that_speaks_nonsense_is_replaced(place: Endpoint) -> None:
    shells = place.shells()
    first = zygote_pid(place)
    mailbox = place.nursery._mailbox
    assert mailbox is not None
    mailbox.on_frame(2, b"\xc1 no message")
    place.until(lambda: is_gone(first))
    open_shell(place, shells, "s")


def test_second_dialler_of_the_zygote_gets_no_worker_s_place(place: Endpoint) -> None:
    """Whoever dials takes the older agent's place; that one dials again and goes on."""
    shells = place.shells()
    open_shell(place, shells, "s")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(address_of(place.run, "test"))
        stranger.sendall(b"\x80\x04 rubbish")
        wait(place, 0.3)
    open_shell(place, shells, "t")
    echo(place, shells, "s", "still")


# -- resources --------------------------------------------------------------------------------


def test_zygote_that_cannot_be_started_refuses_and_is_tried_again(
    place: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent import nursery_posix

    shells = place.shells(limit=2)
    first = zygote_pid(place)
    monkeypatch.setattr(nursery_posix, "own_command", lambda: ["/nonexistent/jackline"])
    os.kill(first, signal.SIGKILL)
    place.until(lambda: is_gone(first))
    for session in ("a", "b", "c"):
        shells.on_start(ShellStart(session=session))
        told = place.until(lambda session=session: closed(place, session))  # type: ignore[misc]
        assert (told.reason, told.detail) == ("busy", "resources")
    monkeypatch.undo()
    open_shell(place, shells, "d")


def test_agent_without_descriptors_refuses_and_survives(place: Endpoint) -> None:
    """64 descriptors, or even fewer: sessions are refused as busy, those that live go on."""
    shells = place.shells(limit=100)
    open_shell(place, shells, "first")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = open_all_below(max(map(int, os.listdir("/proc/self/fd"))))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 9, hard))
    try:
        for number in range(12):
            shells.on_start(ShellStart(session=f"s{number}"))
            shells.on_input(ShellInput(session=f"s{number}", data="echo $((40+2))\n"))
        for number in range(12):
            place.until(
                lambda number=number: (  # type: ignore[misc]
                    closed(place, f"s{number}") or "42" in output(place, f"s{number}")
                )
            )
        echo(place, shells, "first", "alive")
        refused = place.uplink.of(ShellClosed)
        assert refused
        assert {(m.reason, m.detail) for m in refused} == {("busy", "resources")}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)
    open_shell(place, shells, "again")
    assert place.pool.fatal == set()


def open_all_below(highest: int) -> list[int]:
    """Fill the gaps between the descriptors in use, and one more."""
    opened = [os.open(os.devnull, os.O_RDONLY)]
    while opened[-1] <= highest:
        opened.append(os.open(os.devnull, os.O_RDONLY))
    return opened


def test_shell_without_a_terminal_device_says_so() -> None:
    """No `/dev/ptmx`: a zygote in a mount namespace of its own that has none."""
    require_root()
    with generations() as agents:
        state, run = f"{agents.root}/state", f"{agents.root}/run"
        for path in (state, run):
            os.makedirs(path, 0o700)
        address = address_of(run, "test")
        listening = bind(address)
        script = 'mount --bind /dev/null /dev/ptmx && exec "$@"'
        argv = ["unshare", "-m", "sh", "-c", script, "sh"]
        zygote = subprocess.Popen(
            [*argv, *own_command(), "_zygote", str(listening.fileno()), address, state],
            pass_fds=[listening.fileno()],
            cwd=str(Path(__file__).parents[2]),
            env={"PATH": os.environ["PATH"]},
        )
        listening.close()
        try:
            place = agents.next()
            shells = place.shells()
            place.until(lambda: place.nursery.pid or zygote.poll() is not None)
            only_if(zygote.poll() is None, "no mount namespaces")
            shells.on_start(ShellStart(session="s"))
            told = place.until(lambda: closed(place, "s"))
            assert told.reason == "pty unavailable"
            assert told.detail
            place.until(lambda: not list(place.pool))
        finally:
            zygote.kill()
            zygote.wait()


def test_idle_worker_ends_by_itself(place: Endpoint) -> None:
    """Forked, but never dialled: its agent died at that very moment."""
    answers: list[Any] = []
    zygote_pid(place)
    place.nursery.spawn(
        Spawn(
            job_id="shell-x.1",
            kind="shell",
            address=f"{place.run}/w-x.sock",
            token=b"t" * 32,
            spool=f"{place.state}/jobs/shell-x.1.spool",
        ),
        answers.append,
    )
    os.makedirs(f"{place.state}/jobs", exist_ok=True)
    place.until(lambda: answers)
    born_s = time.monotonic()
    place.until(lambda: is_gone(answers[0].pid))
    assert 1.0 < time.monotonic() - born_s < 20.0
    place.until(lambda: not os.path.exists(f"{place.run}/w-x.sock"))
