"""What the agent and the workers set on themselves against leaks and the out-of-memory killer.

The agent: not dumpable (no core, no ptrace and no /proc/<pid>/mem by processes of the same user),
no core size, large blocks given back when they are freed, and the last to be chosen when memory
runs out. The workers, and with them every job: among the first. Everything is best effort; what did
not work is told, for the log and `doctor`. A shell must not inherit what the agent set: not
dumpable and the allocator's settings end at exec by themselves, the core size is
given back with `relax`, the memory score is set anew by `harden_worker`.
ctypes, which `PR_SET_DUMPABLE` needs, costs the agent 0.35 MiB of private memory (measured).
Source: prctl(2), core(5), proc_pid_oom_score_adj(5), mallopt(3).
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import NamedTuple

if sys.platform == "linux":
    import resource

    from workers.libc import malloc_trim, mallopt, prctl

AGENT_OOM_SCORE = -500
WORKER_OOM_SCORE = 500

_PR_SET_DUMPABLE = 4
_M_TRIM_THRESHOLD = -1
_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


class Hardening(NamedTuple):
    """What was there before, and what could not be set (sentences)."""

    core_limit: tuple[int, int] | None = None
    missing: tuple[str, ...] = ()


def harden_agent() -> Hardening:
    """Protect this process's memory; call it before any secret is read."""
    if sys.platform != "linux":
        return Hardening(missing=("hardening is for Linux alone",))
    else:  # a branch, so that the type check for other systems leaves it out
        missing = []
        try:
            prctl(_PR_SET_DUMPABLE, 0)
        except OSError as e:
            missing.append(f"still dumpable: {e.strerror}")
        # Lowering it needs CAP_SYS_RESOURCE, which a service user has not.
        if not _set_oom_score(AGENT_OOM_SCORE):
            missing.append("memory score unchanged: needs root or OOMScoreAdjust= in the unit")
        # Left alone, glibc raises these with the largest block it has seen: after one event of
        # 10 MB the agent kept up to 21 MB for good, now 0.3 (measured).
        for threshold in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(threshold, _LARGE_BYTES)
        before = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
        return Hardening(core_limit=before, missing=tuple(missing))


def relax(pid: int, hardening: Hardening) -> None:
    """Give a child that the agent just started back the core size it would have had."""
    if sys.platform == "linux" and hardening.core_limit is not None:
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_CORE, hardening.core_limit)


def harden_worker() -> bool:
    """Let this process and its job go first when memory runs out; False where that failed."""
    return sys.platform != "linux" or _set_oom_score(WORKER_OOM_SCORE)


def _set_oom_score(score: int) -> bool:
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % score)
    except OSError:
        return False
    return True


def share_one_arena() -> None:
    """Let all threads allocate from one place: a process that works little keeps less."""
    if sys.platform == "linux":
        mallopt(_M_ARENA_MAX, 1)


def settle_memory() -> None:
    """After the start: what is there stays, and what the imports left over goes back.

    The collector does not look at it again, so that forked workers share its pages; the
    allocator's free pages were 2 MiB in the zygote and in the agent each.
    """
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Return to the system what the allocator holds and nobody uses."""
    if sys.platform == "linux":
        malloc_trim()
