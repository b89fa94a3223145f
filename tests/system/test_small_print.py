"""What the contract says in half a sentence, at a real agent: limits, tokens, orders, places."""

from __future__ import annotations

import contextlib
import json
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import sandbox
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hubs import HubOptions, NodeHub
from tests.doubles.key_server import KeyServer
from tests.doubles.pair import Pair, connected
from tests.doubles.proxy import AuthProxy
from tests.doubles.public_keys import ed25519
from tests.doubles.reports import Json
from tests.facilities import require_root

OPEN = {"enableShell": True, "allowedCommands": ["*"]}


@contextlib.contextmanager
def foreign(config: Json) -> Iterator[tuple[NodeHub, AgentProcess]]:
    """A foreign server and an agent that has heard its `hello_ack`."""
    options = HubOptions(ping_every_ms=0)
    with NodeHub(options) as hub, running_agent(hub.url, {"statsIntervalSec": 600, **config}) as a:
        hub.wait_for("stats")
        yield hub, a


def outcome(hub: NodeHub, token: str | None, **cmd: object) -> Json:
    """Run a command; return its `result`."""
    mark = hub.record.mark()
    hub.emit("admin_run", {"token": token, "cmd": {"command": "true", **cmd}})
    result: Json = hub.wait_for("admin_result", since=mark).payload["result"]
    return result


def code(result: Json) -> int:
    """Return the code; where it is one of ours, `stderr` must say why."""
    number: int = result["summary"]["code"]
    assert result["stderr"] or number not in (2, 124, 126, 127, 401, 429)
    return number


# -- commands ---------------------------------------------------------------------------------


def test_token_that_is_required_and_not_configured_refuses_all() -> None:
    admin = {**OPEN, "requireToken": True, "commandToken": ""}
    with foreign({"admin": admin}) as (hub, _):
        for token in ("", "guess", None):
            assert code(outcome(hub, token)) == 401


def test_checks_come_in_the_contracts_order() -> None:
    """Shape, token, kill switch, rate, then the command itself: the first that fails answers, and
    only what came as far as the rate is counted."""
    admin = {**OPEN, "requireToken": True, "commandToken": "the right one", "rateLimitMax": 2}
    with foreign({"admin": admin}) as (hub, agent):
        assert agent.command("pause").returncode == 0
        assert code(outcome(hub, "wrong", command=7)) == 2
        assert code(outcome(hub, "wrong", command="true; id")) == 401
        assert code(outcome(hub, "the right one")) == 126
        assert agent.command("resume").returncode == 0
        assert code(outcome(hub, "the right one", command="true; id")) == 126
        assert code(outcome(hub, "the right one")) == 0
        assert code(outcome(hub, "the right one", command="true; id")) == 429


def test_shells_and_commands_share_one_limit_and_a_command_waits_for_its_own_time() -> None:
    """A number of 0 or less is the default: one place."""
    config = {"admin": {**OPEN, "maxConcurrent": 0, "defaultTimeoutSec": -1}, "pongTimeoutSec": 0}
    with foreign(config) as (hub, agent):
        hub.emit("shell_start", {"session": "holder"})
        agent.until(lambda: agent.workers("shell"))
        hub.emit("shell_start", {"session": "second"})
        assert hub.wait_for("shell_closed", session="second").payload["reason"] == "busy"
        result = outcome(hub, "waits", timeoutSec=0.5)
        assert (code(result), result["error"]) == (124, "queue timeout")
        hub.emit("admin_run", {"token": "served", "cmd": {"command": "echo its turn"}})
        hub.emit("shell_close", {"session": "holder"})
        served = hub.wait_for("admin_result", token="served").payload["result"]
        assert served["stdout"] == "its turn\n"


def test_commands_and_shells_run_as_whom_the_owner_names_where_and_with_what_he_allows() -> None:
    require_root()
    admin = {**OPEN, "runAs": "nobody", "allowedCwds": ["/usr"], "allowedEnv": ["COLOUR"]}
    shell = {"command": "/bin/sh", "args": [], "runAs": "nobody"}
    with foreign({"admin": {**admin, "maxConcurrent": 2}, "shell": shell}) as (hub, _):
        script = "echo $(id -un) $(pwd) $COLOUR $USER; cat /proc/$PPID/status"
        request = {"command": shlex.join(["sh", "-c", script]), "env": {"COLOUR": "red"}}
        told = outcome(hub, "t", **request, cwd="/usr/share")["stdout"]
        assert told.startswith("nobody /usr/share red nobody\n")
        uid = pwd.getpwnam("nobody").pw_uid
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in told  # its worker's, too
        assert code(outcome(hub, "t", cwd="/etc")) == 126
        assert code(outcome(hub, "t", env={"COLOR": "red"})) == 126
        hub.emit("shell_start", {"session": "s"})
        hub.emit("shell_input", {"session": "s", "data": "echo I am $(id -un) $USER\n"})
        hub.wait_for_output("s", "I am nobody nobody\r\n")


# -- shells -----------------------------------------------------------------------------------


