"""Which boot of the machine this is: the kernel's id, or a random one kept in the run directory."""

from __future__ import annotations

import os
from pathlib import Path

from workers import processes


def boot_id(run_dir: Path) -> str:
    """Return the id; the run directory is emptied by a reboot."""
    known = processes.boot_id()
    if known is not None:
        return known
    path = run_dir / "boot_id"
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        made = os.urandom(16).hex()
        path.write_text(made, encoding="ascii")
        return made
