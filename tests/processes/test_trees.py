"""Trees of real processes: setsid children, daemons, stopped ones, and what must never be hit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from workers import processes, trees, trees_posix
from workers.processes import ProcessRef
from workers.trees_posix import descendants, marked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="walks /proc")

DEADLINE_S = 120.0

# Every process of these trees writes its pid to fd 1 and then waits for ever.
TREES = {
    "ignores_term": """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.write(1, b"%d\\n" % os.getpid())
        while True: time.sleep(60)
    """,
    "setsid": """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                os.setsid()
                break
        os.write(1, b"%d\\n" % os.getpid())
        while True: time.sleep(60)
    """,
    "daemon": """
        import os, signal, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(1, b"%d\\n" % os.getpid())
                while True: time.sleep(60)
            os._exit(0)
        os.wait()
        os.write(1, b"%d\\n" % os.getpid())
        while True: time.sleep(60)
    """,
    "stopped": """
        import os, signal, time
        if os.fork() == 0:
            os.write(1, b"%d\\n" % os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.write(1, b"%d\\n" % os.getpid())
        while True: time.sleep(60)
    """,
}

# Runs a program as its child, as a worker runs a job; on a line on stdin it ends the tree below
# itself and prints, as JSON, what it reaped, how long the end took and what was left.
WORKER = """
import json, os, sys, time
from workers import trees
from workers.reaper import Reaper
from workers.trees_posix import become_subreaper
subreaper, steps, program = sys.argv[1:]
if subreaper == "yes":
    assert become_subreaper()
reaper, codes = Reaper(), []
main = os.posix_spawn(sys.executable, [sys.executable, "-c", program], dict(os.environ))
reaper.watch(main, codes.append)
sys.stdin.readline()
begun = time.monotonic()
end = trees.kill_own_tree(getattr(trees, steps))
while True:
    wait = end.step(time.monotonic())
    reaper.collect()
    if wait is None:
        break
    time.sleep(wait)
took = time.monotonic() - begun
print(json.dumps({"codes": codes, "took": took, "survivors": end.survivors}))
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Collects what a test starts; ends whatever of it is left."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for each in running:
        for below in descendants(each.pid):
            processes.send(below, signal.SIGKILL)
        each.kill()
        each.wait()
        for stream in (each.stdin, each.stdout):
            if stream is not None:
                stream.close()


def start(
    started: list[subprocess.Popen[bytes]], argv: list[str], **env: str
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **env}
    )
    started.append(process)
    return process


def program(name: str) -> str:
    return textwrap.dedent(TREES[name])


def read_pids(process: subprocess.Popen[bytes], count: int) -> list[ProcessRef]:
    assert process.stdout is not None
    found = [processes.reference(int(process.stdout.readline())) for _ in range(count)]
    assert None not in found
    return [each for each in found if each is not None]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.005)


def run_to_end(kill: trees.TreeKill) -> None:
    while (wait := kill.step(time.monotonic())) is not None:
        time.sleep(wait)


@pytest.mark.parametrize(
    "name, count", [("ignores_term", 1), ("setsid", 5), ("daemon", 2), ("stopped", 2)]
)
@pytest.mark.parametrize("steps", ["CLOSE_SHELL", "AT_ONCE"])
def test_own_tree_ends_whole_and_the_worker_lives(started, name, count, steps):
    worker = start(started, [sys.executable, "-c", WORKER, "yes", steps, program(name)])
    tree = read_pids(worker, count)
    assert {each.pid for each in descendants(worker.pid)} == {each.pid for each in tree}

    answer = tell_to_end(worker)

    assert not [each for each in tree if processes.is_alive(each)]
    assert answer["survivors"] == []
    assert len(answer["codes"]) == 1
    assert worker.wait(DEADLINE_S) == 0


def test_close_shell_spares_the_kill_where_term_is_enough(started):
    sleeper = "import os, time; os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)"
    worker = start(started, [sys.executable, "-c", WORKER, "yes", "CLOSE_SHELL", sleeper])
    read_pids(worker, 1)
    assert tell_to_end(worker)["codes"] == [-signal.SIGHUP]


def test_close_shell_kills_after_one_second(started):
    argv = [sys.executable, "-c", WORKER, "yes", "CLOSE_SHELL", program("ignores_term")]
    worker = start(started, argv)
    read_pids(worker, 1)
    answer = tell_to_end(worker)
    assert answer["codes"] == [-signal.SIGKILL]
    assert 1.0 <= answer["took"] < 10.0


def tell_to_end(worker: subprocess.Popen[bytes]) -> dict:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


