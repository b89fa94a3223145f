"""Find and end a process tree on Linux: children lists, pidfds, `cgroup.kill`, and a mark.

What belongs to a tree: what descends from its root now; what was seen to descend from it before
and still lives; and, once the root is dead, what carries the root's job in its environment
(`JACKLINE_JOB`). `killpg` would miss setsid children, so it is only the fallback where there is no
/proc. A worker that ends its own tree must be a subreaper (`become_subreaper`): only then do
double-forked daemons stay below it.

Rules: never signals the calling process; never blocks (a walk over 50 processes takes 2 ms, over
300 10 ms; one `step` is a walk or two, 5 ms of signals, or 64 environments looked at). A children
list may miss an entry while a sibling ends: only two empty walks in a row count as empty.
Source: proc_pid_task(5) for `children`, proc_pid_environ(5), prctl(2), cgroups(7).
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workers import processes
from workers.processes import ProcessRef

if TYPE_CHECKING:
    from workers import cgroups
    from workers.trees import Step

assert sys.platform != "win32"

MARK = "JACKLINE_JOB"

_PR_SET_CHILD_SUBREAPER = 36
_BUDGET_S = 0.005
_FIRST_LOOK_S = 0.002
_LAST_LOOK_S = 0.05
_ROOT_WAITS_S = 1.0
_MARKS_PER_STEP = 64


def become_subreaper() -> bool:
    """Inherit the orphans of everything below this process, until it ends or execs.

    Returns:
        False where the system has no such thing: daemons of a job then escape to init, and only
        a cgroup or their mark finds them.
    """
    if sys.platform != "linux":
        return False
    from workers.libc import prctl  # here: ctypes costs memory

    try:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except OSError:
        return False
    return True


# -- finding ------------------------------------------------------------------------------------


def descendants(pid: int) -> list[ProcessRef]:
    """Return everything below `pid` that is more than a zombie, parents before children.

    A zombie's own children have long moved to a reaper, so nothing hangs below it.
    """
    if not processes.has_proc():
        return []
    pids = _by_children_lists(pid) if _has_children_lists() else _by_parents(pid)
    return [each for each in map(processes.living, pids) if each is not None]


def children(pid: int) -> list[ProcessRef]:
    """Return the direct children of `pid` that are more than zombies."""
    if not _has_children_lists():
        return [each for each in descendants(pid) if processes.parent(each.pid) == pid]
    return [each for each in map(processes.living, _children(pid)) if each is not None]


def _has_children_lists() -> bool:
    """CONFIG_PROC_CHILDREN; nearly every distribution sets it."""
    return os.path.exists("/proc/thread-self/children")


def _by_children_lists(pid: int) -> list[int]:
    found: dict[int, None] = {}
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            if child not in found and child != pid:
                found[child] = None
                waiting.append(child)
    return list(found)


def _children(pid: int) -> list[int]:
    """Return the children of every thread of `pid`."""
    children: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return children
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children.extend(map(int, file.read().split()))
        except OSError:
            continue
    return children


def _by_parents(pid: int) -> list[int]:
    """The fallback: the parent of every process there is."""
    below: dict[int, list[int]] = {}
    for each in _all_pids():
        parent = processes.parent(each)
        if parent is not None:
            below.setdefault(parent, []).append(each)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = below.pop(waiting.pop(), [])
        found.extend(children)
        waiting.extend(children)
    return found


def _all_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def marked(job_id: str) -> Iterator[ProcessRef | None]:
    """Look at every process for the mark of `job_id`; None for each that has another or none.

    The environment is the one given at exec, and only of processes that this user may read: who
    wants to hide from this can. It is for what a dead worker left behind.
    """
    wanted = f"{MARK}={job_id}".encode()
    for pid in _all_pids():
        yield processes.living(pid) if wanted in _environment(pid).split(b"\0") else None


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def group_of(job_id: str) -> cgroups.JobCgroup | None:
    """Return the control groups that the zygote made for a job; None: it has none."""
    from workers import cgroups  # here: few ask

    return cgroups.JobCgroup.find(job_id, list(_places()))


def was_out_of_memory() -> bool:
    """Has the kernel killed somebody of the calling worker's job for want of memory?"""
    from workers import cgroups

    return cgroups.was_out_of_memory()


@functools.cache
def _places() -> tuple[cgroups.Place, ...]:
    from workers import cgroups

    return tuple(cgroups.places())


# -- ending -------------------------------------------------------------------------------------


def kill_group(job_id: str) -> bool:
    """SIGKILL a job's worker and everything it has started, as one; see `JobCgroup.kill`."""
    group = group_of(job_id)
    return group is not None and group.kill()


def kill_own_tree(
    steps: Sequence[Step], cgroup: cgroups.JobCgroup | None = None, main_pid: int | None = None
) -> PosixTreeKill:
    """End everything below the calling process, and never the process itself.

    Args:
        steps: the escalation.
        cgroup: of the job alone; one that holds the calling process is left to the walk.
        main_pid: the job's own child, whose process group is all that can be found without /proc.
    """
    known = None if main_pid is None else processes.reference(main_pid)
    return PosixTreeKill(os.getpid(), None, steps, cgroup, known=known)


def kill_tree(
    root: ProcessRef,
    steps: Sequence[Step],
    cgroup: cgroups.JobCgroup | None = None,
    job_id: str | None = None,
) -> PosixTreeKill:
    """End `root`, all below it, and what `job_id` marks once the root is dead.

    Under KILL the root goes last: while it lives (stopped, say) its orphans stay below it.
    """
    return PosixTreeKill(root.pid, root, steps, cgroup, job_id)