def variables(pair: Pair, **start: object) -> dict[str, str]:
    """Start a shell; return its whole environment as it was given."""
    session = pair.name()
    pair.hub.emit("shell_start", {"session": session, **start})
    pair.type(session, "stty -echo; tr '\\0' '\\n' < /proc/$$/environ; echo d''one\n")
    text = pair.hub.wait_for_output(session, "done\r\n").decode().partition("echo d''one\r\n")[2]
    pair.hub.emit("shell_close", {"session": session})
    lines = [line for line in text.splitlines() if "=" in line]
    return dict(line.split("=", 1) for line in lines)


def test_shell_is_given_what_the_contract_names_and_nothing_else() -> None:
    env = {"TZ": "Pacific/Apia", "TMPDIR": "/tmp", "LC_TIME": "C", "SURPRISE": "1"}
    with connected(env=env) as pair:
        got = variables(pair, operator="ann", reason="a look", cols=100, rows=30)
    assert got.keys() == {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_TIME", "TERM", "TZ", "TMPDIR"),
        *("JACKLINE_OPERATOR", "JACKLINE_JOB"),
    }
    assert (got["TZ"], got["JACKLINE_OPERATOR"]) == ("Pacific/Apia", "ann")


@pytest.mark.parametrize(
    ("shell", "is_login"),
    [
        ({"command": None, "args": None}, "yes"),  # null is absent
        ({"command": "bash", "args": None}, "no"),
        ({"command": "/bin/bash", "args": ["-l"]}, "yes"),
    ],
    ids=["default", "command alone", "command and args"],
)
def test_shell_command_without_args_has_none(shell: Json, is_login: str) -> None:
    """And a bare name is looked up in the path, not in the home that the shell starts in."""
    with connected({"shell": shell}) as pair:
        session = pair.name()
        pair.hub.emit("shell_start", {"session": session, "cols": 111, "rows": 33})
        pair.type(session, "shopt -q login_shell && echo login y''es || echo login n''o\n")
        pair.hub.wait_for_output(session, f"login {is_login}\r\n")
        pair.type(session, "stty size\n")
        pair.hub.wait_for_output(session, "33 111")


def test_shell_that_is_not_there_is_told() -> None:
    with connected({"shell": {"command": "no-such-shell", "args": []}}) as pair:
        pair.hub.emit("shell_start", {"session": "s"})
        closed = pair.hub.wait_for("shell_closed", session="s").payload
        assert (closed["reason"], closed["code"]) == ("exit", 127)
        assert "no-such-shell" in closed["detail"]


def test_refused_shell_is_a_final_like_any_other() -> None:
    """With `ack` each `shell_closed` carries an id and stays until it is acknowledged."""
    with connected({"admin": {"enableShell": False}}, modes={"ack": "never"}) as pair:
        pair.hub.emit("shell_start", {"session": "s"})
        first = pair.hub.wait_for("shell_closed", session="s")
        assert (first.payload["reason"], first.wants_ack) == ("disabled", True)
        mark = pair.hub.record.mark()
        pair.hub.set(ack="now")
        pair.reconnected()
        again = pair.hub.wait_for("shell_closed", session="s", since=mark)
        assert again.payload == first.payload
        pair.agent.until(lambda: not pair.agent.ask("outbox")["items"])


# -- files, keys ------------------------------------------------------------------------------


def test_directory_outside_of_the_allowed_roots_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "here").touch()
    (inside / "way out").symlink_to(tmp_path)
    with foreign({"dirBrowse": {"allowedRoots": [str(inside)]}}) as (hub, _):
        answers = {}
        for path in (inside, inside / "way out", tmp_path, Path("/")):
            request = {"clientId": "agent-1", "requestId": str(path), "mode": "local"}
            hub.emit("dir_list_request", {**request, "path": str(path)})
            answers[path] = hub.wait_for("dir_list_response", requestId=str(path)).payload
    names = [entry["name"] for entry in answers.pop(inside)["entries"]]
    assert sorted(names) == ["here", "way out"]
    assert all(answer["error"] and not answer["entries"] for answer in answers.values())


def test_tail_begins_with_1_to_200_lines() -> None:
    with NodeHub(HubOptions(ping_every_ms=0)) as hub:
        agent = AgentProcess(hub.url, {"statsIntervalSec": 600})
        (agent.root / "log" / "agent.log").write_text('{"msg":"old"}\n' * 500)
        try:
            agent.start()
            hub.wait_for("stats")
            for lines, most in ((10_000, 200), (0, 1), (-5, 1), (None, 10)):
                session = f"last {lines}"
                ask = {"session": session, **({} if lines is None else {"lines": lines})}
                hub.emit("log_tail_start", ask)
                first = hub.wait_for("log_tail_output", session=session).payload["data"]
                assert first.count("\n") == most
        finally:
            agent.close()


