"""End the agent, every job and the zygote, and return when nothing is left.

Works with no agent running too: then what an earlier one left is ended by its job records. Exit
codes: 0 nothing is left; 1 something would not end; 77 not permitted; 78 the state directory is
another's.
"""

from __future__ import annotations

import os
import sys
import time

from agent import control_client, dirs, exits
from agent.cli import output
from agent.errors import ControlError, DirectoryError, NoAgentError, SilentAgentError

# TERM, the grace, KILL and the agent's own good-bye; only detects never.
TIMEOUT_S = 30.0


def run(argv: list[str]) -> int:
    """Carry out `jackline stop`."""
    parser = output.parser("stop", "End the agent, every job and the zygote.")
    output.add_format(parser)
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS")
    options = parser.parse_args(argv)
    deadline_s = time.monotonic() + options.timeout
    try:
        _stop_agent(deadline_s)
    except SilentAgentError as e:
        output.refused(e, as_json=output.wants_json(options))
        return exits.FAILED
    except NoAgentError:
        output.note("no agent runs; looking for what an earlier one left")
    except ControlError as e:
        return output.refused(e, as_json=output.wants_json(options))
    return _end_leftovers(deadline_s, as_json=output.wants_json(options))


def _stop_agent(deadline_s: float) -> None:
    """Ask the agent to end everything and itself; wait until its process is gone."""
    pid = control_client.ask("status").get("pid")
    control_client.ask("stop", timeout_s=max(1.0, deadline_s - time.monotonic()))
    if isinstance(pid, int):
        _await_end(pid, deadline_s)


def _await_end(pid: int, deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        try:
            os.kill(pid, 0)
        except OSError:
            return
        if sys.platform == "linux" and _is_zombie(pid):
            return
        time.sleep(0.02)
    raise ControlError("failed", f"the agent (pid {pid}) did not end")


def _is_zombie(pid: int) -> bool:
    """Its parent may be slow to notice; it has ended all the same."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def _end_leftovers(deadline_s: float, *, as_json: bool) -> int:
    from agent.stopping import end_everything

    try:
        left = end_everything(dirs.find(), timeout_s=max(1.0, deadline_s - time.monotonic()))
    except DirectoryError as e:
        output.note(str(e))
        return exits.CONFIGURATION
    if as_json:
        output.print_json({"ok": not left, "left": left})
    for sentence in left or ["nothing is left"]:
        output.note(sentence)
    return exits.FAILED if left else exits.OK
