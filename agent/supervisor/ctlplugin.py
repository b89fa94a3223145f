"""`supervisorctl worker list|show|restart|stop`: a plugin for supervisorctl.

One file without a dependency, because supervisorctl may run under another interpreter than ours,
and a plugin that cannot be imported breaks every one of its commands: the standard library alone,
nothing of our houses, nothing of supervisor, any Python from 3.7 on. Its path
on an endpoint that `install.sh` made is `/opt/jackline/supervisor/agent/supervisor/ctlplugin.py`;
put `/opt/jackline/supervisor` on that interpreter's path, in PYTHONPATH or a `.pth` file.

It asks the agent over its control socket: `control_socket` of `[ctlplugin:worker]`, else below
`JACKLINE_RUN_DIR`, else /run/jackline. The protocol is `agent/control.py`'s.
Source: architecture "supervisord"; supervisor's own `supervisor.ctl_factory`.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

DEFAULT_RUN_DIR = "/run/jackline"
TIMEOUT_S = 60.0
COLUMNS = ("id", "kind", "state", "pid", "job", "memory_bytes", "beat_ago_s")
USAGE = (
    "worker list\t\t\tList the agent's workers",
    "worker show <id|kind|all>\tShow all that is known of workers",
    "worker restart <id|kind|all>\tRestart workers",
    "worker stop <id|kind|all>\tEnd workers and their jobs",
)
# LSB codes, as supervisorctl itself uses them (supervisor.supervisorctl.LSBInitExitStatuses).
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 7


class RequestError(Exception):
    """The agent refused, or there is none; the message is for the person who asked."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


class WorkerPlugin:
    """What supervisorctl calls: `do_worker`, `help_worker`, `do_help`."""

    name = "worker"

    def __init__(self, ctl: Any, control_socket: str | None = None, **unknown: str) -> None:
        del unknown  # a key of a newer file than this one must not break supervisorctl
        run_dir = os.environ.get("JACKLINE_RUN_DIR") or DEFAULT_RUN_DIR
        self.ctl = ctl
        self.path = control_socket or os.path.join(run_dir, "control.sock")

    def do_worker(self, line: str) -> None:
        """Carry out one command line."""
        words = shlex.split(line or "")
        verb = words[0] if words else "list"
        if verb not in ("list", "show", "restart", "stop") or len(words) > 2:
            self.help_worker()
            self._fail(EXIT_USAGE)
            return
        if verb in ("restart", "stop") and len(words) != 2:
            self.help_worker()
            self._fail(EXIT_USAGE)
            return
        target = words[1] if len(words) == 2 else "all"
        try:
            if verb in ("list", "show"):
                self._look(target, in_full=verb == "show")
            else:
                self._act(verb, target)
        except RequestError as error:
            self._say(f"ERROR ({error})")
            self._fail(error.code)

    def help_worker(self) -> None:
        """Say what can be asked."""
        for usage in USAGE:
            self._say(usage)

    def do_help(self, topic: str) -> None:
        """Join in `help`; `help worker` is answered by `help_worker` alone."""
        topic = (topic or "").strip()
        if topic == "worker":
            self.help_worker()
        elif not topic:
            self._say("\nplugin commands (type help worker)\n=====================================")
            self._say("worker\n")

    def _look(self, target: str, *, in_full: bool) -> None:
        workers = [one for one in self._ask("workers").get("workers", []) if _is(one, target)]
        if not workers and target != "all":
            raise RequestError(f"no worker is called {target}")
        if not workers:
            self._say("no workers")
        elif in_full:
            for worker in workers:
                for key in sorted(worker):
                    self._say(f"{key:<16} {_text(worker[key])}")
                self._say("")
        else:
            for line in _table(workers):
                self._say(line)

    def _act(self, verb: str, target: str) -> None:
        for result in self._ask("worker_" + verb, target=target).get("results", []):
            done = {"restart": "restarted", "stop": "stopped"}[verb]
            if verb == "restart" and not result.get("again", True):
                done = "ended; it is not run again"
            worker = _text(result.get("id"))
            if result.get("ok"):
                self._say(f"{worker}: {done}")
            else:
                self._say(f"{worker}: ERROR ({_text(result.get('error'))})")
                self._fail(EXIT_FAILED)

    def _ask(self, request: str, **fields: str) -> dict[str, Any]:
        if sys.platform == "win32":
            raise RequestError("supervisor does not run on Windows")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(TIMEOUT_S)
            connection.connect(self.path)
            connection.sendall(json.dumps(dict(fields, do=request)).encode() + b"\n")
            answer: dict[str, Any] = json.loads(_read_line(connection).decode())
        except PermissionError:
            raise RequestError(f"not permitted to ask the agent at {self.path}") from None
        except (OSError, ValueError) as error:
            text = f"no agent answers at {self.path}: {error}"
            raise RequestError(text, EXIT_NOT_RUNNING) from None
        finally:
            connection.close()
        if not answer.get("ok"):
            raise RequestError(str(answer.get("message") or answer.get("error")))
        return answer

    def _say(self, text: str) -> None:
        self.ctl.output(text)

    def _fail(self, code: int) -> None:
        self.ctl.exitstatus = code  # supervisor 4 and later; an older one never looks


def make_worker_plugin(ctl: Any, **config: str) -> WorkerPlugin:
    """Return the plugin; `supervisor.ctl_factory` names this function."""
    return WorkerPlugin(ctl, **config)


def _read_line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        data = connection.recv(65536)
        if not data:
            break
        received += data
    return received


def _is(worker: Mapping[str, Any], target: str) -> bool:
    return target in ("all", worker.get("id"), worker.get("kind"))


def _table(workers: list[dict[str, Any]]) -> Iterator[str]:
    rows = [[name.upper() for name in COLUMNS]]
    rows += [[_text(worker.get(name)) for name in COLUMNS] for worker in workers]
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths))  # noqa: B905  # older than strict=.rstrip()


def _text(value: Any) -> str:
    """A value as one printable line: what a job is called must not drive the terminal."""
    if value is None:
        return "-"
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return "".join(sign if sign.isprintable() else "?" for sign in text)
