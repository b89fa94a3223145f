"""One event loop for one test's coroutine; closed whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, 30 s at most."""
    return asyncio.run(asyncio.wait_for(work, 30.0))
