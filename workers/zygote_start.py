"""The zygote's first step: keep what nobody needs out of the pages that all workers share.

msgspec takes `typing_extensions` where it can be imported, for names that `typing` has as well, and
with it come `inspect`, `ast` and more: 1.8 MiB. Hidden before msgspec is imported, they stay out.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"


def run(argv: list[str]) -> int:
    """Entry point of `jackline _zygote`."""
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # None hides it
    from workers import zygote  # only now

    return zygote.run(argv)
