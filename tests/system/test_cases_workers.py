"""Workers that cannot even begin: tried ever more slowly, told, and well again once it is mended.

Fault cases E "Worker respawn storm".
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import sandbox
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from workers import processes

CONFIG: dict[str, Any] = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 8},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}


def stand_in(name: str, place: Path, text: str) -> tuple[list[str], Path, Path]:
    """Return a world in which a module's file is another one, that one, and the real one."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    other = place / "other.py"
    other.write_text(text)
    return sandbox.mounts(f"mount --bind {other} {spec.origin}"), other, Path(spec.origin)


def told(agent: AgentProcess, sentence: str) -> int:
    return sum(record["msg"] == sentence for record in agent.log_records())


def test_kind_whose_module_is_broken_leaves_the_others_alone(tmp_path: Path) -> None:
    """What telemetry alone needs cannot be imported: shells and commands work, the worker is tried
    ever more slowly, `status` says so, and one restart is enough once it is mended."""
    prefix, other, real = stand_in("psutil", tmp_path, "raise ImportError('broken on the disk')\n")
    with ScriptedHub(HubOptions(ping_every_ms=500)) as hub:
        with running_agent(hub.url, CONFIG, prefix=prefix) as agent:
            hub.wait_for_connection()
            console = Console(hub)
            console.shell()
            assert console.run("echo fine")["result"]["stdout"] == "fine\n"
            degraded = agent.until(lambda: agent.ask("status")["degraded"])
            assert degraded[0].startswith("telemetry workers")
            assert told(agent, "worker lost") <= 6
            assert told(agent, "zygote lost") == 0
            assert "broken on the disk" in str(agent.log_records())
            assert hub.events("stats") == []
            other.write_text(real.read_text())
            assert agent.command("worker", "restart", "telemetry").returncode == 0
            hub.wait_for("stats")
            assert agent.ask("status")["degraded"] == []
            assert len(hub.connections) == 1


@pytest.mark.family("workers")
def test_zygote_that_ends_at_once_is_tried_slowly_and_jobs_are_refused(
    tmp_path: Path, soak: bool
) -> None:
    """No worker can be had: sessions are told `busy`, nothing spins, the link does not notice; and
    in full size, all is well by itself a quarter of a minute after it is mended."""
    broken = "import os\nos._exit(3)\n"
    prefix, other, real = stand_in("workers.shell.worker", tmp_path, broken)
    with ScriptedHub(HubOptions(ping_every_ms=500)) as hub:
        with running_agent(hub.url, CONFIG, prefix=prefix) as agent:
            hub.wait_for_connection()
            degraded = agent.until(lambda: agent.ask("status")["degraded"])
            assert degraded[0] == "no worker can be started: the zygote ends at once"
            spent_s = processes.cpu_time(agent.pid) or 0.0
            console = Console(hub)
            closed = hub.wait_for("shell_closed", session=console.open()).payload
            assert (closed["reason"], closed["detail"]) == ("busy", "resources")
            result = console.run("true")["result"]
            assert result["error"] == "resources" and "zygote" in result["stderr"]
            assert told(agent, "zygote lost") <= 7
            assert (processes.cpu_time(agent.pid) or 0.0) - spent_s < 1.0
            hub.wait_for("pong", since=hub.record.mark())
            assert len(hub.connections) == 1
            if soak:
                other.write_text(real.read_text())
                agent.until(lambda: not agent.ask("status")["degraded"])
                assert console.run("echo fine")["result"]["stdout"] == "fine\n"
                console.shell()
