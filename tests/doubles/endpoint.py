"""A pool with a real zygote and real workers in this process's loop, without a link."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from agent.disk import Disk
from agent.limits import Slots
from agent.nursery_posix import ANSWER_S, Nursery
from agent.pool import Pool
from agent.shells import Shells
from agent.watchdog import PATIENCE, Patience
from agent.worker import Gone
from tests.doubles.uplink import RecordingUplink
from workers.loop import Loop
from workers.messages import ShellSpec
from workers.reaper import Reaper
from workers.zygote_address import address_of


class ListLog:
    """A log that is a list."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def write(self, level: str, sentence: str, fields: Mapping[str, Any]) -> None:
        self.records.append((level, sentence, dict(fields)))

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

    def __init__(
        self, root: str, patience: Patience = PATIENCE, answer_s: float = ANSWER_S
    ) -> None:
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
        self.pool = Pool(
            self.loop, self.disk, self.state, self.run, [self.state], self.log, patience
        )
        self.nursery = Nursery(
            self.loop,
            address_of(self.run, "test"),
            self.state,
            self.pool.note_exit,
            self.reaper.watch,
            self.log,
            answer_s=answer_s,
        )
        self.pool.nursery = self.nursery
        self.pool.start_watching()
        self.nursery.connect()

    def until(self, condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
        """Turn the loop until something is true; fail after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"never came true; log: {self.log.records[-5:]}")
            self.loop.turn(0.1)
        return found

    def shells(self, argv: list[str] | None = None, limit: int = 4, lease_s: float = 900) -> Shells:
        """Give the family of shells: a plain bash each, without prompt or start-up files."""
        spec = ShellSpec(
            argv=argv or ["/bin/bash", "--norc", "--noprofile"],
            env={"PATH": "/usr/bin:/bin", "TERM": "xterm", "PS1": "$ "},
            cwd="/",
        )
        shells = Shells(
            self.loop,
            self.pool,
            self.uplink,
            Slots(self.loop, limit),
            lambda: None,
            lambda _message: (spec, None),
            lease_s,
            self.log,
        )
        self.uplink.on_data = lambda key, cost: self.loop.call_soon(
            lambda: shells.on_drained(key, cost)
        )
        return shells

    def abandon(self) -> None:
        """Be gone as after a `kill -9`: nobody is told, nothing is ended."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.nursery.close()
        for worker in self.pool:
            worker._let_go()
            if worker._pidfd is not None:
                self.loop.forget(worker._pidfd)
                os.close(worker._pidfd)
        self.disk.close(5.0)
        self.loop.close()

    def close(self) -> None:
        """Kill every worker and the zygote."""
        for worker in self.pool:
            worker.kill(Gone(reason="closed"))  # also one that does not exist yet
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
def endpoint(**options: Any) -> Iterator[Endpoint]:
    """Give an endpoint in a short directory of its own (socket paths are limited)."""
    with generations(**options) as made:
        yield made.next()


class Generations:
    """One agent after another on the same directories."""

    def __init__(self, root: str, options: dict[str, Any]) -> None:
        self.root = root
        self._options = options
        self._now: Endpoint | None = None

    def next(self) -> Endpoint:
        """Give the next one; the one before it is gone as after a `kill -9`."""
        self.abandon()
        self._now = Endpoint(self.root, **self._options)
        return self._now

    def abandon(self) -> None:
        """Have no agent at all."""
        if self._now is not None:
            self._now.abandon()
            self._now = None

    def close(self) -> None:
        if self._now is not None:
            self._now.close()
        # What no agent knew any more: whoever has our directory in its command line or mark.
        for pid in _belonging_to(self.root):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def generations(**options: Any) -> Iterator[Generations]:
    """Give agents one after another; nothing of any is left in the end."""
    made = Generations(tempfile.mkdtemp(prefix="jl-", dir="/tmp"), options)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(made.root, ignore_errors=True)


def _belonging_to(root: str) -> Iterator[int]:
    """Workers keep the command line of the zygote that they were forked from."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            if f"{root}/".encode() in file.read() and int(name) != os.getpid():
                yield int(name)
