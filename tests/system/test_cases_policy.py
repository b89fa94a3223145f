"""Ways around the list of allowed commands: each is refused, or runs exactly what is listed.

Fault cases B "allowedCommands bypass attempts", "Hub sends command not in agent's local
allowedCommands".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hubs import Hub, NodeHub

TOKENS = itertools.count(1)


@dataclass
class Guarded:
    """An agent that may only list one directory, and what a bypass would leave behind."""

    hub: Hub
    agent: AgentProcess
    listed: Path
    canary: Path

    def ask(self, **cmd: Any) -> dict[str, Any]:
        token = f"bypass-{next(TOKENS)}"
        self.hub.emit("admin_run", {"token": token, "cmd": cmd})
        payload = self.hub.wait_for("admin_result", token=token).payload
        assert isinstance(payload, dict)
        result: dict[str, Any] = payload["result"]
        return result


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    place = tmp_path_factory.mktemp("place")
    listed, trap, canary = place / "listed", place / "trap", place / "canary"
    (listed / "seen").mkdir(parents=True)
    trap.mkdir()
    for name in ("ls", "id", "env"):
        (trap / name).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (trap / name).chmod(0o755)
    config = {
        "admin": {
            "allowedCommands": ["ls", "echo fixed"],
            "allowedCwds": [str(trap)],
            "allowedEnv": ["LANG", "PATH", "LD_PRELOAD"],
        },
        "backup": {"allowedSourceRoots": [str(listed)]},
        "keys": {"baseUrl": "http://127.0.0.1:1"},
    }
    env = {"PATH": f"{trap}:/usr/bin:/bin"}
    with NodeHub() as hub, running_agent(hub.url, config, env) as agent:
        hub.wait_for_connection()
        yield Guarded(hub, agent, listed, canary)


@pytest.mark.parametrize(
    "command",
    [
        "id",
        "ls; id",
        "ls;id",
        "ls && id",
        "ls | id",
        "ls & id",
        "ls$(id)",
        "ls `id`",
        "ls\nid",
        "ls > {canary}",
        "ls\0id",
        "ls\0",
        "./ls",
        "{trap}/ls",
        "../trap/ls",
        "LS",
        "lѕ",
        "ls\u200b",
        "env ls",
        "echo",
        "echo fixedx",
        "PATH={trap} ls",
        "'ls' ; id",
        '"ls',
        "ls " + "x" * 1_000_000,
        "",
        "   ",
    ],
)
def test_command_that_is_not_listed_never_runs(guarded: Guarded, command: str) -> None:
    trap = guarded.canary.parent / "trap"
    spelt = command.replace("{trap}", str(trap)).replace("{canary}", str(guarded.canary))
    result = guarded.ask(command=spelt, cwd=str(trap))
    assert result["summary"]["code"] == 126, result
    assert result["stderr"] and result["stdout"] == ""
    assert not guarded.canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PATH",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "IFS",
        "A=B",
        "",
        "é",
    ],
)
def test_variable_that_could_run_another_program_is_refused(guarded: Guarded, name: str) -> None:
    result = guarded.ask(command="ls", env={name: str(guarded.canary.parent / "trap")})
    assert result["summary"]["code"] == 126
    assert not guarded.canary.exists()


def test_listed_command_is_the_absolute_program_with_its_arguments(guarded: Guarded) -> None:
    """Neither the agent's own PATH nor the working directory decides what `ls` is; what would be
    special to a shell is data."""
    trap = guarded.canary.parent / "trap"
    for said, cmd in (
        ("seen\n", {"command": f"ls {guarded.listed}"}),
        (".\n", {"command": "ls -d .", "cwd": str(trap), "env": {"LANG": "C"}}),
        ("fixed ; id *\n", {"command": "echo fixed '; id' '*'"}),
    ):
        result = guarded.ask(**cmd)
        assert result["stdout"] == said, result
    assert not guarded.canary.exists()


def test_what_the_machine_does_not_allow_is_refused_in_each_familys_words(
    guarded: Guarded,
) -> None:
    hub = guarded.hub
    outside = {"sourceDirs": [str(guarded.canary.parent)], "destRoot": str(guarded.canary)}
    hub.emit("backup_plan", {"planId": "outside", **outside})
    refused = hub.wait_for("backup_error", planId="outside").payload
    assert refused["error"] == "policy_denied"
    hub.emit("shell_start", {"session": "s"})
    assert hub.wait_for("shell_closed", session="s").payload["reason"] == "disabled"


def test_keys_are_not_synchronised_on_a_machine_that_only_reports() -> None:
    with NodeHub() as hub:
        agent = AgentProcess(hub.url, {"keys": {"baseUrl": "http://127.0.0.1:1"}})
        (agent.config_file.parent / "policy.yaml").write_text("profile: reporter\n")
        try:
            agent.start()
            hub.wait_for_connection()
            hub.emit("sync_keys", {"user": "somebody"})
            keys = hub.wait_for("keys_sync_result", user="somebody").payload
            assert (keys["ok"], keys["error"]) == (False, "policy_denied")
        finally:
            agent.close()
