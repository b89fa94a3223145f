"""The Windows terminal over a console in memory that blocks like pywinpty's."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable

import pytest

from workers.errors import TerminalError
from workers.loop import Loop
from workers.shell.terminal_windows import WindowsTerminal, open_terminal

DEADLINE_S = 30.0


class ConsoleError(Exception):
    """What the console in memory raises where pywinpty raises WinptyError."""


class FakeConsole:
    """A console whose program is the test."""

    def __init__(self, cols: int, rows: int) -> None:
        self.sizes = [(cols, rows)]
        self.spawned: tuple[str, str | None, str | None, str | None] | None = None
        self.typed: list[str] = []
        self.takes_at_most = 1_000_000
        self.may_take = threading.Event()
        self.may_take.set()
        self.output: queue.Queue[str | None] = queue.Queue()
        self.reads = 0
        self.is_gone = False
        self.pid: int | None = None

    def spawn(self, appname, cmdline=None, cwd=None, env=None) -> bool:
        self.spawned = (appname, cmdline, cwd, env)
        self.pid = 77
        return True

    def read(self, *, blocking: bool) -> str:
        assert blocking
        self.reads += 1
        text = self.output.get()
        if text is None:
            raise ConsoleError("Standard out reached EOF")
        return text

    def write(self, to_write: str) -> int:
        self.may_take.wait(DEADLINE_S)
        if self.is_gone:
            raise ConsoleError("gone")
        self.typed.append(to_write[: self.takes_at_most])
        return min(len(to_write), self.takes_at_most)

    def set_size(self, cols: int, rows: int) -> None:
        if self.is_gone:
            raise ConsoleError("gone")
        self.sizes.append((cols, rows))

    def cancel_io(self) -> bool:
        self.output.put(None)
        return True


class Bench:
    """A terminal, its console, and what it has told."""

    def __init__(self, tmp_path) -> None:
        self.loop = Loop()
        self.consoles: list[FakeConsole] = []
        self.output: list[bytes] = []
        self.ends = 0
        self.terminal = self.open([sys.executable, "a b", '"'], str(tmp_path))
        self.terminal.on_output = self.output.append
        self.terminal.on_end = self._on_end
        self.console = self.consoles[0]

    def open(self, argv: list[str], cwd: str) -> WindowsTerminal:
        def new_console(cols: int, rows: int) -> FakeConsole:
            self.consoles.append(FakeConsole(cols, rows))
            return self.consoles[-1]

        return open_terminal(
            self.loop, argv, {"A": "1", "B": "é"}, cwd, 80, 24, new_console, (ConsoleError,)
        )

    def _on_end(self) -> None:
        self.ends += 1

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "did not happen"
            self.loop.turn(0.02)


@pytest.fixture
def bench(tmp_path):
    before = threading.active_count()
    made = Bench(tmp_path)
    yield made
    made.console.may_take.set()
    made.terminal.close()
    made.until(lambda: threading.active_count() <= before)
    made.loop.close()


def test_program_starts_with_its_arguments_environment_and_place(bench, tmp_path):
    appname, cmdline, cwd, env = bench.console.spawned
    assert appname == sys.executable
    assert cmdline == '"a b" \\"'
    assert cwd == str(tmp_path)
    assert env == "A=1\0B=é\0"
    assert bench.console.sizes == [(80, 24)]
    assert bench.terminal.pid == 77


def test_output_comes_as_utf8_in_order_on_the_loops_thread(bench):
    threads = set()

    def on_output(data: bytes) -> None:
        bench.output.append(data)
        threads.add(threading.current_thread())

    bench.terminal.on_output = on_output
    for text in ("one", "é世", "broken \ud800", "two"):
        bench.console.output.put(text)
    bench.until(lambda: len(bench.output) == 4)
    assert bench.output == [b"one", "é世".encode(), b"broken ?", b"two"]
    assert threads == {threading.current_thread()}


def test_input_is_typed_in_order_and_split_characters_arrive_whole(bench):
    for byte in "aé世b".encode():
        bench.terminal.write(bytes([byte]))
    bench.until(lambda: "".join(bench.console.typed) == "aé世b")
    bench.until(lambda: not bench.terminal.pending_bytes)


def test_input_that_is_taken_in_pieces_is_typed_whole(bench):
    bench.console.takes_at_most = 3
    bench.terminal.write(b"0123456789")
    bench.until(lambda: not bench.terminal.pending_bytes)
    assert "".join(bench.console.typed) == "0123456789"


def test_input_that_is_not_taken_waits_and_is_counted(bench):
    bench.console.may_take.clear()
    bench.terminal.write(b"x" * 500)
    bench.terminal.write(b"y" * 700)
    bench.loop.turn(0.05)
    assert bench.terminal.pending_bytes == 1200
    bench.console.may_take.set()
    bench.until(lambda: not bench.terminal.pending_bytes)


def test_paused_terminal_is_not_read_until_it_goes_on(bench):
    bench.terminal.pause(True)
    bench.until(lambda: bench.console.reads <= 1)
    for number in range(5):
        bench.console.output.put(f"{number}")
    for _ in range(5):
        bench.loop.turn(0.02)
    assert len(bench.output) <= 1
    bench.terminal.pause(False)
    bench.until(lambda: len(bench.output) == 5)
    assert bench.output == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("end", [None, ""])
def test_end_is_told_once_after_the_last_output(bench, end):
    bench.console.output.put("last")
    bench.console.output.put(end)
    bench.until(lambda: bench.ends)
    bench.loop.turn(0.05)
    assert bench.output == [b"last"]
    assert bench.ends == 1


def test_nothing_is_told_after_close(bench):
    bench.until(lambda: bench.console.reads)
    bench.terminal.close()
    bench.terminal.close()
    bench.console.output.put("late")
    bench.terminal.write(b"late")
    bench.terminal.resize(10, 10)
    for _ in range(5):
        bench.loop.turn(0.02)
    assert bench.output == [] and bench.ends == 0 and bench.terminal.pending_bytes == 0


def test_size_follows_and_a_gone_program_does_not_matter(bench):
    bench.terminal.resize(132, 50)
    assert bench.console.sizes[-1] == (132, 50)
    bench.console.is_gone = True
    bench.terminal.resize(1, 1)
    bench.terminal.write(b"to nobody")
    bench.until(lambda: not bench.terminal.pending_bytes)
    assert bench.console.typed == []


def test_missing_program_and_missing_console_are_told_apart(bench, tmp_path):
    with pytest.raises(FileNotFoundError):
        bench.open([str(tmp_path / "none.exe")], str(tmp_path))

    def no_console(cols: int, rows: int) -> FakeConsole:
        raise ConsoleError("no pseudo-console")

    with pytest.raises(TerminalError, match="no pseudo-console"):
        open_terminal(
            bench.loop, [sys.executable], {}, str(tmp_path), 80, 24, no_console, (ConsoleError,)
        )


def test_missing_directory_is_left_to_the_system(bench, tmp_path):
    terminal = bench.open([sys.executable], str(tmp_path / "gone"))
    assert bench.consoles[-1].spawned[2] is None
    terminal.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has one")
def test_other_systems_have_no_console(bench, tmp_path):
    with pytest.raises(TerminalError):
        open_terminal(bench.loop, [sys.executable], {}, str(tmp_path), 80, 24)
