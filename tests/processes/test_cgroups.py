"""Control groups of this machine, where it lets us make some."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("Linux control groups", allow_module_level=True)

from workers import cgroups, processes, trees
from workers.cgroups import JobCgroup, places
from workers.trees_posix import descendants

DEADLINE_S = 120.0
PLACES = places()

pytestmark = pytest.mark.skipif(not PLACES, reason="no writable control group here")


@pytest.fixture
def group():
    made = JobCgroup.create(f"test-{os.getpid()}", PLACES, max_memory_bytes=64 << 20)
    if made is None:
        pytest.skip("no control group can be made here")
    yield made
    for pid in made.members():
        os.kill(pid, signal.SIGKILL)
    wait_until(made.remove)


@pytest.fixture
def start():
    """Start a program that waits for a line before it does anything."""
    running: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.stdin.readline()\n{code}"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def go(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process.stdout.readline()


def wait_until(condition) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


FORK_FIVE = (
    "import os, time\n"
    "for _ in range(5):\n"
    "    if os.fork() == 0: os.setsid(); time.sleep(600)\n"
    "print('up', flush=True); time.sleep(600)"
)


def test_members_are_all_that_a_moved_process_starts(group, start):
    job = start(FORK_FIVE)
    assert group.add(job.pid)
    go(job)
    assert len(group.members()) == 6
    assert group.members() == {job.pid, *(each.pid for each in descendants(job.pid))}


def test_group_is_found_by_its_job_and_removed_when_empty(group, start):
    job = start("print('x', flush=True); sys.stdin.read()")
    group.add(job.pid)
    go(job)
    found = JobCgroup.find(f"test-{os.getpid()}", PLACES)
    assert found is not None and found.members() == {job.pid}
    assert not found.remove()
    cgroups.remove_empty(PLACES)
    assert JobCgroup.find(f"test-{os.getpid()}", PLACES) is not None
    job.kill()
    job.wait()
    wait_until(found.remove)
    assert JobCgroup.find(f"test-{os.getpid()}", PLACES) is None


def test_kill_ends_every_member_at_once(group, start):
    if "kill" in group.lacks:
        pytest.skip("needs cgroup.kill")
    job = start(FORK_FIVE)
    group.add(job.pid)
    go(job)
    assert group.kill()
    assert job.wait(DEADLINE_S) == -signal.SIGKILL
    wait_until(lambda: not group.members())


def test_kill_never_ends_the_caller(group):
    if "kill" in group.lacks:
        pytest.skip("needs cgroup.kill")
    code = (
        "import os, sys; from workers.cgroups import JobCgroup, places\n"
        "group = JobCgroup.find(sys.argv[1], places())\n"
        "assert group.add(os.getpid()); print(group.kill())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, f"test-{os.getpid()}"],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.stdout == b"False\n", ran.stderr


def test_tree_kill_uses_the_group_for_what_left_the_tree(group, start):
    escapes = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True); time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait(); time.sleep(600)"
    )
    if "kill" in group.lacks:
        pytest.skip("needs cgroup.kill")
    job = start(escapes)
    group.add(job.pid)
    daemon = processes.reference(int(go(job)))
    root = processes.reference(job.pid)
    assert daemon is not None and root is not None
    wait_until(lambda: daemon not in descendants(job.pid))

    kill = trees.kill_tree(root, trees.AT_ONCE, cgroup=group)
    while (wait := kill.step(time.monotonic())) is not None:
        time.sleep(wait)

    assert job.wait(DEADLINE_S) == -signal.SIGKILL
    wait_until(lambda: not processes.is_alive(daemon))


def test_fork_bomb_is_held_at_the_limit_and_killed(group, start, monkeypatch):
    if "pids" in group.lacks:
        pytest.skip("no pids controller here")
    for directory, place in group._directories:
        if "pids" in place.controllers:
            assert Path(directory, "pids.max").read_text().strip() == str(cgroups.MAX_PIDS)
            cgroups._write(f"{directory}/pids.max", "24")  # the same wall, nearer
    bomb = start(
        "import os\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except BlockingIOError: os.write(1, b'full\\n'); __import__('time').sleep(600)\n"
    )
    group.add(bomb.pid)
    assert go(bomb) == b"full\n"
    assert len(group.members()) <= 24
    root = processes.reference(bomb.pid)
    assert root is not None

    kill = trees.kill_tree(root, trees.AT_ONCE, cgroup=group)
    while (wait := kill.step(time.monotonic())) is not None:
        time.sleep(wait)

    assert bomb.wait(DEADLINE_S) == -signal.SIGKILL
    wait_until(lambda: not group.members())


def test_job_over_its_memory_dies_and_the_group_knows_why(group, start):
    if "memory" in group.lacks:
        pytest.skip("no memory controller here")
    job = start("data = [bytearray(b'x' * (1 << 20)) for _ in range(512)]; print('no limit')")
    assert group.add(job.pid)
    assert not group.was_out_of_memory()
    go(job)
    assert job.wait(DEADLINE_S) == -signal.SIGKILL
    assert group.was_out_of_memory()
