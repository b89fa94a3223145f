"""What becomes of an agent whose identity the server no longer takes.

Fault cases A "Agent revoked while linked".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.doubles import vitals
from tests.doubles.agent_process import running_agent
from tests.doubles.console import Console
from tests.doubles.hubs import HubOptions, ScriptedHub
from wire.limits import REVOKED_WAIT_S

CONFIG: dict[str, Any] = {
    "statsIntervalSec": 1,
    "admin": {"enableShell": True, "allowedCommands": ["*"], "maxConcurrent": 8},
    "shell": {"command": "/bin/bash", "args": ["--norc"]},
}


def test_revoked_agent_ends_its_jobs_and_tries_every_ten_minutes(tmp_path: Path) -> None:
    """Cut off while a shell and a command run, refused at the next attempt: both are ended, and
    told should it ever be taken back; telemetry goes on, and so does the agent."""
    with ScriptedHub(HubOptions(finals_file=tmp_path / "finals")) as hub:
        with running_agent(hub.url, CONFIG) as agent:
            hub.wait_for_connection()
            console = Console(hub, ran=tmp_path / "ran").follow()
            session = console.shell()
            job = console.job(3600)
            agent.until(lambda: console.runs() == [job])
            marks = [f"JACKLINE_JOB={row['id']}." for row in agent.workers() if row["job"]]
            assert len(marks) == 2 and all(vitals.marked(mark) for mark in marks)
            hub.set(refuse={"message": "auth_revoked"})
            hub.drop("namespace")
            hub.record.wait("refused", lambda _: True, 20)
            agent.until(lambda: not any(vitals.marked(mark) for mark in marks))
            # The command's result; a shell's end follows its output, which has nowhere to go yet.
            agent.until(lambda: agent.ask("status")["outbox"]["count"] == 1)
            link = agent.ask("status")["link"]
            assert link["last_refusal"]["reason"] == "auth_revoked"
            assert REVOKED_WAIT_S - 60 < link["next_try_s"] <= REVOKED_WAIT_S
            assert agent.workers("telemetry") and not agent.workers("admin")
            assert len(hub.record.of("refused")) == 1
            assert "auth_revoked" in (agent.root / "stderr").read_text()
            # Taken back: what ended is told.
            hub.set(refuse=None)
            agent.terminate()
            agent.start()
            closed = hub.wait_for("shell_closed", session=session).payload
            assert closed["reason"] == "operator_lost"
            result = hub.wait_for("admin_result", token=job).payload["result"]
            assert result["error"] == "operator_lost"
            console.stop()