def test_keys_are_written_for_the_agents_own_account_by_default(tmp_path: Path) -> None:
    home, accounts = tmp_path / "home", tmp_path / "passwd"
    home.mkdir(mode=0o700)
    accounts.write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
    prefix = sandbox.mounts(f"mount --bind {accounts} /etc/passwd")
    with KeyServer() as server, NodeHub(HubOptions(ping_every_ms=0)) as hub:
        server.body = ed25519(1).encode()
        config = {"keys": {"baseUrl": server.url}}
        with running_agent(hub.url, config, prefix=prefix):
            hub.wait_for("stats")
            for added in (1, 0):
                mark = hub.record.mark()
                hub.emit("sync_keys", {"user": "octocat"})
                answer = hub.wait_for("keys_sync_result", since=mark).payload
                expected = {"ok": True, "user": "octocat", "added": added}
                assert expected.items() <= answer.items() and "error" not in answer
        written = home / ".ssh" / "authorized_keys"
        assert written.read_text().count("ssh-ed25519 ") == 1
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert [path for path, _ in server.requests] == ["/octocat.keys"] * 2


# -- configuration, policy, log ---------------------------------------------------------------


def test_policy_file_beside_the_configuration_governs() -> None:
    """`reporter`: nothing that acts, and telemetry all the same."""
    with NodeHub(HubOptions(ping_every_ms=0)) as hub:
        agent = AgentProcess(hub.url, {"statsIntervalSec": 1})
        agent.config_file.with_name("policy.yaml").write_text("profile: reporter\n")
        try:
            agent.start()
            hub.wait_for("stats")
            assert code(outcome(hub, "t")) == 126
            hub.emit("shell_start", {"session": "s"})
            assert hub.wait_for("shell_closed").payload["reason"] == "policy_denied"
            hub.emit("sync_keys", {"user": "octocat"})
            assert hub.wait_for("keys_sync_result").payload["error"] == "policy_denied"
            hub.emit("log_tail_start", {"session": "t"})
            assert hub.wait_for("log_tail_closed").payload["reason"] == "policy_denied"
            request = {"clientId": "agent-1", "requestId": "r", "mode": "local", "path": "/"}
            hub.emit("dir_list_request", request)
            assert hub.wait_for("dir_list_response").payload["error"] == "policy_denied"
            plan = {"planId": "p", "sourceDirs": ["/etc"], "destRoot": "/x", "ignoreGlobs": []}
            hub.emit("backup_plan", plan)
            assert hub.wait_for("backup_error").payload["error"] == "policy_denied"
            hub.wait_for("stats", since=hub.record.mark())
        finally:
            agent.close()


def test_policy_file_that_is_none_ends_the_start_with_78() -> None:
    agent = AgentProcess("http://127.0.0.1:1")
    agent.config_file.with_name("policy.yaml").write_text("admin:\n  allowedCommand: [id]\n")
    try:
        process = agent.start().process
        assert process is not None and process.wait(20) == 78
        (record,) = agent.log_records()
        for told in ((agent.root / "stderr").read_text(), record["error"]):
            assert "policy.yaml:2" in told and "did you mean allowedCommands?" in told
    finally:
        agent.close()


def test_outbox_that_is_no_file_of_ours_ends_the_start_with_one_line() -> None:
    agent = AgentProcess("http://127.0.0.1:1")
    (agent.state_dir / "outbox.db").symlink_to("/etc/passwd")
    try:
        process = agent.start().process
        assert process is not None and process.wait(20) == 1
        (line,) = (agent.root / "stderr").read_text().splitlines()
        assert "outbox.db" in line
    finally:
        agent.close()


def test_proxy_of_the_environment_is_used_for_the_link() -> None:
    with AuthProxy() as proxy, NodeHub(HubOptions(ping_every_ms=0)) as hub:
        with running_agent(hub.url, env={"HTTP_PROXY": proxy.url}) as agent:
            hub.wait_for("stats")
            assert {tunnel.target for tunnel in proxy.tunnels} == {f"127.0.0.1:{hub.port}"}
            assert proxy.url not in agent.log_tail()


def test_each_start_warns_of_what_may_not_be_meant() -> None:
    """In the log that LOG_FILE names, 0600, one JSON object a line; TLS off on stderr, too."""
    with NodeHub(HubOptions(ping_every_ms=0)) as hub:
        config = {"admin": {}, "surprise": 1, "control": {"group": "no-such-group"}}
        agent = AgentProcess(hub.url, config)
        log = agent.root / "elsewhere.log"
        agent.env["LOG_FILE"] = str(log)
        try:
            for _ in range(2):
                mark = hub.record.mark()
                agent.start("--insecure")
                hub.wait_for("stats", since=mark)
                agent.terminate()
            records = [json.loads(line) for line in log.read_text().splitlines()]
            told = [each["what"] for each in records if "what" in each]
            words = (
                "admin.allowedCommands",
                "transport.skipTlsVerify",
                "surprise",
                "control.group",
            )
            for word in words:
                assert len([one for one in told if one.startswith(word)]) == 2
            assert stat.S_IMODE(log.stat().st_mode) == 0o600
            stderr = (agent.root / "stderr").read_text()
            assert stderr.count("certificate is not checked") == 2
        finally:
            agent.close()