@pytest.mark.parametrize("name, count", [("setsid", 5), ("daemon", 2), ("stopped", 2)])
def test_tree_of_a_stopped_worker_ends_with_it(started, name, count):
    worker = start(started, [sys.executable, "-c", WORKER, "yes", "AT_ONCE", program(name)])
    tree = read_pids(worker, count)
    os.kill(worker.pid, signal.SIGSTOP)
    root = processes.reference(worker.pid)
    assert root is not None

    run_to_end(trees.kill_tree(root, trees.AT_ONCE))

    assert not [each for each in [root, *tree] if processes.is_alive(each)]
    assert worker.wait(DEADLINE_S) == -signal.SIGKILL


def test_orphans_of_a_dead_worker_are_found_by_their_mark(started):
    argv = [sys.executable, "-c", WORKER, "no", "AT_ONCE", program("daemon")]
    worker = start(started, argv, JACKLINE_JOB="job-of-this-test")
    neighbour = start(
        started, [sys.executable, "-c", program("setsid")], JACKLINE_JOB="job-of-this-test-2"
    )
    tree = read_pids(worker, 2)
    others = read_pids(neighbour, 5)
    worker.kill()
    worker.wait()
    assert [each for each in tree if processes.is_alive(each)]
    assert {each for each in marked("job-of-this-test") if each} >= set(tree)

    run_to_end(trees.kill_orphans("job-of-this-test", trees.AT_ONCE))

    assert not [each for each in tree if processes.is_alive(each)]
    assert all(processes.is_alive(each) for each in others)


def test_killing_a_tree_whose_root_is_gone_touches_nobody(started):
    innocent = start(started, [sys.executable, "-c", program("setsid")])
    read_pids(innocent, 5)
    someone_else = ProcessRef(innocent.pid, 1)  # the same pid, started at another time

    run_to_end(trees.kill_tree(someone_else, trees.AT_ONCE))

    assert len(descendants(innocent.pid)) == 4
    assert innocent.poll() is None


def test_killing_a_tree_never_signals_the_caller(started):
    own = """
        import os, subprocess, sys, time
        from workers import processes, trees
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        kill = trees.kill_tree(processes.reference(os.getpid()), trees.AT_ONCE)
        while (wait := kill.step(time.monotonic())) is not None:
            time.sleep(wait)
        print(child.wait())
    """
    caller = start(started, [sys.executable, "-c", textwrap.dedent(own)])
    assert caller.communicate(timeout=DEADLINE_S)[0] == b"-9\n"
    assert caller.returncode == 0


def test_a_tree_that_forks_while_it_dies_ends(started):
    forker = """
        import os, time
        os.write(1, b"%d\\n" % os.getpid())
        while True:
            try:
                if os.fork() == 0:
                    os.setsid(); time.sleep(0.02)
            except OSError:
                pass
            time.sleep(0.02)
    """
    argv = [sys.executable, "-c", WORKER, "yes", "AT_ONCE", textwrap.dedent(forker)]
    worker = start(started, argv)
    read_pids(worker, 1)
    wait_until(lambda: len(descendants(worker.pid)) > 6)
    answer = tell_to_end(worker)
    assert answer["survivors"] == []
    assert descendants(worker.pid) == []


def test_a_large_tree_ends_whole_in_slices(started):
    wide = """
        import os, time
        for _ in range(200):
            if os.fork() == 0:
                os.setsid(); time.sleep(600)
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(600)
    """
    argv = [sys.executable, "-c", WORKER, "yes", "AT_ONCE", textwrap.dedent(wide)]
    worker = start(started, argv)
    read_pids(worker, 1)
    assert len(descendants(worker.pid)) == 201
    assert tell_to_end(worker)["survivors"] == []
    assert descendants(worker.pid) == []


def test_walk_without_children_lists_finds_the_same(started, monkeypatch):
    tree = start(started, [sys.executable, "-c", program("setsid")])
    read_pids(tree, 5)
    by_lists = set(descendants(tree.pid))
    monkeypatch.setattr(trees_posix, "_has_children_lists", lambda: False)
    assert set(descendants(tree.pid)) == by_lists
    assert len(by_lists) == 4


def test_signal_without_pidfds_still_checks_the_start_time(started, monkeypatch):
    monkeypatch.setattr(processes, "_open_pidfd", lambda pid: None)
    tree = start(started, [sys.executable, "-c", program("ignores_term")])
    (process,) = read_pids(tree, 1)
    assert not processes.send(ProcessRef(process.pid, process.start_time + 1), signal.SIGKILL)
    assert tree.poll() is None
    assert processes.send(process, signal.SIGKILL)
    assert tree.wait(DEADLINE_S) == -signal.SIGKILL
    assert not processes.send(process, signal.SIGKILL)
