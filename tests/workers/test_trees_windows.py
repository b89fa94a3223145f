"""Ending trees by job objects, and learning of a child's end, against Windows in memory."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tests.doubles.windows_kernel import FakeKernel
from workers import trees, trees_windows
from workers.jobobjects_windows import KILLED, JobObject
from workers.loop import Loop
from workers.processes import ProcessRef
from workers.reaper_windows import WindowsReaper

DEADLINE_S = 30.0


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(trees_windows, "_own_job", [])
    return FakeKernel()


def test_own_tree_ends_and_the_worker_lives(kernel):
    trees_windows.enter_job("a", kernel)
    child = kernel.start(parent=os.getpid())
    grandchild = kernel.start(parent=child)
    stranger = kernel.start()
    kill = trees_windows.kill_own_tree(trees.AT_ONCE)
    now = 0.0
    while (wait := kill.step(now)) is not None:
        now += wait
    assert not kernel.is_running(child) and not kernel.is_running(grandchild)
    assert kernel.processes[child].exit_code == KILLED
    assert kernel.is_running(os.getpid()) and kernel.is_running(stranger)
    assert kill.survivors == []


def test_closing_a_shell_gives_it_a_second_before_the_kill(kernel):
    trees_windows.enter_job("a", kernel)
    child = kernel.start(parent=os.getpid())
    kill = trees_windows.kill_own_tree(trees.CLOSE_SHELL, main_pid=child)
    now = 0.0
    while kernel.is_running(child):
        wait = kill.step(now)
        assert wait is not None
        now += wait if kernel.is_running(child) else 0.0
    assert now == pytest.approx(1.0)


def test_tree_that_ends_by_itself_needs_no_kill(kernel):
    trees_windows.enter_job("a", kernel)
    child = kernel.start(parent=os.getpid())
    kill = trees_windows.kill_own_tree(trees.TIME_OUT)
    assert kill.step(0.0) is not None
    kernel.end(child, 3)
    assert kill.step(0.1) is None
    assert kernel.processes[child].exit_code == 3


def test_what_cannot_be_ended_is_told_in_the_end(kernel):
    trees_windows.enter_job("a", kernel)
    child = kernel.start(parent=os.getpid())
    kernel.processes[child].is_stuck = True
    kill = trees_windows.kill_own_tree(trees.AT_ONCE)
    now = 0.0
    while (wait := kill.step(now)) is not None:
        now += wait
    assert now == pytest.approx(trees.KILL_WAIT_S)
    assert kill.survivors == [child]


def test_worker_without_a_job_object_has_no_tree(kernel):
    assert trees_windows.kill_own_tree(trees.AT_ONCE).step(0.0) is None


def test_agent_ends_a_worker_and_its_tree_by_the_jobs_name(kernel):
    worker = kernel.start()
    job = kernel.create_job("Local\\jackline-b")
    kernel.assign(job, kernel.open_process(worker))
    child = kernel.start(parent=worker)
    kill = trees_windows.kill_tree(ProcessRef(worker, 1), trees.AT_ONCE, job_id="b", kernel=kernel)
    while (wait := kill.step(0.0)) is not None:
        assert wait >= 0
    assert not kernel.is_running(worker) and not kernel.is_running(child)


def test_agent_ends_a_worker_that_has_no_object_yet(kernel):
    worker = kernel.start()
    kill = trees_windows.kill_tree(ProcessRef(worker, 1), trees.AT_ONCE, job_id="c", kernel=kernel)
    assert kill.step(0.0) is None
    assert not kernel.is_running(worker)


def test_the_last_handle_takes_the_members_with_it(kernel):
    job = JobObject(kernel, kernel.create_job("Local\\jackline-d"))
    child = kernel.start()
    kernel.processes[child].job = "Local\\jackline-d"
    found = JobObject.find(kernel, "d")
    assert found is not None
    found.close()
    assert kernel.is_running(child)
    job.close()
    job.close()
    assert not kernel.is_running(child)
    assert JobObject.find(kernel, "d") is None
    with pytest.raises(OSError, match="closed"):
        job.others()


def test_entering_gives_the_handles_back(kernel):
    trees_windows.enter_job("e", kernel)
    assert [kind for kind, _ in kernel.handles.values()] == ["job"]


def test_reaper_tells_the_exit_code_on_the_loops_thread(kernel):
    loop = Loop()
    reaper = WindowsReaper(kernel)
    reaper.attach(loop)
    told: list[tuple[int, threading.Thread]] = []
    child = kernel.start()
    reaper.watch(child, lambda code: told.append((code, threading.current_thread())))
    loop.turn(0.01)
    assert told == []
    kernel.end(child, 42)
    deadline = time.monotonic() + DEADLINE_S
    while not told:
        assert time.monotonic() < deadline
        loop.turn(0.05)
    assert told == [(42, threading.current_thread())]
    assert kernel.handles == {}
    loop.close()


def test_reaper_tells_of_a_child_that_is_gone_and_of_none_that_nobody_watches(kernel):
    loop = Loop()
    reaper = WindowsReaper(kernel)
    reaper.attach(loop)
    told: list[int] = []
    gone, forgotten = kernel.start(), kernel.start()
    kernel.end(gone, 7)
    reaper.watch(gone, told.append)
    reaper.watch(forgotten, lambda code: told.append(-code))
    reaper.forget(forgotten)
    kernel.end(forgotten, 9)
    deadline = time.monotonic() + DEADLINE_S
    while kernel.handles or not told:
        assert time.monotonic() < deadline
        loop.turn(0.05)
    loop.turn(0.05)
    assert told == [1]
    assert reaper.collect() == 0
    loop.close()
