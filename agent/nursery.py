"""Where workers come from: the platform-neutral face.

On POSIX a zygote forks them (`nursery_posix`); Windows has no fork, so that each is a fresh
`jackline _worker` (`nursery_windows`).
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from agent.nursery_windows import Nursery
else:
    from agent.nursery_posix import Nursery

__all__ = ["Nursery"]
