"""Commands, run for real: exit codes, output, time, trees, credit (contract 1.4; cases C)."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.desk_process import DeskProcess
from workers.messages import AdminSpec, CommandEnded, Credit, End, Linked, Running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")

PATH = "/usr/local/bin:/usr/bin:/bin"
Command = Callable[..., DeskProcess]


@pytest.fixture
def start(tmp_path: Path):
    """Start a command; `sh` runs a script."""
    desks: list[DeskProcess] = []

    def begin(*argv: str, sh: str | None = None, py: str | None = None, **spec: Any):
        if sh is not None:
            argv = ("/bin/sh", "-c", sh)
        if py is not None:
            argv = (sys.executable, "-c", py)
        spec = {"timeout_s": 60.0, "env": {"PATH": PATH}, "cwd": "", **spec}
        desk = DeskProcess("admin", AdminSpec(argv=list(argv), **spec), tmp_path)
        desks.append(desk)
        return desk

    yield begin
    for desk in desks:
        desk.__exit__()


def whole(result: CommandEnded) -> tuple[bytes, bytes]:
    assert not result.stdout.tail
    assert not result.stderr.tail
    return result.stdout.head, result.stderr.head


def _exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_gone(pids: list[int], deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while any(_exists(pid) for pid in pids):
        assert time.monotonic() < end, f"still there: {[p for p in pids if _exists(p)]}"
        time.sleep(0.01)


# -- how it ends --------------------------------------------------------------------------------


def test_command_gives_its_output_and_its_code(start: Command):
    desk = start(sh="printf out; printf err >&2; exit 7")
    result = desk.result()
    assert whole(result) == (b"out", b"err")
    assert (result.code, result.signal, result.error) == (7, None, None)
    assert result.stdout.total_bytes == result.stderr.total_bytes == 3
    assert [m for m in desk.messages if isinstance(m, Running)]


def test_arguments_arrive_as_they_are_without_a_shell(start: Command):
    words = ["a b", "$HOME", "`id`", "é", "'", '"', "\\", "*", "", "a\nb", ";"]
    result = start(sys.executable, "-c", "import sys; print(sys.argv[1:])", *words).result()
    assert result.stdout.head.decode() == f"{words}\n"


def test_killed_command_tells_its_signal(start: Command):
    result = start(sh="kill -9 $$").result()
    assert (result.code, result.signal) == (137, 9)


def test_missing_program_is_127(start: Command):
    result = start("/no/such/program").result()
    assert (result.code, result.error) == (127, "not_found")
    assert b"/no/such/program" in result.stderr.head


def test_program_that_may_not_be_executed_is_126(start: Command, tmp_path: Path):
    (tmp_path / "data").write_text("x")
    for program in (tmp_path / "data", tmp_path):
        result = start(str(program)).result()
        assert result.code == 126
        assert result.stderr.head


def test_script_without_interpreter_line_is_never_given_to_a_shell(start: Command, tmp_path: Path):
    (tmp_path / "script").write_text("echo ran")
    (tmp_path / "script").chmod(0o755)
    result = start(str(tmp_path / "script")).result()
    assert result.code == 126
    assert result.stdout.head == b""


# -- what it is given ---------------------------------------------------------------------------


def test_environment_holds_what_was_built_and_the_account(start: Command, monkeypatch):
    monkeypatch.setenv("CANARY_SECRET", "x")
    result = start("/usr/bin/env", env={"PATH": PATH, "FOO": "é b"}).result()
    env = dict(line.split("=", 1) for line in result.stdout.head.decode().splitlines())
    assert set(env) == {"PATH", "FOO", "HOME", "USER", "LOGNAME", "SHELL", "JACKLINE_JOB"}
    assert (env["FOO"], env["JACKLINE_JOB"]) == ("é b", "job-1")


def test_signals_have_their_defaults_and_nothing_is_masked(start: Command):
    result = start("/bin/grep", "-E", "Sig(Blk|Ign)", "/proc/self/status").result()
    # 32 and 33 belong to the C library.
    sets = [int(line.split()[1], 16) & 0x7FFFFFFF for line in result.stdout.head.splitlines()]
    assert sets == [0, 0]


def test_nothing_is_open_but_the_three_and_the_session_is_its_own(start: Command):
    script = """
