"""A worker is born into its control groups, and they end with it: on this machine's own groups.

Rule: as in the zygote there is one thread where it forks, see workers/clone.py; a test runner has
more. So each test of `alone` runs in an interpreter of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

if sys.platform != "linux":
    pytest.skip("Linux control groups", allow_module_level=True)

from workers.cgroups import JobCgroup, Place, places, remove_empty
from workers.clone import fork_into
from workers.job_groups import JobGroups
from workers.trees_posix import children

DEADLINE_S = 120.0
PLACES = places()

pytestmark = pytest.mark.skipif(not PLACES, reason="no writable control group here")
needs_v2 = pytest.mark.skipif(
    not any(place.is_v2 for place in PLACES), reason="no version 2 tree here"
)


Case = Callable[[JobGroups, str], None]
CASES: dict[str, Case] = {}
RUN = "import sys; from tests.processes import test_job_groups; test_job_groups.run(sys.argv[1])"


def alone(case: Case) -> Callable[[], None]:
    """Make a test of it that runs in a new process."""
    name = case.__name__
    CASES[name] = case

    def test() -> None:
        done = subprocess.run(
            [sys.executable, "-c", RUN, name],
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    test.__doc__ = case.__doc__
    return test


def run(name: str) -> None:
    """Run a case, here, with groups that are gone afterwards."""
    job_id = f"test-{secrets.token_hex(6)}"
    try:
        CASES[name](JobGroups(PLACES), job_id)
    finally:
        left = JobCgroup.find(job_id, PLACES)
        if left is not None:
            for pid in left.members():
                os.kill(pid, signal.SIGKILL)
            until(left.remove)


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen"
        time.sleep(0.01)


def live(work: Callable[[], object]) -> None:
    """A child's whole life; it ends with the test at the latest."""
    code = 70
    signal.alarm(600)
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_v2
@alone
def test_fork_into_gives_a_whole_interpreter(groups: JobGroups, job_id: str) -> None:
    """Threads, forks, programs, signals and its own pid: all as after os.fork."""
    (place,) = [place for place in PLACES if place.is_v2]
    group = JobCgroup.create(job_id, [place])
    assert group is not None and group.v2_directory is not None
    fd = os.open(group.v2_directory, os.O_RDONLY)
    reading, writing = os.pipe()

    def work() -> None:
        import subprocess
        import threading

        seen: dict[str, object] = {"pid": os.getpid(), "cgroup": read("/proc/self/cgroup")}
        seen["tid"] = threading.get_native_id()
        threads: list[int] = []
        thread = threading.Thread(target=lambda: threads.append(threading.get_native_id()))
        thread.start()
        thread.join()
        seen["thread"] = threads[0]
        seen["forked"] = wait(child) if (child := os.fork()) else os._exit(5)
        seen["program"] = subprocess.check_output(["cat", "/proc/self/cgroup"]).decode()
        caught: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        seen["caught"] = caught
        os.write(writing, json.dumps(seen).encode())

    pid = fork_into(fd)
    if pid == 0:
        live(work)
    os.close(fd)
    os.close(writing)
    with open(reading, "rb") as file:
        seen = json.loads(file.read())
    assert wait(pid) == 0
    assert seen["pid"] == seen["tid"] == pid != seen["thread"]
    assert (seen["forked"], seen["caught"]) == (5, [signal.SIGUSR1])
    for text in (seen["cgroup"], seen["program"]):
        assert f"/jackline-{job_id}\n" in text
    until(group.remove)


@alone
def test_fork_into_what_is_no_group_raises_and_makes_no_child(
    groups: JobGroups, job_id: str
) -> None:
    before = children(os.getpid())
    fd = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(OSError):
            fork_into(fd)
    finally:
        os.close(fd)
    assert children(os.getpid()) == before
    pid = os.fork()  # the interpreter is as it was
    if pid == 0:
        live(lambda: None)
    assert wait(pid) == 0


@alone
def test_job_is_a_member_everywhere_and_its_groups_end_with_it(
    groups: JobGroups, job_id: str
) -> None:
    reading, writing = os.pipe()
    pid = groups.fork(job_id, "shell")
    if pid == 0:
        live(lambda: os.read(reading, 1))
    group = JobCgroup.find(job_id, PLACES)
    assert group is not None
    files = [f"{place.directory}/jackline-{job_id}/cgroup.procs" for place in PLACES]
    until(lambda: all(read(file) == f"{pid}\n" for file in files))
    os.write(writing, b"x")
    assert wait(pid) == 0
    assert groups.ended(pid, 0) is False
    assert JobCgroup.find(job_id, PLACES) is None
    os.close(reading)
    os.close(writing)


