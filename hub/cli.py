"""Run the control plane (`jackline hub`): not part of this release."""

from __future__ import annotations

import sys


def run(argv: list[str]) -> int:
    """Say that there is no control plane yet.

    Args:
        argv: what follows `hub` on the command line.

    Returns:
        69, unavailable.
    """
    del argv
    print("jackline: the hub is not part of this release", file=sys.stderr)
    return 69