import os
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1])
print(os.getsid(0) == os.getpid(), os.read(0, 10))
"""
    lines = start(py=script).result().stdout.head.decode().splitlines()
    assert lines == ["[0, 1, 2]", "True b''"]


def test_stdin_is_fed_whole_and_closed(start: Command):
    data = os.urandom(3_000_000)
    result = start(sh="wc -c; sleep 0", stdin=data).result()
    assert result.stdout.head.split() == [b"3000000"]


def test_stdin_that_nobody_reads_is_no_fault(start: Command):
    assert start(sh="exit 3", stdin=b"x" * 3_000_000).result().code == 3


# -- where it runs ------------------------------------------------------------------------------


def test_command_without_cwd_runs_at_home(start: Command):
    result = start(sh='test "$(pwd -P)" = "$(cd "$HOME" && pwd -P)"').result()
    assert result.code == 0


def test_cwd_is_entered_when_it_lies_in_a_root(start: Command, tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    roots = [[str(tmp_path / "link")]]
    for cwd in (tmp_path / "a" / "b", tmp_path / "link" / "b", tmp_path / "a"):
        result = start("/bin/pwd", cwd=str(cwd), cwd_roots=roots).result()
        assert result.stdout.head.decode().strip() == str(cwd.resolve())


def test_cwd_that_leads_out_of_the_roots_is_126(start: Command, tmp_path: Path):
    for name in ("root", "rootx"):
        (tmp_path / name).mkdir()
    (tmp_path / "root" / "out").symlink_to("/etc")
    (tmp_path / "root" / "file").touch()
    roots = [[str(tmp_path / "root")]]
    for cwd in ("root/out", "rootx", "root/..", "root/../rootx", "root/file", "root/none"):
        result = start("/bin/pwd", cwd=f"{tmp_path}/{cwd}", cwd_roots=roots).result()
        assert result.code == 126, cwd
        assert b"cwd" in result.stderr.head
        assert result.stdout.head == b""


def test_cwd_lies_in_the_roots_of_both_sides_or_is_126(start: Command, tmp_path: Path):
    """A hub that names a link which leads out of the owner's directory gets nowhere."""
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "root" / "out").symlink_to("/etc")
    for inner, code in (("in", 0), ("out", 126)):
        cwd = f"{tmp_path}/root/{inner}"
        result = start("/bin/pwd", cwd=cwd, cwd_roots=[[f"{tmp_path}/root"], [cwd]]).result()
        assert result.code == code, inner


def test_cwd_without_any_root_is_126(start: Command):
    assert start("/bin/pwd", cwd="/tmp", cwd_roots=[]).result().code == 126


# -- its output ---------------------------------------------------------------------------------


def test_flood_is_drained_and_its_ends_are_kept_in_flat_memory(start: Command, soak: bool):
    size = (5 << 30) if soak else (200 << 20)
    desk = start(
        sh=f"echo begin; head -c {size} /dev/zero; echo end; echo e >&2", keep_bytes=100_000
    )
    desk.run_until(lambda: desk.messages)
    peak = 0

    def is_done() -> bool:
        nonlocal peak
        peak = max(peak, _rss_kib(desk.pid))
        return bool(desk.results)

    before = _rss_kib(desk.pid)
    desk.run_until(is_done, 600.0)
    result = desk.result()
    assert result.stdout.total_bytes == size + len("begin\nend\n")
    assert result.stdout.head.startswith(b"begin\n\0")
    assert result.stdout.tail.endswith(b"\0end\n")
    assert len(result.stdout.head) == len(result.stdout.tail) == 100_000
    assert (result.code, result.stderr.head) == (0, b"e\n")
    assert peak - before < 8 << 10
    assert desk.steps > 100


def _rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def test_timeout_is_obeyed_in_the_middle_of_a_flood(start: Command):
    result = start(sh="exec yes", timeout_s=2.0).result()
    assert (result.code, result.error) == (124, "timeout")
    assert result.stdout.total_bytes > 1 << 16
    assert b"timed out" in result.stderr.head


def test_background_process_that_keeps_the_pipe_does_not_hold_up_the_result(start: Command):
    desk = start(sh="sleep 300 & echo $!; exit 5")
    result = desk.result(30.0)
    assert result.code == 5
    child = int(result.stdout.head)
    assert _exists(child), "what a command leaves behind is left alone"
    os.kill(child, signal.SIGKILL)


def test_background_process_that_floods_does_not_hold_up_the_result(start: Command):
    result = start(sh="yes & echo $! >&2; exit 0").result(30.0)
    assert result.code == 0
    # Nobody reads it any more: it ends by SIGPIPE.
    wait_gone([int(result.stderr.head)])


def test_output_closed_early_waits_for_the_exit(start: Command):
    result = start(sh="exec >&- 2>&-; sleep 0.3; exit 9").result()
    assert result.code == 9


# -- time and trees -----------------------------------------------------------------------------

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for daemon in range(2):
    if os.fork() == 0:
        if daemon:
            os.setsid()
            if os.fork():
                os._exit(0)
        break
os.write(1, b"%d\\n" % os.getpid())
time.sleep(300)
"""


def pids_of(desk: DeskProcess, count: int) -> list[int]:
    desk.run_until(lambda: desk.output[1].count(b"\n") >= count)
    return [int(each) for each in desk.output[1].split()]


def test_timeout_ends_the_whole_tree_with_term_then_kill(start: Command):
    desk = start(py=STUBBORN, timeout_s=1.0, stream=True)
    desk.send(Credit(bytes=1000))
    pids = pids_of(desk, 3)
    result = desk.result()
    assert (result.code, result.signal, result.error) == (124, None, "timeout")
    assert b"timed out" in result.stderr.head
    # TERM is ignored, so KILL came, and not before its 3 s.
    assert result.duration_ms >= 4_000
    wait_gone(pids)


def test_command_that_minds_term_is_not_waited_for(start: Command):
    script = """
import os, signal, time
def bye(*_):
    os.write(1, b"bye\\n")
    os._exit(6)