@alone
def test_version_1_groups_are_joined_where_nobody_can_be_born_into_them(
    groups: JobGroups, job_id: str
) -> None:
    """A kernel or a filter that knows no clone3."""
    join_without_birth(job_id, is_v2=False)


@alone
def test_version_2_groups_are_done_without_where_nobody_can_be_born_into_them(
    groups: JobGroups, job_id: str
) -> None:
    join_without_birth(job_id, is_v2=True)


def join_without_birth(job_id: str, *, is_v2: bool) -> None:
    groups = JobGroups([place for place in PLACES if place.is_v2 == is_v2])
    groups._can_be_born_inside = False
    pid = groups.fork(job_id, "shell")
    if pid == 0:
        live(signal.pause)
    group = JobCgroup.find(job_id, PLACES)
    if is_v2 or group is None:
        assert is_v2 == (group is None)
    else:
        until(lambda: group.members() == {pid})
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -9
    groups.ended(pid, -9)
    until(lambda: is_tidy(groups, job_id))


@alone
def test_groups_that_another_agent_removed_as_empty_are_made_again(
    groups: JobGroups, job_id: str
) -> None:
    """It sees a group without members in the moment before ours is born."""
    create = JobCgroup.create

    def created(*arguments) -> JobCgroup | None:
        made = create(*arguments)
        remove_empty(PLACES)
        return made

    pytest.MonkeyPatch().setattr(JobCgroup, "create", created)
    reading, writing = os.pipe()
    pid = groups.fork(job_id, "shell")
    if pid == 0:
        live(lambda: os.read(reading, 1))
    files = [f"{place.directory}/jackline-{job_id}/cgroup.procs" for place in PLACES]
    until(lambda: all(os.path.exists(file) and read(file) == f"{pid}\n" for file in files))
    os.write(writing, b"x")
    assert wait(pid) == 0
    groups.ended(pid, 0)
    os.close(reading)
    os.close(writing)


@alone
def test_place_that_is_gone_costs_no_job(groups: JobGroups, job_id: str) -> None:
    groups = JobGroups([Place("/proc/gone", True, frozenset())])
    pid = groups.fork(job_id, "shell")
    if pid == 0:
        live(lambda: None)
    assert wait(pid) == 0
    assert groups.ended(pid, 0) is False


def leave_a_daemon(writing: int) -> None:
    """A grandchild in a session of its own; its pid is told."""
    if os.fork() == 0:
        os.setsid()
        os.write(writing, b"%d\n" % os.getpid())
        signal.pause()


@needs_v2
@alone
def test_what_a_killed_job_leaves_is_killed(groups: JobGroups, job_id: str) -> None:
    reading, writing = os.pipe()
    pid = groups.fork(job_id, "shell")
    if pid == 0:
        live(lambda: (leave_a_daemon(writing), signal.pause()))
    daemon = int(os.read(reading, 20))
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    groups.ended(pid, -9)
    until(lambda: not os.path.exists(f"/proc/{daemon}") or is_zombie(daemon))
    until(lambda: is_tidy(groups, job_id))


@alone
def test_what_an_ended_job_leaves_on_purpose_stays_and_so_does_the_group(
    groups: JobGroups, job_id: str
) -> None:
    reading, writing = os.pipe()
    pid = groups.fork(job_id, "admin")
    if pid == 0:
        live(lambda: leave_a_daemon(writing))
    daemon = int(os.read(reading, 20))
    assert wait(pid) == 0
    groups.ended(pid, 0)
    groups.tidy()
    group = JobCgroup.find(job_id, PLACES)
    assert group is not None and daemon in group.members()
    os.kill(daemon, signal.SIGKILL)
    until(lambda: is_tidy(groups, job_id))


def is_tidy(groups: JobGroups, job_id: str) -> bool:
    groups.tidy()
    return JobCgroup.find(job_id, PLACES) is None


def is_zombie(pid: int) -> bool:
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(
    not any("memory" in place.controllers for place in PLACES), reason="no memory controller here"
)
@alone
def test_job_that_uses_its_memory_up_is_told(groups: JobGroups, job_id: str) -> None:
    pytest.MonkeyPatch().setattr("workers.job_groups.SMALL_BYTES", 96 << 20)
    pid = groups.fork(job_id, "telemetry")
    if pid == 0:
        live(lambda: bytearray(b"x") * (1 << 30))
    assert wait(pid) == -9
    assert groups.ended(pid, -9) is True
