"""What a machine says of itself when it is enrolled, and by which it is known again.

Rules: `machine_id` is an HMAC of the system's own id, which is never sent (machine-id(5) asks for
that). Two agents on one machine with state directories of their own are two assets: a state
directory that was moved by name is part of the HMAC. Without a system id a random one is kept.

Source: contract part 2; machine-id(5).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from agent import dirs, identity
from agent.dirs import Dirs, system_dirs
from workers import processes

_SYSTEM_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_OWN_ID = "machine-id"


def machine_id(where: Dirs, environ: Mapping[str, str] = os.environ) -> str:
    """Return this machine's id as its hub knows it; 64 hexadecimal digits.

    Raises:
        OSError: neither is there a system id, nor can one be kept.
    """
    system = _system_id() or _kept_id(where.state)
    place = "" if where.state == system_dirs(environ).state else str(where.state.resolve())
    return hmac.new(system.encode(), b"jackline\n" + os.fsencode(place), hashlib.sha256).hexdigest()


def facts() -> dict[str, str]:
    """Return `hostname`, `platform`, `arch` and `boot_id` of an enrolment request."""
    return {
        "hostname": socket.gethostname()[:256] or "unknown",
        "platform": sys.platform,
        "arch": platform.machine()[:256] or "unknown",
        "boot_id": processes.boot_id() or secrets.token_hex(16),
    }


def _system_id() -> str | None:
    if sys.platform == "win32":
        return _windows_id()
    for path in _SYSTEM_IDS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) >= 32:
            return text
    return None


def _windows_id() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    except OSError:
        return None


def _kept_id(state_dir: Path) -> str:
    path = state_dir / _OWN_ID
    made = secrets.token_hex(32)
    with dirs.as_owner(state_dir):
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            identity.replace_file(path, made.encode())
            return made
