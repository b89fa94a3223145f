"""Contract 1.1 to 1.6 and 1.9, event by event, against three servers: our scripted hub, a foreign
Node server, and that server with WebSocket refused."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import vitals
from tests.doubles.agent_process import AgentProcess, running_agent
from tests.doubles.hubs import Hub, HubOptions, NodeHub, ScriptedHub

NAMES = itertools.count(1)
WRONG: tuple[Any, ...] = (None, True, 7, 1.5, "text", [], [1], {}, {"session": 7}, {"session": ""})
FOREIGN_FIELDS = {"offset", "encoding", "id", "jobId", "detail"}


@dataclass
class Peers:
    """One server and one agent, kept for a module's tests."""

    hub: Hub
    agent: AgentProcess
    sid: str

    def name(self) -> str:
        return f"session-{next(NAMES)}"

    def shell(self) -> str:
        """Open a shell that has printed its prompt."""
        session = self.name()
        self.hub.emit("shell_start", {"session": session})
        self.type(session, "PS1=; stty -echo; echo rea''dy\n")
        self.hub.wait_for_output(session, "ready\r\n")
        return session

    def type(self, session: str, text: str) -> None:
        self.hub.emit("shell_input", {"session": session, "data": text})

    def run(self, command: str, timeout: float = 20.0, **more: Any) -> dict[str, Any]:
        """Run a command; return its `admin_result`."""
        token = self.name()
        self.hub.emit("admin_run", {"token": token, "cmd": {"command": command, **more}})
        payload = self.hub.wait_for("admin_result", token=token, timeout=timeout).payload
        assert isinstance(payload, dict)
        return payload

    def is_same_link(self) -> bool:
        return [c.sid for c in self.hub.connections] == [self.sid]


@pytest.fixture(scope="module", params=["scripted", "node", "node-polling"])
def peers(request: pytest.FixtureRequest) -> Iterator[Peers]:
    modes = {"websocketStatus": 403} if request.param == "node-polling" else {}
    cls = ScriptedHub if request.param == "scripted" else NodeHub
    options = HubOptions(modes=modes, ping_every_ms=500, max_payload=2_000_000)
    config = {"statsIntervalSec": 1, "keys": {"baseUrl": "http://127.0.0.1:1"}}
    with cls(options) as hub, running_agent(hub.url, config) as agent:
        connection = hub.wait_for_connection()
        expected = "polling" if request.param == "node-polling" else "websocket"
        assert connection.transport == expected
        yield Peers(hub, agent, connection.sid)


def test_connect_signs_the_query_anew(peers: Peers) -> None:
    """The signature is over the exact bytes, and our features ride in the CONNECT packet."""
    query = peers.hub.connections[0].query
    assert query["clientId"] == "agent-1"
    assert abs(int(query["ts"]) - time.time() * 1000) < 300_000


def test_ping_is_answered_with_the_same_ts(peers: Peers) -> None:
    peers.hub.emit("ping", {"ts": 1234567890123})
    assert peers.hub.wait_for("pong", ts=1234567890123).payload["type"] == "pong"


def test_stats_come_on_schedule_and_have_the_contracts_fields(peers: Peers) -> None:
    mark = peers.hub.record.mark()
    data = peers.hub.wait_for("stats", since=mark).payload["data"]
    assert {"ts", "cpu", "mem", "load", "disk", "net", "hostname", "agentVersion"} <= data.keys()
    assert data["mem"].keys() == {"used", "free", "total"}
    assert data["load"].keys() == {"1m", "5m", "15m"}


def test_shell_carries_input_verbatim_and_in_order(peers: Peers) -> None:
    """3,000 numbered events arrive complete and in order."""
    session = peers.shell()
    peers.type(session, "stty raw; head -c 18000 | sha256sum; stty sane -echo\n")
    lines = [f"{n:05d}\n" for n in range(3000)]
    for line in lines:
        peers.type(session, line)
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    peers.hub.wait_for_output(session, digest)
    peers.hub.emit("shell_close", {"session": session})


