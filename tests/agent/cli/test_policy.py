"""`jackline policy show|test|explain`: the same answers as the agent gives, with their line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import exits, killswitch, started_from
from agent.cli import policy

POLICY = """\
profile: operator
admin:
  enableShell: true
  allowedCommands:
    - ls
    - crontab -
  allowedCwds: [%(folder)s/in]
dirBrowse:
  allowedRoots: [%(folder)s/in]
backup:
  allowedDestRoots: [%(folder)s/in]
tools:
  http: ask
  read: deny
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configured machine; returns its configuration directory."""
    for name in ("config", "state", "run", "log"):
        monkeypatch.setenv(f"JACKLINE_{name.upper()}_DIR", str(tmp_path / name))
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to("/etc")
    basics = {"clientId": "web-1", "serverUrl": "https://hub.example", "authToken": "geheim"}
    (tmp_path / "config" / "agent-config.json").write_text(
        json.dumps(basics | {"admin": {"commandToken": "streng", "requireToken": True}})
    )
    (tmp_path / "config" / "policy.yaml").write_text(POLICY % {"folder": tmp_path})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config"


@pytest.fixture
def ask(machine: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def run(*argv: str) -> tuple[int, Any]:
        code = policy.run([*argv, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize(
    ("argv", "code", "where"),
    [
        (["command", "ls -l"], 0, "policy.yaml:5"),
        (["command", "--", "ls", "-l", "a b"], 0, "policy.yaml:5"),
        (["command", "echo QQ== | base64 -d | crontab -"], 0, "policy.yaml:6"),
        (["command", "id"], 5, "policy.yaml:4"),
        (["command", "ls; id"], 5, ""),
        (["command", "ls", "--cwd", "in"], 5, "policy.yaml:7"),
        (["command", "ls", "--env", "LD_PRELOAD=x"], 5, "default"),
        (["shell"], 5, "policy.yaml:1"),
        (["keys"], 0, "policy.yaml:1"),
        (["log"], 0, "policy.yaml:1"),
        (["telemetry"], 0, "policy.yaml:1"),
        (["tool", "http", "--args", '{"a": 1}'], 0, "policy.yaml:13"),
        (["tool", "read"], 5, "policy.yaml:14"),
        (["tool", "other"], 5, "policy.yaml:12"),
    ],
)
@pytest.mark.parametrize("verb", ["test", "explain"])
def test_one_thing_is_answered_with_its_line(ask, verb, argv, code, where):
    if "--" in argv:
        argv = ["command", "ls -l 'a b'"]
    found, answer = ask(verb, *argv)
    assert (found, answer["where"]) == (code, where)
    assert answer["allowed"] is (code == 0)
    assert answer["sentence"]


@pytest.mark.parametrize(
    ("argv", "path", "code"),
    [
        (["command", "ls", "--cwd"], "in", 0),
        (["command", "ls", "--cwd"], "in/out", 5),
        (["listing"], "in", 0),
        (["listing"], "in/out", 5),
        (["listing"], "config", 5),
        (["backup", "dest"], "in/new", 0),
        (["backup", "dest"], "in/out/new", 5),
        (["backup", "source"], "config", 0),
    ],
)
def test_place_is_looked_at_as_the_worker_does(ask, tmp_path: Path, argv, path, code):
    assert ask("test", *argv, str(tmp_path / path))[0] == code


def test_explain_tells_what_would_be_run(machine, capsys, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    assert policy.run(["explain", "command", "--", "ls", "-l", "a b"]) == exits.OK
    out = capsys.readouterr().out
    for part in ("allowed", "admin.allowedCommands[0]", "policy.yaml:5", "ls -l 'a b'", "TZ=UTC"):
        assert part in out


def test_refusal_names_rule_line_and_code(machine, capsys):
    assert policy.run(["explain", "command", "id"]) == exits.REFUSED
    out = capsys.readouterr().out
    for part in ("refused", "admin.allowedCommands", "policy.yaml:4", "policy_denied", "126"):
        assert part in out


def test_show_lists_families_and_keys_and_no_secret(machine, ask, capsys):
    code, shown = ask("show")
    assert code == exits.OK
    assert shown["families"]["admin"]["allowed"]
    assert not shown["families"]["shell"]["allowed"]
    keys = {row["key"]: row for row in shown["keys"]}
    assert keys["profile"]["where"] == "policy.yaml:1"
    assert keys["admin.requireToken"]["where"].endswith("agent-config.json")
    assert keys["admin.commandToken"]["value"] == "(set)"
    assert "shell.command" not in keys
    assert "shell.command" in {row["key"] for row in ask("show", "--all")[1]["keys"]}
    assert policy.run(["show"]) == exits.OK
    output = capsys.readouterr()
    assert "streng" not in output.out + output.err + json.dumps(shown)


def test_paused_machine_refuses_and_says_so(machine, ask, tmp_path: Path):
    killswitch.turn_on(tmp_path / "state")
    assert ask("test", "keys")[1]["reason"] == "locked_by_host"
    assert ask("test", "telemetry")[0] == exits.OK
    assert ask("show")[1]["locked"]


def test_faults_are_told_with_their_lines(machine: Path, capsys):
    (machine / "policy.yaml").write_text("profile: super\nadmin: {path: bin}\n")
    assert policy.run(["test", "keys"]) == exits.CONFIGURATION
    err = capsys.readouterr().err
    assert "profile = 'super'" in err
    assert "policy.yaml:1" in err


def test_another_policy_is_tried_without_any_configuration(machine: Path, tmp_path: Path, ask):
    (machine / "agent-config.json").unlink()
    (tmp_path / "other.yaml").write_text("tools: {x: allow}\n")
    code, answer = ask("test", "tool", "x", "--policy", str(tmp_path / "other.yaml"))
    assert (code, answer["where"]) == (exits.OK, "other.yaml:1")


def test_another_policy_must_be_there(machine: Path, tmp_path: Path):
    argv = ["test", "keys", "--policy", str(tmp_path / "none.yaml")]
    assert policy.run(argv) == exits.CONFIGURATION


def test_missing_configuration_is_78(machine: Path):
    (machine / "agent-config.json").unlink()
    assert policy.run(["test", "keys"]) == exits.CONFIGURATION


@pytest.mark.parametrize("text", ["[]", "{", "1"])
def test_tool_arguments_must_be_an_object(machine, text):
    assert policy.run(["test", "tool", "http", "--args", text]) == exits.USAGE


def test_policy_warns_that_the_running_agent_has_not_read_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is that of the files; the agent goes by what it read when it started."""
    answer = {"files": started_from.marks((machine / "policy.yaml",))}
    monkeypatch.setattr("agent.control_client.ask", lambda *_, **__: answer)
    policy.run(["explain", "shell"])
    assert "warning" not in capsys.readouterr().err
    (machine / "policy.yaml").write_text("profile: reporter\n")
    policy.run(["explain", "shell"])
    assert "restart it" in capsys.readouterr().err
    policy.run(["explain", "shell", "--policy", str(machine / "policy.yaml")])
    assert "restart it" not in capsys.readouterr().err


@pytest.mark.usefixtures("machine")
def test_policy_says_how_a_command_with_options_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        policy.run(["test", "command", "ls", "-l"])
    assert ended.value.code == exits.USAGE
    assert "write -- before it" in capsys.readouterr().err
    for argv in (["ls -l"], ["--", "ls", "-l"]):
        assert policy.run(["test", "command", *argv]) == exits.OK
    assert policy.run(["test", "tool", "http", "--args", "{"]) == exits.USAGE
    assert "--args is no JSON" in capsys.readouterr().err
