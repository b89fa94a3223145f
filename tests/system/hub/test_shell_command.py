"""`jackline shell` and `jackline sessions` in a real terminal, against a real hub and agent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from hub.shell import cast
from tests.doubles.agent_process import JACKLINE
from tests.doubles.hub_site import HubSite, hub_site

DEADLINE_S = 60


@pytest.fixture(scope="module")
def site() -> Iterator[HubSite]:
    with hub_site() as made:
        yield made


def environment(site: HubSite) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "JACKLINE_HUB_URL": site.hub.url,
        "JACKLINE_TOKEN": site.token,
    }


@pytest.fixture
def terminal(site: HubSite) -> Iterator[pexpect.spawn]:
    """`jackline shell box-1` in a PTY of 100 × 30, at its prompt."""
    made = spawn(site, "shell", "box-1")
    made.expect("# $|\\$ $", timeout=DEADLINE_S)
    yield made
    made.close(force=True)


def spawn(site: HubSite, *words: str) -> pexpect.spawn:
    program, *rest = [*JACKLINE, *words]
    made = pexpect.spawn(
        program, rest, env=environment(site), dimensions=(30, 100), timeout=DEADLINE_S
    )
    made.delaybeforesend = None
    return made


def command(site: HubSite, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JACKLINE, *words],
        env=environment(site),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def code_of(terminal: pexpect.spawn) -> int | None:
    terminal.expect(pexpect.EOF)
    terminal.wait()
    return terminal.exitstatus


def session_of(site: HubSite) -> str:
    """Return the newest live session."""
    _, page = site.hub.get("/api/v1/shells?state=live", site.token)
    return str(page["items"][0]["id"])


def test_it_is_a_terminal_with_a_size_a_title_and_the_remote_exit_code(
    terminal: pexpect.spawn,
) -> None:
    terminal.send("tty; stty size; echo $TERM; echo gr''üße\r")
    terminal.expect("/dev/pts/")
    terminal.expect("30 100")
    terminal.expect("grüße".encode())
    terminal.send("exit 42\r")
    assert code_of(terminal) == 42


def test_a_new_size_reaches_the_shell(terminal: pexpect.spawn) -> None:
    terminal.send("trap 'stty size' WINCH; echo rea''dy\r")
    terminal.expect("ready")
    terminal.setwinsize(41, 137)
    terminal.send("\r")
    terminal.expect("41 137")
    terminal.send("exit\r")
    assert code_of(terminal) == 0


def test_keys_are_raw(terminal: pexpect.spawn) -> None:
    waiting = (
        'trap \'echo cau\\"\\"ght; exit\' INT; echo wai\\"\\"ting; while :; do sleep 0.1; done'
    )
    terminal.send(f'bash -c "{waiting}"\r')
    terminal.expect("waiting")
    terminal.send("\x03")
    terminal.expect("caught")
    terminal.send("echo no''w; cat; exit 3\r")
    terminal.expect("now")
    terminal.send("\x04")
    assert code_of(terminal) == 3


def test_a_tilde_and_a_dot_end_the_session(site: HubSite, terminal: pexpect.spawn) -> None:
    session = session_of(site)
    terminal.send("\r~.")
    assert code_of(terminal) == 0
    assert site.until_ended(session)["reason"] == "closed"


def test_a_session_left_running_is_attached_again(site: HubSite, terminal: pexpect.spawn) -> None:
    session = session_of(site)
    terminal.send("kept=value-7\r~d")
    terminal.expect(f"--attach {session}")
    assert code_of(terminal) == 0
    again = spawn(site, "shell", "--attach", session)
    again.expect("kept=value-7")
    again.send("echo is:$kept; exit 6\r")
    again.expect("is:value-7")
    assert code_of(again) == 6


def test_an_observer_sees_and_cannot_type(site: HubSite, terminal: pexpect.spawn) -> None:
    session = session_of(site)
    observer = spawn(site, "shell", "--observe", session)
    terminal.send("echo sh''own\r")
    observer.expect("shown")
    observer.send("echo ty''ped\r")
    terminal.send("echo af''ter\r")
    observer.expect("after")
    assert b"typed" not in (observer.before or b"")
    observer.send("\r~.")
    assert code_of(observer) == 0
    terminal.send("exit\r")
    assert code_of(terminal) == 0


def test_it_survives_a_restart_of_the_hub(site: HubSite, terminal: pexpect.spawn) -> None:
    terminal.send("for i in $(seq 1 40); do echo n''o $i; sleep 0.1; done; echo do''ne\r")
    terminal.expect("no 3\r")
    site.hub.kill()
    terminal.expect("connection is lost")
    site.hub.start()
    terminal.expect("connected again")
    terminal.expect("done\r", timeout=DEADLINE_S)
    numbers = re.findall(rb"no (\d+)\r", terminal.before or b"")
    assert numbers[-1] == b"40"
    assert numbers == sorted(set(numbers), key=int)
    terminal.send("exit 8\r")
    assert code_of(terminal) == 8


def test_a_hangup_leaves_the_session_and_restores_the_terminal(
    site: HubSite, terminal: pexpect.spawn
) -> None:
    session = session_of(site)
    assert terminal.pid is not None
    os.kill(terminal.pid, signal.SIGTERM)
    assert code_of(terminal) == 128 + signal.SIGTERM
    row = site.session(session)
    assert row["state"] == "open"
    assert row["has_writer"] is False
    site.hub.request("POST", f"/api/v1/shells/{session}/close", site.token)


def test_a_pipe_is_typed_and_its_end_is_the_shells(site: HubSite) -> None:
    done = command(site, "shell", "box-1", stdin="echo pi''ped; exit 9\n")
    assert "piped" in done.stdout
    assert done.returncode == 9
    done = command(site, "shell", "box-1", stdin="echo no ex''it\n")
    assert "no exit" in done.stdout
    assert done.returncode == 0


def test_what_cannot_be_opened_says_so(site: HubSite) -> None:
    assert command(site, "shell", "no-such-box").returncode == 4
    assert command(site, "shell").returncode == 2
    assert command(site, "shell", "--attach", "no-such").returncode == 4
    site.hub.add_agent("box-away")
    done = command(site, "shell", "box-away")
    assert done.returncode == 69
    assert "agent_offline" in done.stderr


def test_sessions_are_listed_and_played_with_their_timing(site: HubSite) -> None:
    typed = "PS1=; stty -echo; printf 'one\\033[6n\\n'; sleep 1; echo t''wo; exit\n"
    assert command(site, "shell", "box-1", stdin=typed).returncode == 0
    listed = command(site, "sessions", "ls", "--agent", "box-1", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    _, page = site.hub.get("/api/v1/shells?limit=1", site.token)
    session = page["items"][0]["id"]
    assert session in listed.stdout
    assert session in command(site, "sessions", "ls").stdout
    site.until_ended(session)
    started_s = time.monotonic()
    played = command(site, "sessions", "play", session)
    assert time.monotonic() - started_s >= 1.0
    assert "one\n" in played.stdout
    assert "two" in played.stdout
    assert "\x1b[6n" not in played.stdout
    assert command(site, "sessions", "play", session, "--speed", "0").returncode == 2


def test_a_file_is_played_without_a_hub(tmp_path: Path, site: HubSite) -> None:
    path = tmp_path / "one.cast"
    writer = cast.Writer()
    path.write_bytes(cast.header(80, 24, 0, "t") + writer.event(0.1, "o", "hello\r\n"))
    assert "hello" in command(site, "sessions", "play", str(path), "--speed", "100").stdout
    path.write_text("no recording")
    assert command(site, "sessions", "play", str(path)).returncode == 1
    assert command(site, "sessions", "play", str(tmp_path / "gone.cast")).returncode == 4
