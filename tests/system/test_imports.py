"""What the agent's own process has loaded after a day's work: the link, and nothing of the jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import observed_jackline
from tests.doubles.agent_process import AgentProcess
from tests.doubles.hubs import Hub, HubOptions, NodeHub, ScriptedHub
from tests.doubles.key_server import KeyServer

KINDS = {"admin", "backup", "files", "keys", "shell", "telemetry"}
# Whole packages that a job, the hub or a developer needs, and the agent never.
NEVER = {"pexpect", "ptyprocess", "psutil", "winpty", "hub", "aiohttp", "supervisor", "requests"}
# What a person at a terminal and the making of an identity need, and no process that stays.
PASSING = {"cryptography", "rich", "segno"}
# Parts of what it may have: YAML is for a YAML file, the rest comes along when nobody looks.
NOT_HERE = {"yaml", "_yaml", "urllib3", "asyncio", "concurrent", "pytest"}
LIBRARIES = ("_psutil", "_yaml", "_rust", "winpty")


@pytest.fixture(params=["websocket", "polling"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    modes = {"websocketStatus": 403} if request.param == "polling" else {}
    cls = NodeHub if request.param == "polling" else ScriptedHub
    with cls(HubOptions(modes=modes)) as running:
        yield running


def work(hub: Hub, agent: AgentProcess) -> None:
    """Have one job of each family done."""
    hub.wait_for("stats")
    hub.emit("shell_start", {"session": "s"})
    hub.emit("shell_input", {"session": "s", "data": "echo he''llo\n"})
    hub.wait_for_output("s", "hello\r\n")
    hub.emit("admin_run", {"token": "t", "cmd": {"command": "echo hello"}})
    assert hub.wait_for("admin_result", token="t").payload["result"]["stdout"] == "hello\n"
    hub.emit("sync_keys", {"user": "octocat"})
    assert hub.wait_for("keys_sync_result").payload["error"]
    hub.emit("log_tail_start", {"session": "l"})
    hub.wait_for("log_tail_output", session="l")
    request = {"clientId": "agent-1", "requestId": "d", "mode": "local", "path": "/"}
    hub.emit("dir_list_request", request)
    hub.wait_for("dir_list_response", requestId="d")
    plan = {"planId": "p", "sourceDirs": ["/etc/ssl"], "destRoot": "/no/such", "ignoreGlobs": []}
    hub.emit("backup_plan", plan)
    hub.wait_for("backup_error", planId="p")
    hub.emit("shell_close", {"session": "s"})
    hub.wait_for("shell_closed", session="s")
    assert agent.ask("status")["link"]


def test_agent_process_imports_nothing_of_the_jobs(hub: Hub, tmp_path: Path) -> None:
    """Nor is a shared object of theirs mapped."""
    seen = tmp_path / "modules.json"
    with KeyServer() as keys:
        keys.status = 404
        env = {"OBSERVED_MODULES": str(seen)}
        agent = AgentProcess(hub.url, {"keys": {"baseUrl": keys.url}}, env)
        agent.program = [*agent.program[:-2], observed_jackline.__file__]
        try:
            agent.start()
            work(hub, agent)
            maps = Path(f"/proc/{agent.pid}/maps").read_text()
            others = [Path(f"/proc/{pid}/maps").read_text() for pid in agent.processes()]
            assert agent.command("stop").returncode == 0
        finally:
            agent.close()
    loaded = set(json.loads(seen.read_text()))
    packages = {name.partition(".")[0] for name in loaded}
    assert packages & (NEVER | PASSING | NOT_HERE) == set()
    assert {"argparse", "ast", "typing_extensions"} & loaded == set()
    assert {name.split(".")[1] for name in loaded if name.startswith("workers.")} & KINDS == set()
    assert [name for name in LIBRARIES if name in maps] == []
    assert len(others) >= 3 and not any("cryptography" in mapped for mapped in others)
    assert {"agent", "wire", "workers", "socketio"} <= packages  # it was the right process


# Every module of every worker that stays, the ones that are loaded late included.
LOAD_WORKERS = """
import importlib, sys
from workers import entry, zygote
names = {name for kind, name in entry.KINDS.items() if kind != "heartbeat"}
for name in [*zygote.PRELOADED, *names]:
    module = importlib.import_module(name)
    getattr(module, "import_all", lambda: None)()
print(*sys.modules)
"""


def test_zygote_and_workers_import_nothing_of_the_link_nor_of_enrolment() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD_WORKERS], capture_output=True, text=True, check=True
    )
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert packages & (PASSING | {"agent", "hub", "socketio", "engineio", "websocket"}) == set()
    assert {"workers", "psutil"} <= packages
