"""The first and the last step of a worker without a zygote.

As in `workers.zygote_start`, `typing_extensions` is hidden from msgspec: 12 ms of a command's start
here. The process ends without Python's own farewell, which takes as long, for whoever has the
result waits for the end, too.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def run(argv: list[str]) -> NoReturn:
    """Entry point of `jackline _worker STATE_DIR`."""
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # None hides it
    from workers import entry  # only now

    code = entry.run(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
