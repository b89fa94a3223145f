"""Learn how child processes ended: the platform-neutral face.

One per process. `attach(loop)`, then `watch(pid, on_exit)` in the callback that started the child;
`on_exit` is given its exit code, -n when signal n ended it.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from workers.reaper_windows import WindowsReaper as Reaper
else:
    from workers.reaper_posix import PosixReaper as Reaper

__all__ = ["Reaper"]
