"""Planted secrets through a whole session: found nowhere but where the owner put them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.doubles.agent_process import AgentProcess
from tests.doubles.hubs import HubOptions, ScriptedHub
from tests.doubles.pair import Pair

KEY = 'canary+key/=with odd "characters" 1f0b7d'
TOKEN = "canary-token-77c2e9"
CANARIES = (b"canary+key", b"canary%2Bkey", b"canary-token", b"1f0b7d", b"77c2e9")


def found_in(data: bytes) -> list[bytes]:
    return [canary for canary in CANARIES if canary in data]


def descendants(pid: int) -> Iterator[int]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                yield int(name)
                yield from descendants(int(name))


def processes(agent: AgentProcess) -> set[int]:
    """The agent, its zygote and whatever they started."""
    zygote = agent.ask("status")["zygote_pid"]
    return {agent.pid, zygote, *descendants(agent.pid), *descendants(zygote)}


def mixed_work(pair: Pair) -> None:
    """Every family, well and badly, with the secrets at hand."""
    hub, agent = pair.hub, pair.agent
    for token in (TOKEN, TOKEN + "x", None):
        for command in ("env", "sh -c 'cat /proc/$PPID/environ'", "true; id", "no-such-program"):
            mark = hub.record.mark()
            hub.emit("admin_run", {"token": token, "cmd": {"command": command}})
            hub.wait_for("admin_result", since=mark)
    hub.emit("admin_run", {"token": TOKEN, "cmd": {"command": 7}})
    hub.emit("admin_run", {"token": TOKEN, "cmd": TOKEN})
    hub.emit("shell_start", {"session": 7, "reason": TOKEN, "data": KEY})
    hub.emit(TOKEN, {"data": KEY})
    hub.emit("sync_keys", {"user": "octocat"})
    request = {"clientId": "agent-1", "requestId": "r", "mode": "local", "path": "/no/such"}
    hub.emit("dir_list_request", request)
    hub.emit("log_tail_start", {"session": "tail", "lines": 200})
    hub.wait_for("log_tail_output", session="tail")
    hub.wait_for("keys_sync_result")
    session = pair.shell()
    pair.type(session, "env; tr '\\0' '\\n' < /proc/$PPID/environ; echo d''one\n")
    hub.wait_for_output(session, "done\r\n")
    pair.reconnected()
    agent.until(lambda: agent.ask("status")["link"]["state"] == "up")
    hub.emit("shell_resume", {"session": session, "offset": 0})


def test_secrets_are_in_no_argument_environment_log_answer_or_bundle(tmp_path: Path) -> None:
    options = HubOptions(ping_every_ms=0, tokens={"agent-1": KEY})
    with ScriptedHub(options) as hub:
        admin = {
            "enableShell": True,
            "allowedCommands": ["*"],
            "maxConcurrent": 4,
            "requireToken": True,
        }
        config = {"statsIntervalSec": 1, "logging": {"level": "debug"}}
        keys = {"baseUrl": "http://127.0.0.1:1"}
        agent = AgentProcess(hub.url, {**config, "admin": admin, "keys": keys})
        # One comes from the environment, the other from a file: both as a container would have it.
        del agent.config["authToken"]
        secret_file = tmp_path / "token"
        secret_file.write_text(TOKEN + "\n")
        secret_file.chmod(0o600)
        agent.env["AUTH_TOKEN"] = KEY
        agent.env["JACKLINE_ADMIN_COMMAND_TOKEN_FILE"] = str(secret_file)
        try:
            agent.start()
            hub.wait_for("stats")
            pair = Pair(hub, agent)
            mixed_work(pair)

            seen = processes(agent)
            assert len(seen) >= 5  # agent, zygote, telemetry, tail, shell and its bash
            for pid in seen:
                for name in ("cmdline", "environ"):
                    given_by_us = name == "cmdline" or pid != agent.pid
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        data = Path(f"/proc/{pid}/{name}").read_bytes()
                        assert not (given_by_us and found_in(data)), (pid, name)

            for words in (
                ("status", "--json"),
                ("worker", "show", "--json"),
                ("outbox", "ls", "--json"),
                ("logs", "-n", "5000"),
                ("config", "show", "--origin"),
                ("config", "show", "--json"),
                ("config", "check"),
                ("policy", "show", "--all", "--json"),
                ("doctor", "--json"),
            ):
                ran = agent.command(*words)
                assert ran.stdout, words
                assert not found_in((ran.stdout + ran.stderr).encode()), words
            bundle = tmp_path / "bundle.tar.gz"
            agent.command("doctor", "--bundle", str(bundle))
            assert not found_in(gzip.decompress(bundle.read_bytes()))

            for event in hub.events():
                echoed = {k: v for k, v in event.payload.items() if k != "token"}
                assert not found_in(json.dumps(echoed).encode()), event.name
        finally:
            agent.command("stop")
            log = (agent.root / "log" / "agent.log").read_bytes()
            stderr = (agent.root / "stderr").read_bytes()
            agent.close()
        assert b'"level":"debug"' in log
        assert not found_in(log) and not found_in(stderr)
