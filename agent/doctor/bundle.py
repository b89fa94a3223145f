"""Pack what a person who helps needs into one archive, without a secret in it.

Rules: 0600, never over an existing file; configuration values of secrets are hidden where they are
read, and what is left is searched once more for each secret before it is packed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import stat
import sys
import tarfile
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from agent import configvalues, dirs
from agent.doctor.finding import Finding, Scene
from agent.errors import DirectoryError
from wire import __version__

LOG_LINES = 2_000
HIDDEN = b"(hidden)"


def write(path: Path, scene: Scene, findings: Iterable[Finding]) -> None:
    """Write the archive.

    Raises:
        OSError: it exists, or cannot be written.
    """
    parts = {
        "doctor.json": _json([vars(finding) for finding in findings]),
        "status.json": _json(scene.status),
        "config.json": _json(_config(scene)),
        "machine.json": _json(_machine()),
        "agent.log": _log(scene.report.log_file),
    }
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in parts.items():
            _add(archive, f"jackline-doctor/{name}", _without_secrets(content, scene))


def default_path() -> Path:
    """Return a name in the working directory that tells when."""
    return Path(f"jackline-doctor-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")


def _config(scene: Scene) -> dict[str, object]:
    return {
        "file": str(scene.report.config_file),
        "faults": [str(fault) for fault in scene.report.faults],
        "warnings": list(scene.report.warnings),
        "values": {
            value.key.name: [configvalues.shown(value.key, value.value), value.origin]
            for value in scene.report.values
        },
    }


def _machine() -> dict[str, str]:
    return {
        "jackline": __version__,
        "python": sys.version,
        "executable": sys.executable,
        "platform": platform.platform(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _log(path: Path) -> bytes:
    """Of root the file is read as whose directory it is in: a link there leads to nothing more."""
    is_root = sys.platform != "win32" and os.geteuid() == 0
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a FIFO in its place must not hold us up
    try:
        with (
            dirs.as_owner(path.parent) if is_root else contextlib.nullcontext(),
            os.fdopen(os.open(path, flags), "rb") as file,
        ):
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return f"{path}: is not a regular file\n".encode()
            return b"".join(deque(file, maxlen=LOG_LINES))
    except DirectoryError as e:
        return f"{e}\n".encode()
    except OSError as e:
        return f"{path}: {e.strerror}\n".encode()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).encode(errors="replace")


def _without_secrets(content: bytes, scene: Scene) -> bytes:
    secrets = {
        str(value.value) for value in scene.report.values if value.key.is_secret and value.value
    }
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
            content = content.replace(form.encode(errors="replace"), HIDDEN)
    return content


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o600
    info.mtime = int(datetime.now(UTC).timestamp())
    archive.addfile(info, io.BytesIO(content))
