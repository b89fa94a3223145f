"""Facts about real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from workers import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

DEADLINE_S = 120.0


@pytest.fixture
def child():
    """A process named like the tail of a stat line; it waits for its stdin to close."""
    code = (
        "import sys; open('/proc/self/comm', 'w').write('a) Z 1 (b');"
        "print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def wait_for_state(pid: int, letter: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while processes.state(pid) != letter:
        assert time.monotonic() < deadline, processes.state(pid)
        time.sleep(0.002)


def test_facts_survive_a_hostile_process_name(child):
    started = processes.start_time(child.pid)
    own = processes.start_time(os.getpid())
    assert started is not None and own is not None and started >= own
    assert processes.parent(child.pid) == os.getpid()
    wait_for_state(child.pid, "S")


def test_process_is_the_same_only_with_its_start_time(child):
    reference = processes.reference(child.pid)
    assert reference is not None
    assert processes.is_same(*reference)
    assert not processes.is_same(reference.pid, reference.start_time + 1)


def test_stopped_process_says_so(child):
    os.kill(child.pid, signal.SIGSTOP)
    wait_for_state(child.pid, "T")


def test_zombie_is_the_same_process_but_not_alive(child):
    reference = processes.reference(child.pid)
    assert reference is not None and processes.is_alive(reference)
    child.kill()
    wait_for_state(child.pid, "Z")
    assert processes.is_same(*reference)
    assert not processes.is_alive(reference)


def test_nobody_has_no_facts():
    nobody = subprocess.Popen([sys.executable, "-c", ""])
    nobody.wait()
    assert processes.reference(nobody.pid) is None
    assert processes.start_time(nobody.pid) is None
    assert processes.cpu_time(nobody.pid) is None
    assert processes.state(nobody.pid) is None


def test_cpu_time_grows_with_work_alone(child):
    before = processes.cpu_time(child.pid)
    assert before is not None
    busy = processes.cpu_time(os.getpid())
    deadline = time.monotonic() + DEADLINE_S
    while processes.cpu_time(os.getpid()) == busy:
        assert time.monotonic() < deadline
    assert processes.cpu_time(child.pid) == before


def test_boot_id_is_the_kernels():
    with open("/proc/sys/kernel/random/boot_id") as file:
        assert processes.boot_id() == file.read().strip()


# The Reaper takes the status of every child there is, so each test has a process of its own.
REAPER = """
import json, os, signal, sys
from workers.loop import Loop
from workers.reaper import Reaper
from workers.trees_posix import become_subreaper
become_subreaper()
loop, reaper, seen = Loop(), Reaper(), []
reaper.attach(loop)
def told(name):
    def on_exit(code):
        seen.append([name, code])
        if len(seen) == 2:
            loop.call_later(0.0, loop.stop)
    return on_exit
SH = "/bin/sh"
# The first child leaves a daemon behind that ends later and is nobody's business.
first = os.posix_spawn(SH, [SH, "-c", "(sleep 0.2; exit 9) & exit 3"], {})
reaper.watch(first, told("first"))
second = os.posix_spawn(SH, [SH, "-c", "sleep 0.5; kill -15 $$"], {})
reaper.watch(second, told("second"))
loop.run()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    seen.append("nothing left")
print(json.dumps(seen))
"""


def test_reaper_tells_each_watcher_its_own_code_and_leaves_no_zombie():
    out = subprocess.run(
        [sys.executable, "-c", REAPER], capture_output=True, timeout=DEADLINE_S, check=True
    ).stdout
    assert out.decode().strip() == '[["first", 3], ["second", -15], "nothing left"]'
