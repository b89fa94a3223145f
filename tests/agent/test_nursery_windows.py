"""Workers that are started one by one, with a stand-in for the process."""

from __future__ import annotations

import io
import queue
from typing import IO, Any

from agent.log import Log
from agent.nursery_windows import Nursery
from workers.loop import Loop
from workers.messages_zygote import Exited, Spawn, Spawned, SpawnFailed, decode_to_zygote

SPAWN = Spawn(job_id="j", kind="shell", address="a", token=b"t" * 32, spool="s")


class KeptInput(io.BytesIO):
    """Keeps what was written when it is closed."""

    kept = b""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


class FakeProcess:
    """A process that prints one line and ends when told."""

    pid = 4321

    def __init__(self, line: bytes) -> None:
        self.given = KeptInput()
        self.stdin: IO[bytes] | None = self.given
        self.stdout: IO[bytes] | None = io.BytesIO(line)
        self.ending: queue.Queue[int] = queue.Queue()

    def wait(self) -> int:
        return self.ending.get(timeout=10)


def started(line: bytes) -> tuple[FakeProcess, list[Any], list[Exited], Loop, list[list[str]]]:
    process = FakeProcess(line)
    answers: list[Any] = []
    exits: list[Exited] = []
    argvs: list[list[str]] = []
    loop = Loop()

    def begin(argv: list[str]) -> FakeProcess:
        argvs.append(argv)
        return process

    nursery = Nursery(
        loop, "", "state", exits.append, lambda _pid, _cb: None, Log(None), start=begin
    )
    nursery.spawn(SPAWN, answers.append)
    return process, answers, exits, loop, argvs


def turn_until(loop: Loop, seen: list[Any]) -> None:
    for _ in range(100):
        if seen:
            return
        loop.turn(0.1)
    raise AssertionError("it never came")


def test_nursery_windows_hands_the_request_in_and_reports_the_end() -> None:
    """The token is on standard input and in no argument; the exit comes as from a zygote."""
    process, answers, exits, loop, argvs = started(b"listening\r\n")
    turn_until(loop, answers)
    assert isinstance(answers[0], Spawned) and answers[0].pid == 4321
    assert decode_to_zygote(process.given.kept) == SPAWN
    assert argvs[0][-2:] == ["_worker", "state"]
    process.ending.put(3)
    turn_until(loop, exits)
    assert (exits[0].job_id, exits[0].status) == ("j", 3)
    loop.close()


def test_nursery_windows_tells_of_a_worker_that_does_not_listen() -> None:
    process, answers, exits, loop, _ = started(b"")
    turn_until(loop, answers)
    assert isinstance(answers[0], SpawnFailed)
    process.ending.put(1)
    turn_until(loop, exits)
    loop.close()
