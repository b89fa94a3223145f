"""The supervisorctl plugin: no dependency, the agent's answers as text, exit codes."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control import ControlServer, Reply
from agent.errors import ControlError
from agent.supervisor import ctlplugin
from workers.loop import Loop

SHELL = {"id": "s-1", "kind": "shell", "state": "RUNNING", "pid": 7, "beat_ago_s": 1.25}
ADMIN = {"id": "a-1", "kind": "admin", "state": "RUNNING", "pid": 8, "job": "evil\x1b[2J"}


class Controller:
    """supervisorctl's side: what it prints and exits with."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.exitstatus = 0

    def output(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    def restart(request: dict[str, Any], reply: Reply) -> None:
        if request["target"] == "none":
            raise ControlError("not_found", "no worker is called none")
        reply(results=[{"id": "s-1", "ok": True}, {"id": "a-1", "ok": False, "error": "ended"}])

    loop = Loop()
    handlers = {
        "workers": lambda _request, reply: reply(workers=[SHELL, ADMIN]),
        "worker_restart": restart,
        "worker_stop": lambda _request, reply: reply(results=[{"id": "s-1", "ok": True}]),
    }
    server = ControlServer(loop, tmp_path / "control.sock", handlers)
    server.open()
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    yield tmp_path / "control.sock"
    loop.call_threadsafe(loop.stop)
    thread.join(10)
    server.close()
    loop.close()


def ask(path: Path, line: str) -> Controller:
    controller = Controller()
    ctlplugin.make_worker_plugin(controller, control_socket=str(path)).do_worker(line)
    return controller


def test_plugin_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(ctlplugin.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_plugin_speaks_python_3_7() -> None:
    source = Path(ctlplugin.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))


@pytest.mark.parametrize("line", ["", "list"])
def test_plugin_lists_workers(agent: Path, line: str) -> None:
    controller = ask(agent, line)
    assert controller.exitstatus == 0
    assert controller.lines[0].split()[:4] == ["ID", "KIND", "STATE", "PID"]
    assert controller.lines[1].split() == ["s-1", "shell", "RUNNING", "7", "-", "-", "1.2"]


def test_plugin_lets_no_job_drive_the_terminal(agent: Path) -> None:
    assert "\x1b" not in "".join(ask(agent, "list").lines)


def test_plugin_shows_one_or_a_kind(agent: Path) -> None:
    assert any("s-1" in line for line in ask(agent, "show shell").lines)
    assert not any("s-1" in line for line in ask(agent, "show a-1").lines)
    missing = ask(agent, "show none")
    assert missing.lines == ["ERROR (no worker is called none)"]
    assert missing.exitstatus == 1


def test_plugin_restarts_and_tells_each(agent: Path) -> None:
    controller = ask(agent, "restart all")
    assert controller.lines == ["s-1: restarted", "a-1: ERROR (ended)"]
    assert controller.exitstatus == 1
    assert ask(agent, "restart none").lines == ["ERROR (no worker is called none)"]


def test_plugin_stops(agent: Path) -> None:
    assert ask(agent, "stop s-1").lines == ["s-1: stopped"]


@pytest.mark.parametrize("line", ["restart", "stop", "dance", "list a b"])
def test_plugin_says_how_it_is_used(tmp_path: Path, line: str) -> None:
    controller = ask(tmp_path / "none", line)
    assert controller.lines == list(ctlplugin.USAGE)
    assert controller.exitstatus == 2


def test_plugin_without_an_agent_says_so(tmp_path: Path) -> None:
    controller = ask(tmp_path / "none", "list")
    assert "no agent answers" in controller.lines[0]
    assert controller.exitstatus == 7


def test_plugin_finds_the_socket_by_variable_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JACKLINE_RUN_DIR", raising=False)
    assert ctlplugin.make_worker_plugin(None).path == "/run/jackline/control.sock"
    monkeypatch.setenv("JACKLINE_RUN_DIR", "/x")
    assert ctlplugin.make_worker_plugin(None, newer_key="1").path == "/x/control.sock"


def test_plugin_joins_in_help() -> None:
    controller = Controller()
    plugin = ctlplugin.make_worker_plugin(controller)
    plugin.do_help("")
    plugin.do_help("worker")
    plugin.do_help("status")
    assert sum("worker list" in line for line in controller.lines) == 1
