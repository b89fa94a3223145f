"""Settings: sources in their order, each fault with key, value and reason, no secret shown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.config import Options
from agent.dirs import Dirs
from agent.errors import ConfigError

GOOD = {"clientId": "web-1", "serverUrl": "https://hub.example", "authToken": "s3cr3t-t0ken"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return path


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"JACKLINE_CONFIG_DIR": str(tmp_path / "etc"), **more}


def load(tmp_path: Path, content: Any, **more: str) -> config.Settings:
    path = write(tmp_path / "c.json", content)
    return config.load(Options(config=path), environ(tmp_path, **more))


def faults(tmp_path: Path, content: Any, **more: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content, **more)
    return [str(fault) for fault in caught.value.faults]


def test_config_defaults_are_a_fielded_agents(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert (settings.stats_interval_s, settings.heartbeat_interval_s) == (60, 20)
    assert settings.pong_timeout_s == 90
    assert settings.transport == config.Transport(
        path="/socket.io", skip_tls_verify=False, ca_file=None
    )
    admin = settings.sections.admin
    assert (admin.enable_shell, admin.max_concurrent, admin.default_timeout_sec) == (False, 1, 30)
    assert admin.allowed_commands is None
    assert settings.sections.backup.layout == "mirror"
    assert settings.policy_file == tmp_path / "policy.yaml"
    assert settings.warnings == ()


def test_config_order_is_default_file_environment_flag(tmp_path: Path) -> None:
    content = {**GOOD, "statsIntervalSec": 5}
    assert load(tmp_path, content).stats_interval_s == 5
    assert load(tmp_path, content, STATS_INTERVAL_SEC="7").stats_interval_s == 7
    both = {"STATS_INTERVAL_SEC": "7", "JACKLINE_STATS_INTERVAL_SEC": "8.5"}
    assert load(tmp_path, content, **both).stats_interval_s == 8.5
    path = write(tmp_path / "c.json", {**GOOD, "transport": {"skipTlsVerify": False}})
    env = environ(tmp_path, AGENT_SKIP_TLS_VERIFY="false")
    assert not config.load(Options(config=path), env).transport.skip_tls_verify
    insecure = config.load(Options(config=path, insecure=True), env)
    assert insecure.transport.skip_tls_verify
    assert any("skipTlsVerify" in warning for warning in insecure.warnings)


def test_config_empty_variable_counts_as_unset_save_the_allowed_commands(tmp_path: Path) -> None:
    content = {**GOOD, "admin": {"allowedCommands": ["ls"]}}
    kept = load(tmp_path, content, CLIENT_ID="", JACKLINE_CLIENT_ID="", STATS_INTERVAL_SEC="")
    assert (kept.client_id, kept.stats_interval_s) == ("web-1", 60)
    assert kept.sections.admin.allowed_commands == ["ls"]
    denied = load(tmp_path, content, ADMIN_ALLOWED_COMMANDS="")
    assert denied.sections.admin.allowed_commands == []
    listed = load(tmp_path, content, ADMIN_ALLOWED_COMMANDS="df -h, uptime")
    assert listed.sections.admin.allowed_commands == ["df -h", "uptime"]


def test_config_everything_may_come_from_the_environment(tmp_path: Path) -> None:
    env = environ(
        tmp_path, CLIENT_ID="a", SERVER_URL="https://h", AUTH_TOKEN="t", LOG_FILE="/x/y.log"
    )
    settings = config.load(None, env)
    assert settings.config_file is None
    assert type(settings.auth_token) is str
    assert settings.logging.file == Path("/x/y.log")
    assert settings.policy_file == tmp_path / "etc" / "policy.yaml"


@pytest.mark.parametrize("name", ["AUTH_TOKEN_FILE", "JACKLINE_AUTH_TOKEN_FILE"])
def test_config_secret_comes_from_the_file_a_variable_names(tmp_path: Path, name: str) -> None:
    secret = write(tmp_path / "token", "from-a-file\n")
    assert load(tmp_path, GOOD, **{name: str(secret)}).auth_token == "from-a-file"
    secret.chmod(0o644)
    [warning] = load(tmp_path, GOOD, **{name: str(secret)}).warnings
    assert "everybody may read the token" in warning
    secret.chmod(0o666)
    [fault] = faults(tmp_path, GOOD, **{name: str(secret)})
    assert "everybody may write it" in fault
    assert "from-a-file" not in fault


def test_config_file_is_searched_in_the_contracts_order(tmp_path: Path) -> None:
    system = write(tmp_path / "etc/agent-config.yaml", "clientId: system\n")
    options, env = Options(), environ(tmp_path)
    assert config.find_file(options, env) == (system, False)
    here = write(tmp_path / "cwd/agent-config.json", GOOD)
    assert config.find_file(options, env) == (here, False)
    env["CLIENT_CONFIG_PATH"] = str(tmp_path / "named.json")
    assert config.find_file(options, env) == (tmp_path / "named.json", True)
    flag = Options(config=Path("flag.json"))
    assert config.find_file(flag, env) == (tmp_path / "cwd/flag.json", True)


def test_config_json_and_yaml_mean_the_same(tmp_path: Path) -> None:
    text = (
        "clientId: web-1\nserverUrl: https://hub.example\nauthToken: s3cr3t-t0ken\n"
        "admin:\n  allowedCommands: [ls, 'df -h']\n  maxConcurrent: 3\n"
    )
    yaml = write(tmp_path / "c.yaml", text)
    from_yaml = config.load(Options(config=yaml), environ(tmp_path))
    admin = {"allowedCommands": ["ls", "df -h"], "maxConcurrent": 3}
    from_json = load(tmp_path, {**GOOD, "admin": admin})
    assert from_yaml.sections == from_json.sections


@pytest.mark.parametrize(
    "content, key, reason",
    [
        (
            {"statsIntervalSec": "60"},
            "statsIntervalSec",
            'statsIntervalSec = "60": must be a number',
        ),
        ({"admin": {"enableShell": "yes"}}, "admin.enableShell", "must be true or false"),
        ({"admin": {"allowedCommands": "ls"}}, "admin.allowedCommands", "must be a list of texts"),
        ({"admin": {"allowedCommands": ["ls", 1]}}, "admin.allowedCommands", "list of texts"),
        ({"admin": {"maxConcurrent": 1.5}}, "admin.maxConcurrent", "must be a whole number"),
        ({"admin": {"maxConcurrent": True}}, "admin.maxConcurrent", "must be a whole number"),
        ({"admin": []}, "admin", "must be a mapping"),
        ({"keys": {"mode": "all"}}, "keys.mode", "must be one of add-only, mirror"),
        ({"clientId": "a b"}, "clientId", "must be 1 to 128"),
        ({"clientId": "a\n"}, "clientId", "must be 1 to 128"),
        ({"serverUrl": "hub.example"}, "serverUrl", "must be a URL"),
        ({"serverUrl": "https://u:pw1@h"}, "serverUrl", "must not hold a user name"),
        ({"logging": {"level": "loud"}}, "logging.level", "must be one of debug"),
        ({"pongTimeoutSec": 1e300}, "pongTimeoutSec", "is out of range"),
        ({"shell": {"command": "/bin/\0sh"}}, "shell.command", "NUL"),
        ({"backup": {"retention": {"daily": "7"}}}, "backup.retention", "whole numbers"),
    ],
)
def test_config_fault_names_key_value_and_reason(
    tmp_path: Path, content: dict[str, Any], key: str, reason: str
) -> None:
    [fault] = faults(tmp_path, {**GOOD, **content})
    assert fault.startswith(key)
    assert reason in fault
    assert "\n" not in fault
    assert "pw1" not in fault


def test_config_all_faults_come_together(tmp_path: Path) -> None:
    found = faults(tmp_path, {"clientId": 7, "statsIntervalSec": []}, PONG_TIMEOUT_SEC="soon")
    assert [fault.split()[0].strip(":") for fault in found] == [
        "clientId",
        "statsIntervalSec",
        "pongTimeoutSec",
        "serverUrl",
        "authToken",
    ]
    assert any("environment PONG_TIMEOUT_SEC" in fault for fault in found)


def test_config_fault_never_shows_a_secret(tmp_path: Path) -> None:
    content = {**GOOD, "authToken": ["s3cr3t-t0ken"], "admin": {"commandToken": ["h1dden"]}}
    text = " ".join(faults(tmp_path, content))
    assert "authToken" in text
    assert "s3cr3t" not in text
    assert "h1dden" not in text
    assert "s3cr3t" not in repr(load(tmp_path, GOOD))


@pytest.mark.parametrize("number", [0, -5, 0.0])
def test_config_number_of_zero_or_less_is_the_default(tmp_path: Path, number: float) -> None:
    settings = load(
        tmp_path,
        {
            **GOOD,
            "statsIntervalSec": number,
            "admin": {"maxConcurrent": number, "rateLimitMax": number},
        },
    )
    assert settings.stats_interval_s == 60
    assert settings.sections.admin.max_concurrent == 1
    assert settings.sections.admin.rate_limit_max == 0


def test_config_null_is_absent(tmp_path: Path) -> None:
    settings = load(tmp_path, {**GOOD, "statsIntervalSec": None, "admin": None})
    assert settings.stats_interval_s == 60


@pytest.mark.parametrize(
    "content, hint",
    [
        ({"statsIntervalSecs": 5}, "did you mean statsIntervalSec?"),
        ({"admin": {"allowedCommand": []}}, "did you mean admin.allowedCommands?"),
        ({"maxConcurrent": 5}, "did you mean admin.maxConcurrent?"),
        ({"xyzzy": 5}, "xyzzy: unknown key"),
    ],
)
def test_config_unknown_key_warns_with_a_suggestion(
    tmp_path: Path, content: dict[str, Any], hint: str
) -> None:
    [warning] = load(tmp_path, {**GOOD, **content}).warnings
    assert hint in warning


def test_config_key_of_a_fielded_agent_that_we_do_not_use_is_silent(tmp_path: Path) -> None:
    unused = {
        "updateCheckEnabled": True,
        "updateCheckIntervalHours": 24,
        "openHardwareMonitorPort": 8085,
        "connectivity": {"hosts": [{"a": 1}]},
        "dirBrowse": {"sshHostKeyPolicy": "accept", "smbProfiles": {}},
    }
    assert load(tmp_path, {**GOOD, **unused}).warnings == ()


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"{", "is not JSON"),
        (b"clientId: a", "is not JSON"),
        (b'\xef\xbb\xbf{"clientId": "a"}', "byte order mark"),
        (b'{"clientId": "a", "clientId": "b"}', "has the key 'clientId' twice"),
        (b'{"statsIntervalSec": NaN}', "NaN"),
        (b'{"statsIntervalSec": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"[]", "must hold one mapping"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (1 << 21), "is larger than"),
    ],
)
def test_config_file_that_is_none_is_one_fault(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        config.load(Options(config=path), environ(tmp_path))
    [fault] = caught.value.faults
    assert str(path) in str(fault)
    assert reason in str(fault)


@pytest.mark.parametrize(
    "content, reason",
    [
        ("a: 1\na: 2\n", "has the key 'a' twice"),
        ("a: &x [1]\nb: *x\n", "alias"),
        ("a: [", "is not YAML"),
        ("1: a\n", "a key that is not text"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: {b: 1, b: 2}", "has the key 'b' twice"),
    ],
)
def test_config_yaml_that_is_none_is_one_fault(tmp_path: Path, content: str, reason: str) -> None:
    path = write(tmp_path / "c.yaml", content)
    with pytest.raises(ConfigError) as caught:
        config.load(Options(config=path), environ(tmp_path))
    [fault] = caught.value.faults
    assert reason in str(fault)


def test_config_number_that_overflows_is_out_of_range(tmp_path: Path) -> None:
    text = json.dumps(GOOD)[:-1] + ', "statsIntervalSec": 1e400}'
    [fault] = faults(tmp_path, text)
    assert "out of range" in fault


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_config_file_that_everybody_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "c.json", GOOD)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="everybody may write it"):
        config.load(Options(config=path), environ(tmp_path))


def test_config_directory_fifo_or_nothing_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dir.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    for name, reason in [
        ("dir.json", "is a directory"),
        ("fifo.json", "is not a regular file"),
        ("none.json", "cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            config.load(Options(config=tmp_path / name), environ(tmp_path))


def test_config_broken_link_is_told_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "cwd/agent-config.json").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(None, environ(tmp_path))


@pytest.mark.parametrize(
    "key, variables, expected",
    [
        (None, {}, "agent.log"),
        (None, {"LOG_FILE": "/l/a.log"}, "/l/a.log"),
        (None, {"JACKLINE_LOG_DIR": "/d"}, "/d/agent.log"),
        (None, {"JACKLINE_LOG_DIR": "/d", "LOG_FILE": "/l/a.log"}, "/l/a.log"),
        ("/f/b.log", {"LOG_FILE": "/l/a.log"}, "/f/b.log"),
        ("b.log", {}, "b.log"),
    ],
)
def test_config_log_file_is_where_the_contract_says(
    tmp_path: Path, key: str | None, variables: dict[str, str], expected: str
) -> None:
    content = {**GOOD, "logging": {"file": key}} if key else GOOD
    assert load(tmp_path, content, **variables).logging.file == tmp_path / expected


def test_config_of_the_system_logs_to_the_systems_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Dirs(tmp_path / "etc", tmp_path / "lib", tmp_path / "run", tmp_path / "log")
    monkeypatch.setattr("agent.dirs.system_dirs", lambda environ=None: places)
    write(tmp_path / "etc/agent-config.json", GOOD)
    assert config.load(None, {}).logging.file == tmp_path / "log/agent.log"


def test_config_origin_of_each_value_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", GOOD)
    env = environ(tmp_path, STATS_INTERVAL_SEC="9", HEARTBEAT_INTERVAL_SEC="-1")
    report = config.inspect(Options(config=path, log_level="debug"), env)
    origins = {value.key.name: value.origin for value in report.values}
    assert origins["clientId"] == f"file {path}"
    assert origins["statsIntervalSec"] == "environment STATS_INTERVAL_SEC"
    assert origins["heartbeatIntervalSec"].startswith("default (environment HEARTBEAT_INTERVAL_SEC")
    assert origins["logging.level"] == "flag --log-level"
    assert origins["admin.maxConcurrent"] == "default"


def test_config_proxies_are_read_from_the_environment(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD, https_proxy="http://p:3128", NO_PROXY="localhost")
    assert settings.proxies == {"https": "http://p:3128", "no": "localhost"}
