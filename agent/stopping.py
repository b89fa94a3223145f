"""End what an agent left behind, with no agent running: workers by their records, then zygotes.

Used by `jackline stop`. Rules: holds the agent's lock meanwhile, so that no agent starts in
between; reads records and makes files as the owner of the state directory; signals only processes
whose pid and start time match their record, or whose command line names our run directory as a
zygote's does; a job's result is spooled by its worker and reported by the next agent. Source:
architecture, "Adoption".
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agent.dirs import Dirs, as_owner, owner_of
from agent.errors import AlreadyRunningError, DirectoryError
from agent.lock import Lock
from workers import jobs, processes, trees
from workers.jobs import JobRecord
from workers.processes import ProcessRef

LOOK_S = 0.02
TERM_S = 6.0  # a command's own grace is 3 s, then KILL


def end_everything(dirs: Dirs, timeout_s: float) -> list[str]:
    """End every worker and zygote that belongs to these directories.

    Args:
        timeout_s: for all of it together.

    Returns:
        One sentence for each thing that would not end; empty: nothing is left.

    Raises:
        DirectoryError: the state directory is another's, or not as we left it; exit 78.
    """
    if not dirs.state.is_dir():
        return []
    deadline_s = time.monotonic() + timeout_s
    try:
        with as_owner(dirs.state):
            lock = Lock.take(dirs.state)
    except AlreadyRunningError:
        return ["an agent runs on this state directory and does not answer its control socket"]
    try:
        left = _end_workers(_records(dirs.state), deadline_s)
        _ask_zygotes(dirs.run)
        return left + _end_strays(dirs.run, deadline_s)
    finally:
        lock.release()


def _records(state_dir: Path) -> list[JobRecord]:
    """Return the records of jobs that are the owner's of the state directory.

    Else this owner could let root end any process that there is, by a record of it.
    """
    try:
        with as_owner(state_dir):
            records, _unusable = jobs.read_records(str(state_dir))
    except OSError as e:
        raise DirectoryError(f"{e.filename}: cannot be read: {e.strerror}") from e
    owner = owner_of(state_dir)
    if sys.platform == "win32" or owner == os.geteuid():
        return records
    return [record for record in records if _account_of(record.pid) == owner]


def _account_of(pid: int) -> int | None:
    try:
        told = Path(f"/proc/{pid}/status").read_bytes()
        return int(told.partition(b"\nUid:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _end_workers(records: list[JobRecord], deadline_s: float) -> list[str]:
    boot_id = processes.boot_id() or ""
    alive = {
        record.worker_id: (ProcessRef(record.pid, record.start_time), record.job_id)
        for record in records
        if record.boot_id == boot_id and processes.is_same(record.pid, record.start_time)
    }
    if sys.platform != "win32":
        import signal  # the names differ on Windows

        for process, _ in alive.values():
            for number in (signal.SIGTERM, signal.SIGCONT):
                processes.send(process, number)
    patient_until_s = min(deadline_s, time.monotonic() + TERM_S)
    while time.monotonic() < patient_until_s:
        if not any(processes.is_alive(process) for process, _ in alive.values()):
            break
        time.sleep(LOOK_S)
    left = []
    for worker_id, (process, job_id) in alive.items():
        _drive(trees.kill_tree(process, trees.AT_ONCE, job_id=job_id), deadline_s)
        if processes.is_alive(process):
            left.append(f"{worker_id} (pid {process.pid}) would not end")
    return left


def _drive(kill: trees.TreeKill, deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        wait_s = kill.step(time.monotonic())
        if wait_s is None:
            return
        time.sleep(wait_s)


def _ask_zygotes(run_dir: Path) -> None:
    """Ask every zygote that listens here to end; its workers are gone."""
    from workers import frames
    from workers.messages import encode
    from workers.messages_zygote import Quit

    if sys.platform != "win32":
        for path in run_dir.glob("zygote-*.sock"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(2.0)
                try:
                    sock.connect(str(path))
                    sock.sendall(frames.message_frame(encode(Quit())))
                    while sock.recv(4096):
                        pass
                except OSError:
                    path.unlink(missing_ok=True)


def _end_strays(run_dir: Path, deadline_s: float) -> list[str]:
    """Kill what is deaf (a stopped zygote) or has no record: our run directory names them all."""
    strays = list(_started_for(run_dir))
    for process in strays:
        _drive(trees.kill_tree(process, trees.AT_ONCE), deadline_s)
    return [f"pid {each.pid} would not end" for each in strays if processes.is_alive(each)]


def _started_for(run_dir: Path) -> Iterator[ProcessRef]:
    """Zygotes, and the workers forked from them, bear the address in their arguments."""
    if not processes.has_proc():
        return
    address = os.fsencode(run_dir / "zygote-")
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        is_ours = b"_zygote" in words and any(word.startswith(address) for word in words)
        process = processes.reference(int(name)) if is_ours else None
        if process is not None and processes.is_alive(process):
            yield process
