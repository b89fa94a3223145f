"""What does not change between two samples: the machine, its system, this version of ours.

Rule: read once, at the start.

Source: contract 1.9.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import wire


def facts() -> dict[str, Any]:
    """Return `platform release arch kernelVersion cpus agentVersion` of `stats`.

    `platform` is Python's name (linux, darwin, win32), `release` the distribution's own name where
    it tells one, else the kernel's release.
    """
    release, kernel, arch = _system()
    return {
        "platform": sys.platform,
        "release": release,
        "arch": arch,
        "kernelVersion": kernel,
        "cpus": os.cpu_count() or 1,
        "agentVersion": wire.__version__,
    }


def _system() -> tuple[str, str, str]:
    if sys.platform == "win32":
        import platform

        return f"Windows {platform.release()}", platform.version(), platform.machine()
    else:
        system = os.uname()
        return _distribution() or system.release, system.release, system.machine


def _distribution(path: str = "/etc/os-release") -> str | None:
    """Return PRETTY_NAME of os-release(5), or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(65_536)
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("\"'") or None
    return None