def kill_orphans(
    job_id: str, steps: Sequence[Step], cgroup: cgroups.JobCgroup | None = None
) -> PosixTreeKill:
    """End what a job whose worker is dead has left behind, found by its cgroup and its mark.

    Args:
        cgroup: without it, the one that the zygote has made, if there is one.
    """
    return PosixTreeKill(None, None, steps, cgroup or group_of(job_id), job_id)


class PosixTreeKill:
    """One escalation under way; see `workers.trees.TreeKill`.

    Args:
        origin: whose descendants are the tree; None when only the mark tells.
        root: the origin, where it is to go with its tree.
        steps: the escalation.
        cgroup: the job's own; killed as one with the first KILL, unless we are in it ourselves.
        job_id: what `JACKLINE_JOB` says in the environment of the tree.
        known: belongs to the tree whatever a walk says.
    """

    def __init__(
        self,
        origin: int | None,
        root: ProcessRef | None,
        steps: Sequence[Step],
        cgroup: cgroups.JobCgroup | None,
        job_id: str | None = None,
        known: ProcessRef | None = None,
    ) -> None:
        self._origin = origin
        self._root = root
        self._steps = list(steps)
        self._cgroup = cgroup
        self._marks = _MarkSearch(job_id)
        self._seen: set[ProcessRef] = set() if known is None else {known}
        self._signalled: set[ProcessRef] = set()
        self._numbers: list[signal.Signals] = []
        self._ends_s = float("-inf")
        self._root_due_s = 0.0
        self._look_s = _FIRST_LOOK_S
        self._empty_walks = 0
        self._survivors: list[int] = []

    @property
    def survivors(self) -> list[int]:
        return self._survivors

    def step(self, now_s: float) -> float | None:
        """Do what is due; see `workers.trees.TreeKill.step`."""
        if now_s >= self._ends_s:
            if not self._steps:
                self._survivors = [each.pid for each in self._alive()]
                return None
            self._enter(self._steps.pop(0), now_s)
        alive, is_done = self._signal_all(now_s)
        if not is_done:
            return 0.0
        if alive:
            self._empty_walks = 0
            self._look_s, look_s = min(self._look_s * 2, _LAST_LOOK_S), self._look_s
            return min(look_s, max(0.0, self._ends_s - now_s))
        self._empty_walks += 1
        if self._empty_walks < 2:
            return 0.0
        self._seen.update(self._marks.look())
        return None if self._marks.is_done and not self._seen else 0.0

    def _enter(self, step: Step, now_s: float) -> None:
        self._numbers = [signal.Signals[f"SIG{name}"] for name in step.signals]
        self._ends_s = now_s + step.wait_s
        # Under KILL the root waits for its tree, unless some of that is stuck.
        self._root_due_s = now_s + (_ROOT_WAITS_S if signal.SIGKILL in self._numbers else 0.0)
        self._look_s = _FIRST_LOOK_S
        self._signalled.clear()
        if signal.SIGKILL in self._numbers and self._cgroup is not None:
            self._cgroup.kill()

    def _signal_all(self, now_s: float) -> tuple[bool, bool]:
        """Signal whoever was not yet in this step; return "somebody lives" and "nobody was new"."""
        alive = self._alive()
        give_up_s = time.monotonic() + _BUDGET_S
        while new := alive - self._signalled - {self._root}:
            for target in new:
                self._signal(target)
                if time.monotonic() > give_up_s:
                    return True, False
            alive = self._alive()
        if self._root is not None and self._root in alive - self._signalled:
            if len(alive) == 1 or now_s >= self._root_due_s:
                self._signal(self._root)
        return bool(alive), True

    def _signal(self, target: ProcessRef) -> None:
        self._signalled.add(target)
        for number in self._numbers:
            try:
                if target.start_time:
                    processes.send(target, number)
                else:
                    os.killpg(target.pid, number)
            except ProcessLookupError:
                return
            except PermissionError:
                return  # it became another user (sudo): it will be told as a survivor

    def _alive(self) -> set[ProcessRef]:
        """Return what lives of the tree now, the root included."""
        alive: set[ProcessRef] = set()
        if self._root is None or processes.is_alive(self._root):
            if self._origin is not None:
                alive.update(descendants(self._origin))
            if self._root is not None:
                alive.add(self._root)
        for each in self._seen - alive:
            # Cut off from the origin: its parent died and no subreaper of ours inherited it.
            if processes.is_alive(each):
                alive.add(each)
                alive.update(descendants(each.pid))
        self._seen = {each for each in alive if each.pid != os.getpid()}
        return self._seen


class _MarkSearch:
    """Passes over all environments, a slice at a time, until one whole pass finds nothing."""

    def __init__(self, job_id: str | None) -> None:
        self._job_id = job_id
        self._pass: Iterator[ProcessRef | None] | None = None
        self._found_any = False
        self.is_done = job_id is None

    def look(self) -> list[ProcessRef]:
        """Return what the next slice found; `is_done` then tells whether to go on."""
        if self._job_id is None or self.is_done:
            return []
        if self._pass is None:
            self._pass, self._found_any = marked(self._job_id), False
        slice_ = list(itertools.islice(self._pass, _MARKS_PER_STEP))
        found = [each for each in slice_ if each is not None and each.pid != os.getpid()]
        self._found_any |= bool(found)
        if len(slice_) < _MARKS_PER_STEP:
            self._pass = None
            self.is_done = not self._found_any
        return found