signal.signal(signal.SIGTERM, bye)
os.write(1, b"ready\\n")
time.sleep(300)
"""
    desk = start(py=script, stream=True)
    desk.send(Credit(bytes=1000))
    desk.run_until(lambda: desk.output[1] == b"ready\n")
    began = time.monotonic()
    desk.send(End(reason="cancelled"))
    result = desk.result()
    # Its own code, and sooner than KILL would have come.
    assert (result.code, result.signal, result.error) == (6, None, "cancelled")
    assert result.stdout.head == b"ready\nbye\n"
    assert time.monotonic() - began < 3.0


def test_end_ends_the_tree_and_tells_why(start: Command):
    desk = start(py=STUBBORN, stream=True)
    desk.send(Credit(bytes=1000))
    pids = pids_of(desk, 3)
    desk.send(End(reason="cancelled"))
    result = desk.result()
    assert (result.code, result.signal, result.error) == (137, 9, "cancelled")
    assert b"cancelled" in result.stderr.head
    wait_gone(pids)


def test_stopped_command_can_be_ended(start: Command):
    desk = start(sh="kill -STOP $$", timeout_s=0.5)
    assert desk.result().code == 124


def test_end_after_the_end_changes_nothing(start: Command):
    desk = start(sh="exit 4")
    assert desk.result().code == 4
    desk.send(End(reason="cancelled"))
    desk.take_for(0.2)
    assert len(desk.results) == 1


# -- live output --------------------------------------------------------------------------------


def test_stream_sends_everything_in_order_under_credit(start: Command):
    size = 3_000_000
    desk = start(
        py=f"import sys; sys.stdout.write(''.join(map(str, range(600_000)))[:{size}])"
        "; sys.stderr.write('e' * 1000)",
        stream=True,
    )
    granted = 0

    def grant() -> bool:
        nonlocal granted
        taken = sum(map(len, desk.output.values()))
        assert taken <= granted
        if taken == granted:
            desk.send(Credit(bytes=100_000))
            granted += 100_000
        return bool(desk.results)

    desk.run_until(grant)
    assert desk.output[1] == "".join(map(str, range(600_000)))[:size].encode()
    assert desk.output[2] == b"e" * 1000
    result = desk.result()
    assert result.stdout.total_bytes == size
    assert result.stdout.head == desk.output[1][: len(result.stdout.head)]
    assert result.stdout.tail == desk.output[1][-len(result.stdout.tail) :]


def test_stream_without_credit_holds_the_command_up(start: Command):
    desk = start(sh="yes", stream=True)
    desk.send(Credit(bytes=1000))
    desk.run_until(lambda: len(desk.output[1]) == 1000)
    desk.take_for(0.3)
    assert len(desk.output[1]) == 1000
    desk.send(End(reason="cancelled"))
    assert desk.result().stdout.total_bytes < 2 << 20


def test_stream_waits_for_room_in_the_mailbox(start: Command):
    desk = start(sh="sleep 0.2; echo a", stream=True)
    desk.set_room(False)
    desk.send(Credit(bytes=1000))
    desk.take_for(0.5)
    assert not desk.output[1]
    assert not desk.results
    desk.set_room(True)
    assert desk.result().code == 0
    assert desk.output[1] == b"a\n"


def test_stream_without_a_link_is_drained(start: Command):
    desk = start(sh="head -c 5000000 /dev/zero; echo end", stream=True)
    desk.send(Linked(up=False))
    result = desk.result()
    assert result.stdout.total_bytes > 5_000_000
    assert not desk.output[1]


def test_stream_goes_on_with_a_new_link_though_its_credit_was_lost(start: Command, tmp_path: Path):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    desk = start(sh=f"head -c 20000 /dev/zero; read x < {fifo}; echo end", stream=True)
    desk.send(Credit(bytes=1000))
    desk.run_until(lambda: len(desk.output[1]) == 1000)
    desk.detach()
    with fifo.open("w") as go:
        desk.attach()
        desk.send(Linked(up=True))
        desk.settle()
        go.write("\n")
    assert desk.result().code == 0
    assert desk.output[1].endswith(b"end\n")


def test_command_goes_on_with_no_agent(start: Command):
    desk = start(sh="sleep 0.2; yes | head -c 3000000", stream=True)
    desk.detach()
    desk.set_room(False)
    assert desk.result().stdout.total_bytes == 3_000_000


def test_exited_command_keeps_its_last_output_for_the_consumer(start: Command):
    """What waits in the pipe is not lost because the command has gone and credit is late."""
    desk = start(sh="head -c 50000 /dev/zero", stream=True)
    desk.take_for(1.5)
    assert not desk.results
    desk.send(Credit(bytes=100_000))
    assert desk.result().code == 0
    assert len(desk.output[1]) == 50_000


def test_exited_command_does_not_wait_for_its_consumer_beyond_its_timeout(start: Command):
    result = start(sh="head -c 50000 /dev/zero; exit 3", stream=True, timeout_s=3.0).result()
    assert (result.code, result.error) == (3, None)
    assert result.stdout.total_bytes == 50_000
