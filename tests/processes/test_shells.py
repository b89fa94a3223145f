"""Shell sessions with real zygote, workers and PTYs, and a recorded uplink."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.limits import Slots
from agent.shells import Shells
from tests.doubles import vitals
from tests.doubles.endpoint import Endpoint, endpoint
from wire.shell import ShellClose, ShellClosed, ShellInput, ShellOutput, ShellResize, ShellStart
from workers.messages import ShellSpec


@pytest.fixture
def place() -> Iterator[Endpoint]:
    with endpoint() as built:
        yield built


def family(place: Endpoint, *, argv: list[str] | None = None, limit: int = 4) -> Shells:
    shells = Shells(
        place.loop,
        place.pool,
        place.uplink,
        Slots(place.loop, limit),
        lambda: None,
        lambda _message: (
            ShellSpec(
                argv=argv or ["/bin/bash", "--norc", "--noprofile"],
                env={"PATH": "/usr/bin:/bin", "TERM": "xterm", "PS1": "$ "},
                cwd="/",
            ),
            None,
        ),
        900.0,
        place.log,
    )
    place.uplink.on_data = lambda key, cost: place.loop.call_soon(
        lambda: shells.on_drained(key, cost)
    )
    return shells


def text(place: Endpoint) -> str:
    return "".join(event.data for event in place.uplink.of(ShellOutput))


def test_shell_echoes_what_is_typed_and_ends_once(place: Endpoint) -> None:
    """Input reaches the terminal in order, output comes back, exit gives its code."""
    shells = family(place)
    shells.on_start(ShellStart(session="s1"))
    shells.on_input(ShellInput(session="s1", data="echo $((6*7))\n"))
    place.until(lambda: "42" in text(place))
    shells.on_input(ShellInput(session="s1", data="exit 3\n"))
    closed = place.until(lambda: place.uplink.of(ShellClosed))
    assert [(c.session, c.code, c.reason) for c in closed] == [("s1", 3, "exit")]
    place.until(lambda: not list(place.pool))
    place.until(lambda: os.listdir(f"{place.state}/jobs") == [])


def test_shell_that_lets_go_of_its_terminal_is_waited_for_asleep(place: Endpoint) -> None:
    """Its exit is its end, and until then nobody looks a hundred times a second."""
    shells = family(place)
    shells.on_start(ShellStart(session="s1"))
    shells.on_input(ShellInput(session="s1", data="exec sleep 1.5 <&- >&- 2>&-\n"))
    (worker,) = list(place.pool)
    program = Path("/proc", str(place.until(lambda: worker.child_pid)))
    place.until(lambda: "sleep" in (program / "cmdline").read_text())
    seen = [switches(worker.pid)]

    def has_closed() -> object:
        with contextlib.suppress(OSError):  # it may have ended with its session
            seen.append(switches(worker.pid))
        return place.uplink.of(ShellClosed)

    place.until(has_closed)
    assert seen[-1] - seen[0] < 60
    assert [(c.code, c.reason) for c in place.uplink.of(ShellClosed)] == [(0, "exit")]


def switches(pid: int) -> int:
    """How often a process has gone to sleep."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def test_shell_killed_worker_closes_the_session_with_its_signal(place: Endpoint) -> None:
    """A dead worker is told at once, and nothing of its tree is left."""
    shells = family(place)
    shells.on_start(ShellStart(session="s1"))
    shells.on_input(ShellInput(session="s1", data="sleep 1000 & echo up\n"))
    place.until(lambda: "up\r\n" in text(place))
    (worker,) = list(place.pool)
    child = worker.child_pid
    assert child is not None
    os.kill(worker.pid, signal.SIGKILL)
    (closed,) = place.until(lambda: place.uplink.of(ShellClosed))
    assert (closed.signal, closed.reason) == (9, "worker_died")

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{child}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"

    place.until(gone)


def test_shell_close_ends_the_whole_tree(place: Endpoint) -> None:
    """A setsid child and a program that ignores HUP and TERM go as well."""
    shells = family(place)
    shells.on_start(ShellStart(session="s1"))
    script = "(trap '' HUP TERM; setsid sleep 1000) & setsid sleep 1001 & echo up\n"
    shells.on_input(ShellInput(session="s1", data=script))
    place.until(lambda: "up\r\n" in text(place))
    (worker,) = list(place.pool)
    mark = f"JACKLINE_JOB={worker.record.job_id}"
    place.until(lambda: len(vitals.marked(mark)) >= 3)
    shells.on_close(ShellClose(session="s1"))
    (closed,) = place.until(lambda: place.uplink.of(ShellClosed))
    assert closed.reason == "closed"
    assert vitals.marked(mark) == []


def test_shell_output_over_the_window_arrives_whole(place: Endpoint) -> None:
    """More output than any window, in order, with the close after the last byte."""
    shells = family(place, argv=["/usr/bin/seq", "200000"])
    shells.on_start(ShellStart(session="s1"))
    place.until(lambda: place.uplink.of(ShellClosed))
    expected = "".join(f"{n}\r\n" for n in range(1, 200001))
    assert text(place) == expected
    assert isinstance(place.uplink.said[-1], ShellClosed)


def test_shell_resize_reaches_the_terminal(place: Endpoint) -> None:
    """The program sees the last of many sizes."""
    shells = family(place)
    shells.on_start(ShellStart(session="s1"))
    for cols in range(20, 121):
        shells.on_resize(ShellResize(session="s1", cols=cols, rows=50))
    shells.on_input(ShellInput(session="s1", data="sleep 0.2; stty size\n"))
    place.until(lambda: "50 120" in text(place))


def test_shell_over_the_limit_is_refused_as_busy(place: Endpoint) -> None:
    """One place: the second start is told so, the first lives."""
    shells = family(place, limit=1)
    shells.on_start(ShellStart(session="s1"))
    shells.on_start(ShellStart(session="s2"))
    (closed,) = place.uplink.of(ShellClosed)
    assert (closed.session, closed.reason, closed.detail) == ("s2", "busy", "max_concurrent")


def test_shell_restart_keeps_the_session_and_says_so(place: Endpoint) -> None:
    """A new terminal under the same name; its output tells."""
    shells = family(place)
    shells.on_start(ShellStart(session="s1"))
    shells.on_input(ShellInput(session="s1", data="echo first$((1))\n"))
    place.until(lambda: "first1" in text(place))
    (worker,) = list(place.pool)
    assert shells.restart(worker.id)
    place.until(lambda: "restarted by an administrator" in text(place))
    shells.on_input(ShellInput(session="s1", data="echo second$((2))\n"))
    place.until(lambda: "second2" in text(place))
    assert place.uplink.of(ShellClosed) == []
    (renewed,) = list(place.pool)
    assert renewed.id == worker.id and renewed.pid != worker.pid
