"""The identity of a running agent, which its hub may change: certificate, policy, where to call.

Rules: core thread; a change is on the disk before it is used, and is told to whoever must act on
it. A change that cannot be written is told in the log and used all the same: the hub has made it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent import identity
from agent.disk import Disk
from agent.identity import Identity
from agent.log import Log


class IdentityKeeper:
    """See the module.

    Args:
        known: as it was read at the start.
    """

    def __init__(self, known: Identity, state_dir: Path, disk: Disk, log: Log) -> None:
        self.identity = known
        self.on_change: list[Callable[[Identity, Identity], object]] = []
        self._state_dir = state_dir
        self._disk = disk
        self._log = log

    def change(self, **fields: Any) -> None:
        """Write the identity with some fields changed, then tell (before, now)."""
        changed = msgspec.structs.replace(self.identity, **fields)
        if changed == self.identity:
            return
        self.identity, before = changed, self.identity

        def written(error: Exception | None) -> None:
            if error is not None:
                self._log.error("the identity could not be written", error=str(error))
            for tell in self.on_change:
                tell(before, changed)

        self._disk.submit(lambda: identity.write(self._state_dir, changed), written)
