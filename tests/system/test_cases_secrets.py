"""Secrets stay where they belong, and what others could have touched is refused.

Planted words are searched for in everything that an endpoint writes, shows or hands down. Fault
cases J "Canary secrets", "Core dump", "State dir modes", "Config"; A "Identity file".
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import exits
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.facilities import require_root

AUTH, COMMAND, PROXY = "canary-auth-7f3d", "canary-command-91c2", "canary-proxy-55aa"
TYPED, WRONG, VALUE = "canary-typed-0b1e", "canary-wrong-c4d8", "canary-value-e6f0"
EVERY = (AUTH, COMMAND, PROXY, TYPED, WRONG, VALUE)
CONFIG: dict[str, Any] = {
    "statsIntervalSec": 1,
    "admin": {
        "enableShell": True,
        "allowedCommands": ["*"],
        "maxConcurrent": 64,
        "requireToken": True,
        "commandToken": COMMAND,
    },
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
    "keys": {"baseUrl": "https://127.0.0.1:1"},
}
SHOWN = (
    ("status", "--json"),
    ("worker", "list", "--json"),
    ("outbox", "ls", "--json"),
    ("config", "show", "--origin"),
    ("logs",),
    ("doctor", "--json"),
)


def found_in(text: str | bytes, *words: str) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    return [word for word in words if word.encode() in raw]


def files_of(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def handed_down(agent: AgentProcess) -> list[int]:
    """Everything that the agent started, jobs included."""
    return sorted({*agent.processes(), *agent.job_processes()} - {agent.pid})


def search_processes(agent: AgentProcess) -> int:
    """Look into every command line, and the environment of every child; return how many."""
    looked = 0
    for pid in (agent.pid, *handed_down(agent)):
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes()
            environ = b"" if pid == agent.pid else Path(f"/proc/{pid}/environ").read_bytes()
            assert found_in(argv + environ, *EVERY) == [], (pid, argv)
            looked += 1
    return looked


def busy_round(console: Console, session: str) -> None:
    """A little of everything, well formed and not, with a secret in each."""
    hub = console.hub
    run = {"token": COMMAND, "cmd": {"command": "echo fine"}}
    hub.emit("admin_run", run)
    hub.emit("admin_run", {**run, "token": WRONG})
    hub.emit("admin_run", {"token": COMMAND, "cmd": {"command": "id", "env": {"A": VALUE}}})
    hub.emit("admin_run", {"token": COMMAND, "cmd": {"command": "no-such-program"}})
    hub.emit("admin_run", {"token": COMMAND, "cmd": {"command": "id", "timeoutSec": VALUE}})
    hub.emit("shell_input", {"session": session, "data": f": {TYPED}\n"})
    hub.emit("shell_input", {"session": session, "data": [TYPED]})
    hub.emit("shell_input", {"session": "nobody", "data": TYPED})
    hub.emit("shell_start", {"session": "refused", "cols": TYPED})
    hub.emit("sync_keys", {"user": "somebody"})
    hub.emit("no_such_event", {"secret": VALUE})
    hub.raw(f'2/agents,["shell_input",{{"session":"x","data":"{TYPED}')


@pytest.mark.family("canaries")
def test_secrets_are_nowhere_but_where_they_belong(tmp_path: Path, soak: bool) -> None:
    rounds = 90 if soak else 2
    env = {"AUTH_TOKEN": AUTH, "HTTPS_PROXY": f"http://someone:{PROXY}@127.0.0.1:1"}
    options = HubOptions(tokens={"agent-1": AUTH}, ping_every_ms=500)
    with ScriptedHub(options) as hub, running_agent(hub.url, CONFIG, env) as agent:
        hub.wait_for_connection()
        console = Console(hub)
        session = console.shell()
        hub.emit("admin_run", {"token": COMMAND, "cmd": {"command": "sleep 3600"}})
        agent.until(lambda: agent.workers("admin"))
        for _ in range(rounds):
            mark = hub.record.mark()
            busy_round(console, session)
            hub.wait_for("keys_sync_result", since=mark)
        # Agent, zygote, telemetry, two jobs and what they run.
        assert search_processes(agent) >= 7
        hub.set(refuse={"message": "auth_failed"})
        hub.drop("abort")
        agent.until(lambda: agent.ask("status")["link"]["state"] == "waiting")
        hub.set(refuse=None)

        for words in SHOWN:
            shown = agent.command(*words)
            assert found_in(shown.stdout + shown.stderr, *EVERY) == [], words
        bundle = tmp_path / "bundle"
        agent.command("doctor", "--bundle", str(bundle))
        for event in hub.events():
            # A token is echoed where it came from, and nowhere else.
            said = {name: value for name, value in event.payload.items() if name != "token"}
            assert found_in(json.dumps(said), *EVERY) == [], event
        agent.command("stop")
        for path, content in (*files_of(agent.root / "log"), *files_of(tmp_path)):
            assert found_in(content, *EVERY) == [], path
        assert found_in((agent.root / "stderr").read_bytes(), *EVERY) == []
        # What an answer bears is kept with it; what nobody must be told is not on the disk.
        for path, content in files_of(agent.state_dir):
            assert found_in(content, AUTH, PROXY, TYPED, VALUE) == [], path
        assert "Records did not reach" not in agent.log_tail()


def test_agent_that_is_made_to_dump_leaves_nothing() -> None:
    with ScriptedHub() as hub:
        agent = AgentProcess(hub.url, {"shell": CONFIG["shell"]})
        agent.prefix = ["sh", "-c", 'ulimit -c unlimited; cd "$HERE"; exec "$@"', "sh"]
        agent.env["HERE"] = str(agent.root)
        try:
            agent.start()
            hub.wait_for_connection()
            limits = Path(f"/proc/{agent.pid}/limits").read_text().splitlines()
            (core,) = [line for line in limits if line.startswith("Max core file size")]
            assert core.split()[4] == "0"
            # Its jobs have what they would have had.
            console = Console(hub)
            session = console.shell()
            console.type(session, "echo core=$(ulimit -c)\n")
            hub.wait_for_output(session, "core=unlimited\r\n")
            os.kill(agent.pid, signal.SIGABRT)
            assert agent.process is not None
            assert agent.process.wait(20) == -signal.SIGABRT
            assert list(agent.root.glob("*core*")) == []
        finally:
            agent.close()


def test_everything_an_endpoint_makes_is_for_its_account_alone(tmp_path: Path) -> None:
    """Whatever the umask: directories 0700, files and sockets 0600."""
    with ScriptedHub() as hub:
        agent = AgentProcess(hub.url, {"shell": CONFIG["shell"]})
        agent.prefix = ["sh", "-c", 'umask 0; exec "$@"', "sh"]
        for name in ("state", "run", "log"):
            (agent.root / name).rmdir()
        try:
            agent.start()
            hub.wait_for_connection()
            console = Console(hub)
            console.shell()
            assert console.run("true")["result"]["summary"]["code"] == 0
            console.ask("sleep 3600")
            agent.until(lambda: agent.workers("admin"))
            (tmp_path / "source").mkdir()
            places = {"sourceDirs": [str(tmp_path / "source")], "destRoot": str(tmp_path / "copy")}
            hub.emit("backup_plan", {"planId": "p", **places})
            hub.wait_for("backup_plan", planId="p")
            hub.emit("backup_start", {"planId": "p", **places})
            hub.wait_for("backup_complete", planId="p")
            assert agent.command("pause", "a test").returncode == 0
            wrong = {}
            for name in ("state", "run", "log"):
                for path in (agent.root / name, *(agent.root / name).rglob("*")):
                    found = path.lstat()
                    wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
                    if stat.S_IMODE(found.st_mode) != wanted:
                        wrong[str(path.relative_to(agent.root))] = oct(found.st_mode)
            assert wrong == {}
        finally:
            agent.close()


def write(content: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        path.write_bytes(content)
        path.chmod(mode)

    return do


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone")


GOOD = b'{"clientId": "agent-1", "authToken": "t", "serverUrl": "http://127.0.0.1:1"}'


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (write(b""), "is empty"),
        (write(GOOD[:40]), "is not JSON"),
        (write(b"\xef\xbb\xbf" + GOOD), "byte order mark"),
        (write(GOOD[:-1] + b', "clientId": "b"}'), "twice"),
        (write(GOOD[:-1] + b', "statsIntervalSec": "often"}'), "statsIntervalSec"),
        (write(GOOD, 0o666), "everybody may write it"),
        (link_to_nothing, "cannot be read"),
    ],
    ids=["empty", "truncated", "bom", "twice", "type", "writable", "link"],
)
def test_agent_with_a_spoilt_configuration_starts_nothing_and_mends_nothing(
    spoil: Callable[[Path], None], reason: str
) -> None:
    agent = AgentProcess("http://127.0.0.1:1")
    try:
        path = agent.config_file
        path.write_bytes(GOOD)
        spoil(path)
        before = (path.lstat(), os.path.lexists(path) and path.exists() and path.read_bytes())
        ran = agent.command("run", "--config", str(path))
        assert ran.returncode == exits.CONFIGURATION == 78
        (line,) = ran.stderr.splitlines()
        assert reason in line and ran.stdout == ""
        after = (path.lstat(), os.path.lexists(path) and path.exists() and path.read_bytes())
        assert after[1] == before[1]
        assert after[0].st_mode == before[0].st_mode
        assert agent.processes() == []
        assert list(agent.state_dir.iterdir()) == []
    finally:
        agent.close()


def open_to_others(path: Path) -> None:
    path.chmod(0o755)


def of_another(path: Path) -> None:
    require_root()
    os.chown(path, 65534, 65534)


def linked_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("name", ["state", "run"])
@pytest.mark.parametrize("spoil", [open_to_others, of_another, linked_away])
def test_agent_whose_directory_others_may_have_touched_does_not_start(
    name: str, spoil: Callable[[Path], None]
) -> None:
    agent = AgentProcess("http://127.0.0.1:1")
    try:
        path = agent.root / name
        spoil(path)
        before = path.lstat()
        agent.config_file.write_text(json.dumps(agent.config))
        agent.config_file.chmod(0o600)
        ran = agent.command("run", "--config", str(agent.config_file))
        assert ran.returncode == exits.CONFIGURATION
        (line,) = ran.stderr.splitlines()
        assert str(path) in line
        assert (path.lstat().st_mode, path.lstat().st_uid) == (before.st_mode, before.st_uid)
        assert list(agent.state_dir.iterdir()) == []
    finally:
        agent.close()
