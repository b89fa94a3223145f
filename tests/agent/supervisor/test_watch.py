"""agent-watch: who is killed, when, and what a FATAL program gets."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from agent.supervisor import watch as module
from agent.supervisor.watch import Target, Watch, listen, parse_tokens


class FakeTarget(Target):
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = None
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1


class Scene:
    """A watch, what it said and started, and the events that supervisord would send."""

    def __init__(self) -> None:
        self.targets: list[FakeTarget] = []
        self.said: list[str] = []
        self.starts = 0
        self.watch = Watch("agent", self._start, self.said.append, self._make)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.watch.on_event({"eventname": "TICK_5"}, b"when:1")

    def state(self, state: str, pid: int | None = None, name: str = "agent") -> None:
        body = f"processname:{name} groupname:{name} from_state:X"
        body += f" pid:{pid}" if pid else " tries:0"
        self.watch.on_event({"eventname": f"PROCESS_STATE_{state}"}, body.encode())

    def output(self, pid: int, data: bytes = b"JACKLINE-PULSE 1\n", name: str = "agent") -> None:
        head = f"processname:{name} groupname:{name} pid:{pid}\n"
        self.watch.on_event({"eventname": "PROCESS_LOG_STDOUT"}, head.encode() + data)

    @property
    def kills(self) -> dict[int, int]:
        return {target.pid: target.kills for target in self.targets}

    def _make(self, pid: int) -> FakeTarget:
        self.targets.append(FakeTarget(pid))
        return self.targets[-1]

    def _start(self) -> None:
        self.starts += 1


def test_watch_leaves_an_agent_with_a_pulse_alone() -> None:
    scene = Scene()
    scene.state("RUNNING", 7)
    for _ in range(50):
        scene.output(7)
        scene.tick(2)
    assert scene.kills == {7: 0}


def test_watch_kills_an_agent_that_went_silent_within_fifteen_seconds() -> None:
    scene = Scene()
    scene.output(7)
    scene.tick(2)
    assert scene.kills == {7: 0}
    scene.tick()
    assert scene.kills == {7: 1}
    assert "killing pid 7" in scene.said[0]


def test_watch_kills_again_what_does_not_end() -> None:
    scene = Scene()
    scene.output(7)
    scene.tick(6)
    assert scene.kills == {7: 2}
    scene.state("EXITED", 7)
    scene.tick(20)
    assert scene.kills == {7: 2}


def test_watch_gives_a_slow_start_a_minute() -> None:
    scene = Scene()
    scene.state("RUNNING", 7)
    scene.tick(11)
    assert scene.kills == {7: 0}
    scene.tick()
    assert scene.kills == {7: 1}


def test_watch_counts_anew_for_a_new_process() -> None:
    scene = Scene()
    scene.output(7)
    scene.tick(2)
    scene.state("EXITED", 7)
    scene.state("STARTING")
    scene.output(8)
    scene.tick(2)
    assert scene.kills == {7: 0, 8: 0}


def test_watch_hears_no_other_program() -> None:
    scene = Scene()
    scene.output(7)
    for _ in range(3):
        scene.output(9, name="other")
        scene.state("RUNNING", 9, name="other")
        scene.tick()
    assert scene.kills == {7: 1}


def test_watch_takes_only_pulses_for_pulses() -> None:
    scene = Scene()
    scene.output(7)
    for _ in range(3):
        scene.output(7, b"something else\n")
        scene.tick()
    assert scene.kills == {7: 1}


def test_watch_starts_what_is_fatal_after_pauses_that_grow() -> None:
    scene = Scene()
    scene.state("FATAL")
    scene.tick(11)
    assert scene.starts == 0
    scene.tick()
    assert scene.starts == 1
    scene.state("FATAL")
    scene.tick(12)
    assert scene.starts == 1
    scene.tick(12)
    assert scene.starts == 2
    scene.output(7)
    scene.state("FATAL")
    scene.tick(12)
    assert scene.starts == 3


def test_watch_forgets_fatal_when_somebody_else_starts_it() -> None:
    scene = Scene()
    scene.state("FATAL")
    scene.state("STARTING")
    scene.tick(100)
    assert scene.starts == 0


def test_watch_speaks_supervisors_protocol_and_survives_an_error() -> None:
    scene = Scene()
    scene.watch.start = lambda: 1 / 0  # type: ignore[assignment,return-value]
    fatal = b"processname:agent groupname:agent from_state:BACKOFF"
    events = b"eventname:PROCESS_STATE_FATAL len:%d\n%s" % (len(fatal), fatal)
    events += b"ver:3.0 eventname:TICK_5 len:6\nwhen:1" * 12
    out = io.BytesIO()
    listen(scene.watch, io.BytesIO(events), out)
    assert out.getvalue() == b"READY\n" + b"RESULT 2\nOKREADY\n" * 13
    assert "could not be handled" in scene.said[-1]


def test_watch_ignores_a_body_without_sense() -> None:
    scene = Scene()
    for body in (b"", b"\xff\xfe", b"processname:agent pid:x\nJACKLINE-PULSE"):
        scene.watch.on_event({"eventname": "PROCESS_LOG_STDOUT"}, body)
    scene.tick(30)
    assert scene.kills == {}


def test_watch_tokens_keep_colons_in_values() -> None:
    assert parse_tokens(b"a:1 url:unix:///x b") == {"a": "1", "url": "unix:///x"}


def test_target_kills_a_stopped_process_once_and_not_its_successor() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.kill(child.pid, signal.SIGSTOP)
    target = Target(child.pid)
    target.kill()
    assert child.wait(10) == -signal.SIGKILL
    target.kill()
    target.close()


@pytest.mark.parametrize(
    "argv, program, retry_s",
    [([], "agent", 60), (["other"], "other", 60), (["other", "5"], "other", 5)],
)
def test_watch_runs_until_supervisord_has_gone(
    argv: list[str], program: str, retry_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Watch] = []
    monkeypatch.setattr(module, "listen", lambda watch, _in, _out: seen.append(watch))
    assert module.run(argv) == 0
    assert [(watch.program, watch.retry_s) for watch in seen] == [(program, retry_s)]
