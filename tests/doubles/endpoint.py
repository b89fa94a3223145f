"""A pool with a real zygote and real workers in this process's loop, without a link."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from agent.disk import Disk
from agent.nursery import Nursery
from agent.pool import Pool
from tests.doubles.uplink import RecordingUplink
from workers.loop import Loop
from workers.reaper import Reaper
from workers.zygote_address import address_of


class ListLog:
    """A log that is a list."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, sentence: str, **fields: Any) -> None:
        self.records.append(("debug", sentence, fields))

    def info(self, sentence: str, **fields: Any) -> None:
        self.records.append(("info", sentence, fields))

    def warning(self, sentence: str, **fields: Any) -> None:
        self.records.append(("warning", sentence, fields))

    def error(self, sentence: str, **fields: Any) -> None:
        self.records.append(("error", sentence, fields))


class Endpoint:
    """The agent's core without a link; `close` leaves nothing behind."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.state = f"{root}/state"
        self.run = f"{root}/run"
        for path in (self.state, self.run):
            os.makedirs(path, mode=0o700, exist_ok=True)
        self.loop = Loop()
        self.log = cast(Any, ListLog())  # in the place of a Log
        self.uplink = RecordingUplink()
        self.reaper = Reaper()
        self.reaper.attach(self.loop)
        self.disk = Disk(self.loop)
        self.pool = Pool(self.loop, self.disk, self.state, self.run, [self.state], self.log)
        self.nursery = Nursery(
            self.loop,
            address_of(self.run, "test"),
            self.state,
            self.pool.note_exit,
            self.reaper.watch,
            self.log,
        )
        self.pool.nursery = self.nursery
        self.pool.start_watching()
        self.nursery.connect()

    def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Turn the loop until something is true; fail after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"never came true; log: {self.log.records[-5:]}")
            self.loop.turn(0.1)
        return found

    def close(self) -> None:
        """Kill every worker and the zygote."""
        for worker in self.pool:
            with contextlib.suppress(OSError):
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            self.until(lambda: not list(self.pool), 5.0)
        for worker in self.pool:
            worker.fail("closed", "the test is over")
        self.nursery.quit()
        if self.nursery.pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self.nursery.pid, signal.SIGKILL)
        self.disk.close(2.0)
        self.loop.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextlib.contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Give an endpoint in a short directory of its own (socket paths are limited)."""
    root = tempfile.mkdtemp(prefix="jl-", dir="/tmp")
    built = Endpoint(root)
    try:
        yield built
    finally:
        built.close()
        shutil.rmtree(root, ignore_errors=True)
