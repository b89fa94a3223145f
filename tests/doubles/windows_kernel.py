"""Windows' processes and job objects, in memory: for the modules that only run there."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from workers.kernel_windows import STILL_ACTIVE


@dataclass
class FakeProcess:
    job: str | None = None
    exit_code: int = STILL_ACTIVE
    ended: threading.Event = field(default_factory=threading.Event)
    # Stays when terminated, as one in the middle of a driver's call does.
    is_stuck: bool = False


class FakeKernel:
    """See `workers.kernel_windows.Kernel`. The calling process is always there."""

    def __init__(self) -> None:
        self.processes: dict[int, FakeProcess] = {os.getpid(): FakeProcess()}
        self.jobs: dict[str, int] = {}
        self.handles: dict[int, tuple[str, int | str]] = {}
        self._next = 100

    # What a test does ---------------------------------------------------------------------------

    def start(self, parent: int | None = None) -> int:
        """Start a process; it joins the job of its parent."""
        self._next += 4
        job = None if parent is None else self.processes[parent].job
        self.processes[self._next] = FakeProcess(job=job)
        return self._next

    def end(self, pid: int, code: int) -> None:
        process = self.processes[pid]
        if process.exit_code == STILL_ACTIVE and not process.is_stuck:
            process.exit_code = code
            process.ended.set()

    def is_running(self, pid: int) -> bool:
        return self.processes[pid].exit_code == STILL_ACTIVE

    # The Protocol -------------------------------------------------------------------------------

    def open_process(self, pid: int) -> int:
        if pid not in self.processes or not self.is_running(pid):
            raise OSError(87, "the parameter is incorrect")
        return self._handle("process", pid)

    def wait(self, handle: int) -> None:
        self._process(handle).ended.wait()

    def exit_code(self, handle: int) -> int:
        return self._process(handle).exit_code

    def terminate(self, handle: int, exit_code: int) -> None:
        kind, pid = self.handles[handle]
        assert kind == "process" and isinstance(pid, int)
        self.end(pid, exit_code)

    def create_job(self, name: str) -> int:
        self.jobs[name] = self.jobs.get(name, 0) + 1
        return self._handle("job", name)

    def open_job(self, name: str) -> int:
        if name not in self.jobs:
            raise FileNotFoundError(2, "no such job object")
        return self.create_job(name)

    def assign(self, job: int, process: int) -> None:
        self._process(process).job = self._job(job)

    def members(self, job: int) -> list[int]:
        return self._members(self._job(job))

    def terminate_job(self, job: int, exit_code: int) -> None:
        for pid in self.members(job):
            self.end(pid, exit_code)

    def close(self, handle: int) -> None:
        kind, name = self.handles.pop(handle)
        if kind == "job":
            assert isinstance(name, str)
            self.jobs[name] -= 1
            if not self.jobs[name]:
                del self.jobs[name]
                for pid in self._members(name):
                    self.end(pid, 0)

    def _members(self, name: str) -> list[int]:
        return [
            pid for pid, each in self.processes.items() if each.job == name and self.is_running(pid)
        ]

    def _handle(self, kind: str, what: int | str) -> int:
        self._next += 4
        self.handles[self._next] = (kind, what)
        return self._next

    def _process(self, handle: int) -> FakeProcess:
        kind, pid = self.handles[handle]
        assert kind == "process" and isinstance(pid, int)
        return self.processes[pid]

    def _job(self, handle: int) -> str:
        kind, name = self.handles[handle]
        assert kind == "job" and isinstance(name, str)
        return name
