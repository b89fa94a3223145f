"""Orphans of killed workers, told from daemons that orderly workers left on purpose."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="walks /proc")

DEADLINE_S = 120.0

# A stand-in for the zygote: two workers, each with a daemon that has left its session and wiped its
# environment; one worker is killed, the other ends in good order.
ZYGOTE = """
import json, os, signal, sys, time
from workers import processes, trees
from workers.reaper import Reaper
from workers.strays import Strays
from workers.trees_posix import become_subreaper, children
become_subreaper()
reaper, strays, workers, arrived, ends = Reaper(), Strays(), {}, {}, {}

def work(pipe):
    become_subreaper()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(pipe, b"%d\\n" % os.getpid())
            code = "import time; time.sleep(600)"
            os.execve(sys.executable, [sys.executable, "-c", code], {})
        os._exit(0)
    os.wait()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        signal.pause()

def spawn(name):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        work(writing)
    workers[pid] = name
    def on_exit(status):
        del workers[pid]
        ends[name] = status
        arrived[name] = [each.pid for each in strays.arrived(workers)]
    reaper.watch(pid, on_exit)
    return pid, int(os.read(reading, 32))

def end(pid, number, name):
    os.kill(pid, number)
    while name not in ends:
        reaper.collect()
        time.sleep(0.005)

killed, daemon_of_killed = spawn("killed")
orderly, daemon_of_orderly = spawn("orderly")
late, daemon_of_late = spawn("late")
end(orderly, signal.SIGTERM, "orderly")
end(killed, signal.SIGKILL, "killed")
for pid in arrived["killed"]:
    kill = trees.kill_tree(processes.reference(pid), trees.AT_ONCE)
    while (wait := kill.step(time.monotonic())) is not None:
        time.sleep(wait)
        reaper.collect()
lives = [processes.living(pid) is not None for pid in (daemon_of_killed, daemon_of_orderly)]
end(late, signal.SIGKILL, "late")
print(json.dumps({
    "ends": ends,
    "arrived": arrived,
    "daemons": {"killed": daemon_of_killed, "orderly": daemon_of_orderly, "late": daemon_of_late},
    "lives": lives,
}))
for child in children(os.getpid()):
    processes.send(child, signal.SIGKILL)
"""


def test_each_workers_end_brings_its_own_orphans_and_no_others():
    ran = subprocess.run(
        [sys.executable, "-c", ZYGOTE], capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    told = json.loads(ran.stdout)
    assert told["ends"] == {"orderly": 0, "killed": -9, "late": -9}
    assert told["arrived"] == {name: [pid] for name, pid in told["daemons"].items()}
    assert told["lives"] == [False, True]
