"""What is on disk of a plan's runs, so that whoever comes next knows how the last one stands.

`run.json` in the plan's folder: state, sequence number, who runs it, the file in flight, the bytes
so far. `history.jsonl`: one line for each run that ended. A `running` state whose process is gone
is an interrupted run. `working.<pid>`: whoever does anything for the plan. Rules: replaced by
rename; synced only where a run begins or ends; nobody else may read any of it.
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
WORKING = "working"
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


def history_stamp(folder: Path) -> object:
    """Return what changes whenever `history` does."""
    try:
        found = (folder / HISTORY).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


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


def enter(folder: Path, op: str) -> None:
    """Say that this process does something for a plan, until `leave`; others can then end it."""
    for path, said in _working(folder):
        if not is_running(said):
            path.unlink(missing_ok=True)
    write_private(_own(folder, WORKING), msgspec.json.encode({"op": op, **me()}))


def leave(folder: Path) -> None:
    """Say that it is done."""
    for word in (WORKING, CANCEL):
        with contextlib.suppress(OSError):
            _own(folder, word).unlink()


def ask_to_cancel(folder: Path) -> list[processes.ProcessRef]:
    """Ask whoever does something for a plan to end it; return who was asked.

    The request lies in the folder when the signal comes, so that its end is called what it is.
    """
    asked = []
    for _, said in _working(folder):
        if is_running(said):
            process = processes.ProcessRef(int(said["pid"]), int(said["startTime"]))
            write_private(folder / f"{CANCEL}.{process.pid}", b"")
            if processes.send(process, signal.SIGTERM):
                asked.append(process)
    return asked


def is_cancelled(folder: Path) -> bool:
    """Was this process asked to end?"""
    return _own(folder, CANCEL).exists()


def write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody else reads; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)


def _working(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in folder.glob(f"{WORKING}.[0-9]*"):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            said = msgspec.json.decode(path.read_bytes())
            if isinstance(said, dict):
                found.append((path, said))
    return found


def _own(folder: Path, word: str) -> Path:
    return folder / f"{word}.{os.getpid()}"
