"""The commands that need no agent: config, logs, pause, resume, run's refusals, completion."""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import config as settings
from agent import exits
from agent.cli import backup, completion, config, logs, pause, resume, run, stop
from workers.policy import Sections

GOOD = {"clientId": "web-1", "serverUrl": "https://hub.example", "authToken": "s3cr3t-t0ken"}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return path


def test_config_check_of_a_good_file_says_so(nobody: Path, capsys: Any) -> None:
    write(nobody / "config/agent-config.json", GOOD)
    assert config.run(["check"]) == exits.OK
    assert capsys.readouterr().out == f"{nobody}/config/agent-config.json: good\n"


def test_config_check_tells_every_fault_and_exits_78(nobody: Path, capsys: Any) -> None:
    path = write(nobody / "c.json", {**GOOD, "clientId": 1, "pongTimeoutSec": "x"})
    assert config.run(["check", "--config", str(path)]) == exits.CONFIGURATION
    assert capsys.readouterr().err.count("\n") == 2
    assert config.run(["check", "--config", str(path), "--json"]) == exits.CONFIGURATION
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 2


def test_config_check_strict_fails_on_a_warning(nobody: Path) -> None:
    path = write(nobody / "c.json", {**GOOD, "colour": "red"})
    assert config.run(["check", "--config", str(path)]) == exits.OK
    assert config.run(["check", "--config", str(path), "--strict"]) == exits.CONFIGURATION


def test_config_check_reads_the_policy_beside_it(nobody: Path, capsys: Any) -> None:
    path = write(nobody / "c.json", GOOD)
    write(nobody / "policy.yaml", "profile: everything\n")
    assert config.run(["check", "--config", str(path)]) == exits.CONFIGURATION
    assert "profile" in capsys.readouterr().err


def test_config_check_warns_of_a_command_that_is_a_full_escape(nobody: Path, capsys: Any) -> None:
    path = write(nobody / "c.json", {**GOOD, "admin": {"allowedCommands": ["sh"]}})
    config.run(["check", "--config", str(path)])
    assert "sh" in capsys.readouterr().err


def test_config_show_hides_secrets_and_tells_origins(
    nobody: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATS_INTERVAL_SEC", "7")
    path = write(nobody / "c.json", GOOD)
    assert config.run(["show", "--origin", "--config", str(path)]) == exits.OK
    text = capsys.readouterr().out
    assert "environment STATS_INTERVAL_SEC" in text
    assert f"file {path}" in text
    assert "s3cr3t" not in text
    config.run(["show", "--json", "--config", str(path)])
    text = capsys.readouterr().out
    assert "s3cr3t" not in text
    values = {row["key"]: row["value"] for row in json.loads(text)}
    assert values["statsIntervalSec"] == 7


def test_pause_and_resume_need_no_agent(nobody: Path, capsys: Any) -> None:
    assert pause.run(["audit"]) == exits.OK
    assert (nobody / "state/paused").exists()
    assert resume.run([]) == exits.OK
    assert not (nobody / "state/paused").exists()
    assert resume.run([]) == exits.OK
    assert "nothing was paused" in capsys.readouterr().err
    assert pause.run(["--json"]) == exits.OK
    assert json.loads(capsys.readouterr().out) == {"ok": True, "paused": True}
    assert resume.run(["--json"]) == exits.OK
    assert json.loads(capsys.readouterr().out)["was_paused"] is True


def test_stop_with_nothing_there_says_so_in_json(nobody: Path, capsys: Any) -> None:
    assert stop.run(["--json"]) == exits.OK
    assert json.loads(capsys.readouterr().out) == {"ok": True, "left": []}


def test_run_with_a_bad_configuration_exits_78_and_starts_nothing(
    nobody: Path, capsys: Any
) -> None:
    assert run.run(["--config", str(nobody / "none.json")]) == exits.CONFIGURATION
    assert "cannot be read" in capsys.readouterr().err
    assert "cannot be read" in (nobody / "log/agent.log").read_text()


def test_logs_without_a_log_is_not_found(nobody: Path) -> None:
    assert logs.run([]) == exits.NOT_FOUND


def test_logs_prints_the_last_lines_for_a_person_or_as_json(nobody: Path, capsys: Any) -> None:
    record = {"ts": "T", "level": "error", "msg": "Evil \x1b[2J.", "n": 1}
    write(nobody / "log/agent.log", "".join(json.dumps(record) + "\n" for _ in range(60)))
    assert logs.run(["-n", "2"]) == exits.OK
    text = capsys.readouterr().out
    assert text.count("T error   Evil") == 2
    assert "\x1b" not in text
    assert logs.run(["--json", "-n", "1"]) == exits.OK
    assert json.loads(capsys.readouterr().out) == record


def test_logs_follow_goes_on_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("")
    seen: list[str] = []
    got = threading.Semaphore(0)

    def read() -> None:
        with open(path, encoding="utf-8") as file:
            for line in logs.follow(path, file):
                seen.append(line)
                got.release()
                if line == "end\n":
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with open(path, "a", encoding="utf-8") as file:
        file.write("one\nhalf")
        file.flush()
        assert got.acquire(timeout=10)
        file.write(" a line\n")
    assert got.acquire(timeout=10)
    path.rename(tmp_path / "agent.log.1")
    path.write_text("new\nend\n")
    reader.join(10)
    assert seen == ["one\n", "half a line\n", "new\n", "end\n"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_word(shell: str, capsys: Any) -> None:
    assert completion.run([shell]) == exits.OK
    text = capsys.readouterr().out
    assert "status" in text
    assert "restart" in text
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_logs_find_the_place_that_the_configuration_names(nobody: Path) -> None:
    path = write(nobody / "c.json", {**GOOD, "logging": {"file": "mine.log"}})
    assert logs.find_log(path) == nobody / "mine.log"
    assert settings.inspect().log_file == nobody / "log/agent.log"


def test_config_show_says_what_the_policy_decides_instead(nobody: Path, capsys: Any) -> None:
    path = write(nobody / "c.json", {**GOOD, "admin": {"allowedCommands": ["ls"]}})
    config.run(["show", "--config", str(path)])
    assert "policy.yaml" not in capsys.readouterr().err
    write(nobody / "policy.yaml", "admin:\n  allowedCommands: [df]\n")
    config.run(["show", "--config", str(path)])
    assert "policy.yaml decides instead: admin.allowedCommands" in capsys.readouterr().err


def test_backup_by_hand_keeps_to_what_the_tenant_excludes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deny from either side wins, whoever types."""
    enrolled = SimpleNamespace(
        sections=Sections(),
        policy_file=tmp_path / "policy.yaml",
        dirs=SimpleNamespace(state=tmp_path),
        origins={},
        identity=SimpleNamespace(policy={"backup": {"excludeGlobs": ["private"]}}),
    )
    report = SimpleNamespace(settings=enrolled)
    monkeypatch.setattr(settings, "inspect", lambda _options: report)
    engine = backup._policy(argparse.Namespace(config=None))
    assert engine.backup_excludes() == ["private"]
