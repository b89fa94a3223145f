"""End a whole process tree, without ever waiting for it.

The neutral side of `trees_posix` and `trees_windows`: the escalations of the contract and the one
interface. A `TreeKill` is driven by its owner's loop: call `step`, call it again after the seconds
it returned, until it returns None. What then is left in `survivors` sits in the kernel (D state):
detach from it and free the slot.
Source: contract 1.2 `shell_close`, 1.4 timeouts; docs/architecture "Hang detection".
"""

from __future__ import annotations

import sys
from typing import NamedTuple, Protocol


class Step(NamedTuple):
    """One rung of an escalation: these signals to everything, then `wait_s` for it to end."""

    signals: tuple[str, ...]
    wait_s: float


# How long a SIGKILL may take before its process counts as stuck in the kernel.
KILL_WAIT_S = 5.0

_KILL = Step(("KILL",), KILL_WAIT_S)

# The terminal is closed by its owner right before. CONT: a stopped process handles nothing. TERM
# follows soon, because most programs have ended by then; an interactive bash ignores it.
CLOSE_SHELL = (Step(("HUP", "CONT"), 0.3), Step(("TERM",), 0.7), _KILL)
TIME_OUT = (Step(("TERM", "CONT"), 3.0), _KILL)
AT_ONCE = (_KILL,)


class TreeKill(Protocol):
    """The end of one tree, under way."""

    @property
    def survivors(self) -> list[int]:
        """Return the pids that even SIGKILL did not end; empty until `step` has returned None."""

    def step(self, now_s: float) -> float | None:
        """Do what is due, without blocking.

        Args:
            now_s: the loop's clock, in seconds.

        Returns:
            Seconds until the next call, or None: it is over.
        """


if sys.platform == "win32":
    from workers.trees_windows import (
        kill_group,
        kill_orphans,
        kill_own_tree,
        kill_tree,
        was_out_of_memory,
    )
else:
    from workers.trees_posix import (
        kill_group,
        kill_orphans,
        kill_own_tree,
        kill_tree,
        was_out_of_memory,
    )

__all__ = [
    "AT_ONCE",
    "CLOSE_SHELL",
    "KILL_WAIT_S",
    "TIME_OUT",
    "Step",
    "TreeKill",
    "kill_group",
    "kill_orphans",
    "kill_own_tree",
    "kill_tree",
    "was_out_of_memory",
]
