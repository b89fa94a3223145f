"""A desk in a process of its own: for kinds whose worker ends every process below it.

Run as a script it is that process: it makes the worker, turns the loop and writes what the worker
says as lines of JSON; the lines it reads are messages for the worker, or orders to the desk.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.doubles.desk import DeskDouble
from workers.messages import (
    Finished,
    Result,
    Spec,
    Start,
    ToAgent,
    ToWorker,
    decode_to_agent,
    decode_to_worker,
    encode,
)

ROOT = Path(__file__).resolve().parents[2]


class DeskProcess:
    """The test's end."""

    def __init__(self, kind: str, spec: Spec, state_dir: Path) -> None:
        self.messages: list[ToAgent] = []
        self.output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.results: list[Result] = []
        self.steps = 0
        self.settled = True
        self._rest = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.desk_process", kind, str(state_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.send(Start(spec=spec))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def send(self, message: ToWorker) -> None:
        self._order(message=base64.b64encode(encode(message)).decode())

    def set_room(self, room: bool) -> None:
        self._order(room=room)

    def detach(self) -> None:
        self._order(call="on_detached")

    def attach(self) -> None:
        self._order(call="on_attached")

    def settle(self) -> None:
        """Wait until the worker has been given everything that was sent."""
        self.settled = False
        self._order(settle=True)
        self.run_until(lambda: self.settled)

    def run_until(self, happened: Callable[[], object], deadline_s: float = 120.0) -> None:
        """Take what comes until `happened()`; the deadline only detects *never*."""
        end = time.monotonic() + deadline_s
        while not happened():
            assert time.monotonic() < end, f"did not happen within {deadline_s} s"
            self._take(0.05)

    def take_for(self, seconds: float) -> None:
        """Take what comes for a while: only to see that something does *not* happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._take(0.05)

    def result(self, deadline_s: float = 120.0) -> Any:
        """Wait for the one final result."""
        self.run_until(lambda: self.results, deadline_s)
        (result,) = self.results
        return result

    def _order(self, **order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def _take(self, timeout_s: float) -> None:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if not select.select([fd], [], [], timeout_s)[0]:
            return
        data = os.read(fd, 1 << 20)
        assert data, "the desk's process has ended"
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._note(json.loads(line))

    def _note(self, said: dict[str, Any]) -> None:
        if "data" in said:
            stream = self.output[said["stream"]]
            assert said["offset"] >= len(stream), "output went backwards"
            stream += bytes(said["offset"] - len(stream)) + base64.b64decode(said["data"])
        elif "settled" in said:
            self.settled = True
        elif "result" in said:
            self.steps = said["steps"]
            self.results.append(_finished(said["result"]))
        else:
            self.messages.append(decode_to_agent(base64.b64decode(said["message"])))


def _finished(text: str) -> Result:
    return decode_to_agent(base64.b64decode(text)).result  # type: ignore[union-attr]


# -- the other end ------------------------------------------------------------------------------


def _say(**said: object) -> None:
    """Write a line whole: a signal handler's callback may come between two writes of a stream."""
    line = memoryview(json.dumps(said).encode() + b"\n")
    while line:
        line = line[os.write(1, line) :]


class _Desk(DeskDouble):
    def send(self, message: ToAgent) -> None:
        _say(message=base64.b64encode(encode(message)).decode())

    def send_data(self, stream: int, offset: int, data: bytes) -> None:
        assert self.room, "output was sent without room for it"
        _say(stream=stream, offset=offset, data=base64.b64encode(data).decode())

    def finish(self, result: Result) -> None:
        text = base64.b64encode(encode(Finished(result=result))).decode()
        _say(result=text, steps=self.steps)


class _Clerk:
    """Obeys the test's lines."""

    def __init__(self, kind: str, state_dir: str) -> None:
        self.desk = _Desk(state_dir)
        self._worker: Any = importlib.import_module(f"workers.{kind}.worker").make(self.desk)
        self._orders = b""
        self.desk.loop.set_reader(0, self._on_orders)

    def _on_orders(self) -> None:
        data = os.read(0, 1 << 20)
        if not data:
            self.desk.loop.stop()
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "room" in order:
            self.desk.room = order["room"]
            if self.desk.room:
                self._worker.on_room()
        elif "settle" in order:
            _say(settled=True)
        elif "call" in order:
            getattr(self._worker, order["call"])()
        else:
            message = decode_to_worker(base64.b64decode(order["message"]))
            if isinstance(message, Start):
                self._worker.on_start(message.spec)
            else:
                self._worker.on_message(message)


if __name__ == "__main__":
    from workers.trees_posix import become_subreaper

    become_subreaper()
    _Clerk(*sys.argv[1:]).desk.loop.run()
