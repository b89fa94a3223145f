"""What is on disk of a plan's runs, so that whoever comes next knows how the last one stands.

`run.json` in the plan's folder: state, sequence number, who runs it, the file in flight, the bytes
so far. `history.jsonl`: one line for each run that ended. A `running` state whose process is gone
is an interrupted run. Rules: replaced by rename; synced only where a run begins or ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from workers import processes

CANCEL = "cancel"
RUN = "run.json"
HISTORY = "history.jsonl"
MANIFESTS = "manifests"
_KEEP_LINES = 1_000


def read(folder: Path) -> dict[str, Any]:
    """Return the last run's state; `state` is `never` when there was none.

    A run whose process is gone without having said so is `interrupted`.
    """
    try:
        said = msgspec.json.decode((folder / RUN).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {"state": "never"}
    if not isinstance(said, dict):
        return {"state": "never"}
    if said.get("state") == "running" and not is_running(said):
        said["state"] = "interrupted"
    return said


def is_running(said: dict[str, Any]) -> bool:
    """Tell whether the process that a state names is still that process, and no zombie."""
    pid, started = said.get("pid"), said.get("startTime")
    if not isinstance(pid, int) or not isinstance(started, int):
        return False
    is_this_boot = said.get("bootId") == (processes.boot_id() or "")
    return is_this_boot and processes.is_alive(processes.ProcessRef(pid, started))


def write(folder: Path, said: dict[str, Any], *, durable: bool = False) -> None:
    """Put a state in place; failing to is not worth a run."""
    path, fresh = folder / RUN, folder / f"{RUN}.new"
    with contextlib.suppress(OSError):
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, msgspec.json.encode(said))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(fresh, path)


def me() -> dict[str, Any]:
    """Return what names this process."""
    return {
        "pid": os.getpid(),
        "startTime": processes.start_time(os.getpid()) or 0,
        "bootId": processes.boot_id() or "",
    }


def add_history(folder: Path, said: dict[str, Any]) -> None:
    """Note a run that has ended."""
    with contextlib.suppress(OSError):
        fd = os.open(folder / HISTORY, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, msgspec.json.encode(said) + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the runs that have ended, oldest first."""
    found: list[dict[str, Any]] = []
    try:
        lines = (folder / HISTORY).read_bytes().splitlines()[-_KEEP_LINES:]
    except OSError:
        return found
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError):
            said = msgspec.json.decode(line)
            if isinstance(said, dict):
                found.append(said)
    return found


def manifests(folder: Path) -> Path:
    """Return the directory of the manifests, made if need be."""
    path = folder / MANIFESTS
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def manifest_path(folder: Path, seq: int) -> Path:
    """Return where the manifest of a run is."""
    return manifests(folder) / f"{seq:06d}.tsv"


def known_manifests(folder: Path) -> list[Path]:
    """Return the finished manifests, newest first."""
    return sorted(manifests(folder).glob("[0-9]*.tsv"), reverse=True)


def broken_manifests(folder: Path) -> list[Path]:
    """Return what broken-off runs have left, newest first."""
    return sorted(manifests(folder).glob("[0-9]*.open"), reverse=True)


def ask_to_cancel(folder: Path) -> bool:
    """Ask whoever runs something for a plan to end it; False: nobody does.

    The request lies in the folder when the signal comes, so that its end is called what it is.
    """
    said = read(folder)
    if said.get("state") != "running" or not is_running(said):
        return False
    (folder / CANCEL).touch()
    return processes.send(
        processes.ProcessRef(int(said["pid"]), int(said["startTime"])), signal.SIGTERM
    )


def is_cancelled(folder: Path) -> bool:
    """Was a cancellation asked for? Asking takes it back."""
    try:
        (folder / CANCEL).unlink()
    except OSError:
        return False
    return True
