"""The commands that ask a running agent: text, JSON and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import exits, started_from
from agent.cli import outbox, status, worker


def test_status_tells_link_workers_and_outbox(agent: Any, capsys: Any) -> None:
    assert status.run([]) == exits.OK
    text = capsys.readouterr().out
    for told in (
        "up since 2026-01-01T00:00:00Z (1 min 5 s), websocket",
        "1.2 ms",
        "auth_expired: clock off by 360 s (1 min 10 s ago)",
        "2 events, 4.0 KiB, oldest 9.0 s ago, 1 parked",
        "/var/log/jackline/agent.log, 5 records dropped",
        "0.1.0, pid 4242, up 1 d 1 h",
        "3.3 MiB",
        "keys",
    ):
        assert told in text
    assert "\x1b" not in text


def test_status_of_a_link_that_is_down_is_a_failure(agent: Any, capsys: Any) -> None:
    agent.status["link"] = {"state": "waiting", "next_try_s": 4.0}
    assert status.run(["--json"]) == exits.FAILED
    assert json.loads(capsys.readouterr().out)["link"]["next_try_s"] == 4.0


def test_status_survives_an_agent_that_tells_less(agent: Any, capsys: Any) -> None:
    agent.status = {}
    assert status.run([]) == exits.FAILED
    assert "unknown" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["list"], ["show", "all"], ["restart", "all"], ["stop", "x"]])
def test_worker_without_an_agent_is_unavailable(nobody: Path, argv: list[str], capsys: Any) -> None:
    assert worker.run(argv) == exits.UNAVAILABLE
    assert "no agent runs here" in capsys.readouterr().err


def test_status_without_an_agent_is_unavailable_in_json_too(nobody: Path, capsys: Any) -> None:
    assert status.run(["--json"]) == exits.UNAVAILABLE
    assert json.loads(capsys.readouterr().out)["error"] == "unavailable"


def test_worker_list_is_a_table_or_json(agent: Any, capsys: Any) -> None:
    assert worker.run(["list"]) == exits.OK
    assert capsys.readouterr().out.split()[:2] == ["ID", "KIND"]
    for argv in (["list", "--json"], ["list", "-o", "json"]):
        assert worker.run(argv) == exits.OK
        assert [one["id"] for one in json.loads(capsys.readouterr().out)] == [
            "shell-1",
            "telemetry-1",
        ]


def test_worker_show_takes_an_id_or_a_kind(agent: Any, capsys: Any) -> None:
    for target in ("shell-1", "shell"):
        assert worker.run(["show", target, "--json"]) == exits.OK
        assert [one["id"] for one in json.loads(capsys.readouterr().out)] == ["shell-1"]
    assert worker.run(["show", "nothing"]) == exits.NOT_FOUND


@pytest.mark.parametrize(
    "results, code",
    [
        ([{"id": "shell-1", "ok": True}], exits.OK),
        ([{"id": "a", "ok": True}, {"id": "b", "ok": False, "error": "x"}], exits.PARTIAL),
        ([{"id": "b", "ok": False, "error": "x"}], exits.FAILED),
        ([], exits.NOT_FOUND),
    ],
)
def test_worker_restart_exit_code_tells_how_many(
    agent: Any, results: list[dict[str, Any]], code: int
) -> None:
    agent.results = results
    assert worker.run(["restart", "shell"]) == code
    assert agent.asked[0]["target"] == "shell"


def test_outbox_is_listed_and_flushed(agent: Any, capsys: Any) -> None:
    assert outbox.run(["ls"]) == exits.OK
    assert "admin_result" in capsys.readouterr().out
    assert outbox.run(["flush", "--json"]) == exits.OK
    assert json.loads(capsys.readouterr().out) == {"count": 1}


@pytest.mark.parametrize("argv", [["dance"], [], ["restart"]])
def test_worker_bad_usage_exits_two(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        worker.run(argv)
    assert caught.value.code == exits.USAGE


def test_fast_commands_import_nothing_slow(tmp_path: Path) -> None:
    """socketio alone costs as much as the whole answer may take."""
    code = (
        "import sys\n"
        "from agent.cli import status, worker, pause, resume, outbox, stop\n"
        "status.run([]), worker.run(['list']), pause.run([]), resume.run([])\n"
        "slow = {'socketio', 'engineio', 'yaml', 'msgspec', 'platformdirs', 'ssl', 'asyncio',\n"
        "        'logging', 'importlib.metadata', 'requests', 'workers.policy'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    dirs = {f"JACKLINE_{name}_DIR": str(tmp_path) for name in ("CONFIG", "STATE", "RUN", "LOG")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **dirs},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_status_tells_of_files_that_the_agent_has_not_read(
    agent: Any, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "policy.yaml"
    agent.status["files"] = started_from.marks((path,))
    status.run([])
    assert "restart it" not in capsys.readouterr().out
    path.write_text("profile: operator\n")
    status.run([])
    assert f"{path} was changed after the agent had read it" in capsys.readouterr().out


def test_worker_restart_says_what_became_of_each(agent: Any, capsys: Any) -> None:
    kinds = {"shell": True, "admin": False, "telemetry": True}
    agent.results = [{"id": kind, "again": again, "ok": True} for kind, again in kinds.items()]
    assert worker.run(["restart", "all"]) == exits.OK
    assert capsys.readouterr().out.splitlines() == [
        "shell restarted",
        "admin ended; it is not run again",
        "telemetry restarted",
    ]


def test_worker_show_is_for_a_person(agent: Any, capsys: Any) -> None:
    assert worker.run(["show", "shell-1"]) == exits.OK
    text = capsys.readouterr().out
    for told in ("3.3 MiB", "0.5 s", "1 h 1 min"):
        assert told in text
