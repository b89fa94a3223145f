"""Ask a running agent something over its control socket.

Rules: the standard library's light end alone, because `status` must answer in 150 ms; every call
is bounded in time. The protocol is `agent/control.py`'s.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent import dirs
from agent.errors import ControlError, NoAgentError, SilentAgentError

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024


def ask(
    request: str,
    *,
    timeout_s: float = TIMEOUT_S,
    environ: Mapping[str, str] = os.environ,
    **fields: Any,
) -> dict[str, Any]:
    """Ask this machine's agent.

    Args:
        request: the name of the request, such as `status`.
        timeout_s: how long to wait for the whole answer.
        environ: says where the run directory is.
        fields: the request's arguments.

    Returns:
        The answer's fields.

    Raises:
        NoAgentError: nobody answers; SilentAgentError where somebody should.
        ControlError: the agent refused; `code` says why.
    """
    tried: list[str] = []
    for path in dirs.control_sockets(environ):
        try:
            return ask_at(path, request, timeout_s=timeout_s, **fields)
        except SilentAgentError:
            raise
        except NoAgentError as e:
            tried.append(str(e))
    raise NoAgentError("; ".join(tried))


def ask_at(
    path: Path, request: str, *, timeout_s: float = TIMEOUT_S, **fields: Any
) -> dict[str, Any]:
    """Ask the agent that listens at `path`; see `ask`."""
    line = json.dumps({**fields, "do": request}).encode() + b"\n"
    with _connect(path, timeout_s) as connection:
        try:
            connection.sendall(line)
            answer = json.loads(_read_line(connection))
        except TimeoutError as e:
            raise SilentAgentError(_silent(path, connection)) from e
        except OSError as e:
            raise NoAgentError(f"{path}: {e.strerror or e}") from e
        except ValueError as e:
            raise NoAgentError(f"{path}: what answers is no agent") from e
    if not isinstance(answer, dict):
        raise NoAgentError(f"{path}: what answers is no agent")
    if answer.pop("ok", False) is not True:
        raise ControlError(str(answer.get("error")), str(answer.get("message")))
    return answer


def _connect(path: Path, timeout_s: float) -> socket.socket:
    if sys.platform == "win32":
        raise NoAgentError("the control socket needs Unix sockets, which Python lacks here")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(str(path))
    except PermissionError as e:
        connection.close()
        raise ControlError("not_permitted", f"{path}: not permitted; try as root") from e
    except OSError as e:
        connection.close()
        raise NoAgentError(f"no agent runs here ({path})") from e
    return connection


def _silent(path: Path, connection: socket.socket) -> str:
    """Name the process that listens, for whoever has to end it."""
    if sys.platform != "linux":
        return f"{path}: the agent does not answer"
    pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return (
        f"{path}: the agent (pid {pid}) does not answer; if it stays like that, `kill -9 {pid}`: "
        "its jobs go on, and its supervisor starts another"
    )


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        data = connection.recv(1 << 16)
        if not data:
            break
        received += data
        if len(received) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too large")
    return bytes(received)
