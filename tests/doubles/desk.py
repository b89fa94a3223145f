"""A `Desk` with a real loop: what a kind says is kept, as it would arrive at the agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workers.loop import Loop
from workers.messages import Finished, Log, Result, ToAgent, decode_to_agent, encode

# Those whose loop is still open; `close_all` is called after every test.
_open: list[DeskDouble] = []


def close_all() -> None:
    """Close the loops of all desks that a test has made."""
    while _open:
        _open.pop().loop.close()


class DeskDouble:
    """Stands for `workers.entry` and the agent behind it.

    `room` is what `has_room` answers; a test that sets it to True again calls the worker's
    `on_room` itself, as entry would.
    """

    def __init__(self, state_dir: str = "/nonexistent", job_id: str = "job-1") -> None:
        self.loop = Loop()
        self.job_id = job_id
        self.state_dir = state_dir
        self.secret_dirs: list[str] = []
        self.room = True
        self.sent: list[ToAgent] = []
        self.output: list[tuple[int, int, bytes]] = []
        self.results: list[Result] = []
        self.steps = 0
        _open.append(self)

    def send(self, message: ToAgent) -> None:
        self.sent.append(decode_to_agent(encode(message)))

    def send_data(self, stream: int, offset: int, data: bytes) -> None:
        assert self.room, "output was sent without room for it"
        self.output.append((stream, offset, data))

    def has_room(self) -> bool:
        return self.room

    def finish(self, result: Result) -> None:
        arrived = decode_to_agent(encode(Finished(result=result)))
        assert isinstance(arrived, Finished)
        self.results.append(arrived.result)

    def progress(self) -> None:
        self.steps += 1

    def log(self, level: str, sentence: str, **fields: Any) -> None:
        self.send(Log(level=level, sentence=sentence, fields=fields))  # type: ignore[arg-type]

    @property
    def logs(self) -> list[Log]:
        return [message for message in self.sent if isinstance(message, Log)]

    def run_until(self, happened: Callable[[], object], deadline_s: float = 120.0) -> None:
        """Turn the loop until `happened()` is true; the deadline only detects *never*."""
        end = time.monotonic() + deadline_s
        while not happened():
            assert time.monotonic() < end, f"did not happen within {deadline_s} s"
            self.loop.turn(max_wait_s=0.05)

    def run_for(self, seconds: float) -> None:
        """Turn the loop for a while: only to see that something does *not* happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.loop.turn(max_wait_s=0.05)

    def result(self, deadline_s: float = 120.0) -> Any:
        """Wait for the one final result."""
        self.run_until(lambda: self.results, deadline_s)
        (result,) = self.results
        return result
