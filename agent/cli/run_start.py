"""Run the agent in the foreground, as its supervisor does.

The first step of `jackline run` alone: msgspec takes `typing_extensions` where it can be imported,
for names that `typing` has as well, and a process that stays for months need not hold it (0.3 MiB).
"""

from __future__ import annotations

import sys


def run(argv: list[str]) -> int:
    """Entry point of `jackline run`."""
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # None hides it
    from agent.cli import run as command  # only now

    return command.run(argv)