@pytest.mark.parametrize("size", [40_000, 200_000])
def test_shell_takes_a_large_paste(peers: Peers, size: int) -> None:
    session = peers.shell()
    text = "".join(f"{n:07d} paste\n" for n in range(size // 14))
    peers.type(session, f"stty raw; echo go''; head -c {len(text)} | sha256sum; stty sane\n")
    peers.hub.wait_for_output(session, "go")
    peers.type(session, text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    peers.hub.wait_for_output(session, digest)
    peers.hub.emit("shell_close", {"session": session})


def test_shell_output_splits_no_character(peers: Peers) -> None:
    """40,000 bytes of é come without one replacement character."""
    session = peers.shell()
    peers.type(session, "python3 -c \"print('x' + 'é' * 20000 + 'end')\"\n")
    output = peers.hub.wait_for_output(session, "end\r\n").decode()
    assert output.count("é") == 20_000
    assert "\ufffd" not in output
    peers.hub.emit("shell_close", {"session": session})


def test_shell_closed_follows_the_last_output_once(peers: Peers) -> None:
    session = peers.shell()
    peers.type(session, "seq 100000; exit 5\n")
    closed = peers.hub.wait_for("shell_closed", session=session)
    assert (closed.payload["code"], closed.payload["reason"]) == (5, "exit")
    output = peers.hub.output(session).decode()
    assert output.endswith("99999\r\n100000\r\n") or "\r\n100000\r\n" in output
    after = [e.name for e in peers.hub.events() if (e.payload or {}).get("session") == session]
    assert after[-1] == "shell_closed" and after.count("shell_closed") == 1


def test_shell_start_on_a_live_session_is_ignored(peers: Peers) -> None:
    session = peers.shell()
    peers.hub.emit("shell_start", {"session": session})
    peers.type(session, "echo still $((40+2))\n")
    peers.hub.wait_for_output(session, "still 42")
    assert peers.hub.events("shell_closed", session=session) == []
    peers.hub.emit("shell_close", {"session": session})
    assert peers.hub.wait_for("shell_closed", session=session).payload["reason"] == "closed"


def test_shell_has_a_built_environment_and_a_size(peers: Peers) -> None:
    session = peers.shell()
    peers.type(session, "echo $TERM $(stty size) $PWD $HOME; env | grep -c JACKLINE_STATE\n")
    output = peers.hub.wait_for_output(session, "\r\n0\r\n").decode()
    home = os.path.expanduser("~")
    assert f"xterm-256color 24 80 {home} {home}" in output
    peers.hub.emit("shell_resize", {"session": session, "cols": 132, "rows": 43})
    for cols, rows in ((0, 0), (-1, 5), (1_000_000_000, 5), ("a", 5), (None, None)):
        peers.hub.emit("shell_resize", {"session": session, "cols": cols, "rows": rows})
    peers.type(session, "stty size\n")
    peers.hub.wait_for_output(session, "43 132")
    peers.hub.emit("shell_close", {"session": session})


def test_shell_events_for_unknown_sessions_are_nothing(peers: Peers) -> None:
    mark = peers.hub.record.mark()
    for event in ("shell_input", "shell_resize", "shell_close"):
        peers.hub.emit(event, {"session": "nobody", "data": "x", "cols": 9, "rows": 9})
    peers.hub.emit("ping", {"ts": 7})
    peers.hub.wait_for("pong", ts=7)
    assert peers.hub.events("shell_closed", since=mark, session="nobody") == []


def test_command_result_has_the_contracts_shape(peers: Peers) -> None:
    result = peers.run("sh -c 'echo out; echo err >&2; exit 7'")
    assert result["command"] == "sh -c 'echo out; echo err >&2; exit 7'"
    assert result["result"]["stdout"] == "out\n"
    assert result["result"]["stderr"] == "err\n"
    assert result["result"]["summary"]["code"] == 7
    assert not (FOREIGN_FIELDS & result.keys()) or peers.hub.speaks_features


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true; id", 126),
        ("echo $(id)", 126),
        ("echo `id`", 126),
        ("cat < /etc/passwd", 126),
        ("true & true", 126),
        ("true\nid", 126),
        ("echo 'unbalanced", 126),
        ("no-such-program-anywhere", 127),
        ("", 126),
    ],
)
def test_command_that_needs_a_shell_is_refused_with_a_reason(
    peers: Peers, command: str, code: int
) -> None:
    outcome = peers.run(command)["result"]
    assert outcome["summary"]["code"] == code
    assert outcome["stderr"]


def test_command_quoted_metacharacters_are_data(peers: Peers) -> None:
    assert peers.run("echo 'a|b' \"c;d\" 'e&f'")["result"]["stdout"] == "a|b c;d e&f\n"


def test_command_timeout_ends_the_whole_tree(peers: Peers) -> None:
    seconds = f"987.{os.getpid()}"  # like nobody else's beside this test
    command = f"sh -c 'trap \"\" TERM; setsid sleep {seconds} & sleep {seconds}'"
    outcome = peers.run(command, timeoutSec=1)["result"]
    assert outcome["summary"]["code"] == 124
    assert vitals.marked(seconds) == []


def test_command_killed_by_a_signal_tells_so(peers: Peers) -> None:
    summary = peers.run("sh -c 'kill -9 $$'")["result"]["summary"]
    assert (summary["code"], summary["signal"]) == (137, 9)


def test_command_cwd_and_env_are_refused_unless_allowed(peers: Peers) -> None:
    assert peers.run("pwd", cwd="/tmp")["result"]["summary"]["code"] == 126
    assert peers.run("env", env={"LD_PRELOAD": "/x"})["result"]["summary"]["code"] == 126


def test_command_that_prints_10_mb_is_shortened_and_counted(peers: Peers) -> None:
    outcome = peers.run("sh -c 'head -c 10000000 /dev/zero | tr \"\\\\0\" x; echo END'")["result"]
    summary = outcome["summary"]
    assert summary["truncated"] is True
    assert summary["stdoutBytes"] == 10_000_004
    assert outcome["stdout"].startswith("xxx") and outcome["stdout"].endswith("xEND\n")
    assert len(json.dumps(outcome)) < 240 * 1024


def test_command_that_prints_escapes_only_fits_its_event(peers: Peers) -> None:
    outcome = peers.run('sh -c \'head -c 1000000 /dev/zero | tr "\\\\0" "\\\\033"\'')["result"]
    assert outcome["summary"]["stdoutBytes"] == 1_000_000
    assert outcome["summary"]["truncated"] is True
    assert len(json.dumps(outcome)) < 240 * 1024


def test_crontab_round_trip_by_the_recognised_form(peers: Peers) -> None:
    """All spellings of the form are decoded by us and fed to `crontab -`; a bad one changes
    nothing."""
    before = peers.run("crontab -l")["result"]
    for number, form in enumerate(
        (
            "echo {b64} | base64 -d | crontab -",
            "echo '{b64}' | base64 --decode | crontab -",
            'echo "{b64}" | base64 -D | crontab -',
            "printf %s {b64} | base64 -d | crontab -",
            "printf '%s' {b64} | base64 -d | crontab -",
        )
    ):
        text = f"# jackline test {number}\n5 4 * * {number} /bin/true\n"
        b64 = base64.b64encode(text.encode()).decode()
        assert peers.run(form.format(b64=b64))["result"]["summary"]["code"] == 0
        assert peers.run("crontab -l")["result"]["stdout"] == text
    broken = base64.b64encode(b"this is no crontab\n").decode()
    assert peers.run(f"echo {broken} | base64 -d | crontab -")["result"]["summary"]["code"] != 0
    assert peers.run("crontab -l")["result"]["stdout"] == text
    if before["summary"]["code"] == 0:
        b64 = base64.b64encode(before["stdout"].encode()).decode()
        peers.run(f"echo {b64} | base64 -d | crontab -")
    else:
        peers.run("crontab -r")


def test_malformed_admin_run_is_answered_with_code_2(peers: Peers) -> None:
    mark = peers.hub.record.mark()
    peers.hub.emit("admin_run", {"token": "bad-shape", "cmd": {"command": 7}})
    outcome = peers.hub.wait_for("admin_result", since=mark, token="bad-shape").payload
    assert outcome["command"] == ""
    assert outcome["result"]["summary"]["code"] == 2
    assert outcome["result"]["error"] == "bad_request"


def test_backup_that_was_never_planned_is_refused(peers: Peers) -> None:
    plan = peers.name()
    request = {"planId": plan, "sourceDirs": ["/etc"], "destRoot": "/x", "ignoreGlobs": []}
    peers.hub.emit("backup_start", request)
    assert peers.hub.wait_for("backup_error", planId=plan).payload["error"] == "unknown_plan"


def test_agent_update_is_not_supported_yet_and_says_so(peers: Peers) -> None:
    mark = peers.hub.record.mark()
    peers.hub.emit("agent_update", {"tag": "v9"})
    answer = peers.hub.wait_for("agent_update_result", since=mark).payload
    assert (answer["ok"], answer["error"]) == (False, "unsupported")


def test_sync_keys_answers_a_bad_user_without_asking_anybody(peers: Peers) -> None:
    for user in ("../root", "-x", "a:b", "a\n"):
        peers.hub.emit("sync_keys", {"user": user})
        answer = peers.hub.wait_for("keys_sync_result", user=user).payload
        assert (answer["ok"], answer["added"], answer["error"]) == (False, 0, "bad_user")


def test_directory_is_listed(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("12345")
    request = {"clientId": "agent-1", "requestId": peers.name(), "mode": "local"}
    peers.hub.emit("dir_list_request", {**request, "path": str(tmp_path)})
    answer = peers.hub.wait_for("dir_list_response", requestId=request["requestId"]).payload
    assert {"name": "folder", "type": "dir"} in answer["entries"]
    assert {"name": "file", "type": "file", "size": 5} in answer["entries"]
    missing = peers.name()
    peers.hub.emit("dir_list_request", {**request, "requestId": missing, "path": "/no/such"})
    assert peers.hub.wait_for("dir_list_response", requestId=missing).payload["error"]


def test_log_is_tailed_until_stopped(peers: Peers) -> None:
    session = peers.name()
    peers.hub.emit("log_tail_start", {"session": session, "lines": 5})
    first = peers.hub.wait_for("log_tail_output", session=session).payload
    assert first["data"] and first["ts"]
    peers.hub.emit("log_tail_stop", {"session": session})
    assert peers.hub.wait_for("log_tail_closed", session=session).payload["reason"]


@pytest.mark.parametrize(
    "event",
    [
        "hello_ack",
        "ping",
        "pong",
        "admin_run",
        "shell_start",
        "shell_input",
        "shell_resize",
        "shell_close",
        "backup_plan",
        "backup_start",
        "sync_keys",
        "log_tail_start",
        "log_tail_stop",
        "dir_list_request",
        "check_updates",
        "agent_update",
        "worker_list",
        "worker_restart",
        "no_such_event",
    ],
)
def test_wrong_types_do_not_end_the_link(peers: Peers, event: str) -> None:
    """The connection (same sid) survives each wrong type of each event."""
    for wrong in WRONG:
        peers.hub.emit(event, wrong)
    peers.hub.emit(event)
    peers.hub.emit(event, {"session": "x" * 5000, "data": ["x"] * 100, "token": {"a": 1}})
    marker = int(time.time() * 1000) + next(NAMES)
    peers.hub.emit("ping", {"ts": marker})
    peers.hub.wait_for("pong", ts=marker)
    assert peers.is_same_link()


@pytest.mark.parametrize("name", ["connect", "disconnect", "__proto__", ""])
def test_events_with_reserved_names_do_not_end_the_link(peers: Peers, name: str) -> None:
    """An event that is *named* connect or disconnect is no packet of that kind."""
    for argument in ("", ",{}", ",null", ',{"sid":"x"}'):
        peers.hub.raw(f'2/agents,["{name}"{argument}]')
    marker = int(time.time() * 1000) + next(NAMES)
    peers.hub.emit("ping", {"ts": marker})
    peers.hub.wait_for("pong", ts=marker)
    assert peers.is_same_link()


def test_oversized_shell_input_ends_its_session_alone(peers: Peers) -> None:
    session, other = peers.shell(), peers.shell()
    peers.type(session, "x" * 1_200_000)
    closed = peers.hub.wait_for("shell_closed", session=session).payload
    assert closed["reason"] == "too_large"
    peers.type(other, "echo alive $((40+2))\n")
    peers.hub.wait_for_output(other, "alive 42")
    peers.hub.emit("shell_close", {"session": other})
    assert peers.is_same_link()


def test_every_payload_names_its_event_and_nothing_foreign_is_sent(peers: Peers) -> None:
    """A foreign server gets nothing of 1.7; every payload has `type` and `t`."""
    for event in peers.hub.events():
        assert event.payload["type"] == event.payload["t"] == event.name
        if not peers.hub.speaks_features:
            assert not (FOREIGN_FIELDS & event.payload.keys()), event.payload
            assert event.name not in {"workers", "worker_result", "shell_gap", "admin_output"}
