"""What may be asked of a command, and how it becomes a job and a message.

Rules: every request has a time-out, ours where the caller gave none, so that every job has a
deadline. An agent with `ack` knows its command by `jobId`; a foreign one echoes `token`, so the
job's id goes there, unless the machine demands a command token of its own: that one is sealed in
the row, is never shown, and the answer is found by the command, oldest first.
Source: contract 1.4.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hub.jobs.kinds import Features
from hub.jobs.models import Job
from hub.jobs.service import EXPIRES_IN_S, MAX_EXPIRES_IN_S, Order, WhenOffline
from hub.keyring import Keyring
from wire import features as feature_names
from wire.admin import AdminRun, Command
from wire.limits import MAX_TOKEN_CHARS

TIMEOUT_S = 300.0
MAX_TIMEOUT_S = 7 * 24 * 3600.0
MAX_COMMAND_CHARS = 200_000
TOLD_CHARS = 512
SEALED = "token_sealed"
_OWNER = "command-token"

Text = Annotated[str, Field(min_length=1, max_length=4096)]
EnvName = Annotated[str, Field(min_length=1, max_length=128)]
EnvValue = Annotated[str, Field(max_length=8192)]


class Timing(BaseModel):
    """What every job may be told about machines that are not linked; seconds."""

    model_config = ConfigDict(extra="forbid")

    when_offline: WhenOffline = "queue"
    expires_in: Annotated[int, Field(ge=1, le=MAX_EXPIRES_IN_S)] = EXPIRES_IN_S


class AdminIn(Timing):
    """A command. `token` is the machine's own command token, where it demands one."""

    command: Annotated[str, Field(min_length=1, max_length=MAX_COMMAND_CHARS)]
    timeout_sec: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] = TIMEOUT_S
    cwd: Text | None = None
    env: Annotated[dict[EnvName, EnvValue], Field(max_length=64)] | None = None
    token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARS)] | None = None


def order_of(
    keyring: Keyring, asked: AdminIn, *, batch_id: str | None = None, key: str | None = None
) -> Order:
    """Make an order of a request."""
    request: dict[str, Any] = {"command": asked.command, "timeout_sec": asked.timeout_sec}
    if asked.cwd is not None:
        request["cwd"] = asked.cwd
    if asked.env:
        request["env"] = asked.env
    if asked.token is not None:
        request[SEALED] = keyring.seal(asked.token, _OWNER)
    return Order(
        request=request,
        timeout_s=asked.timeout_sec,
        when_offline=asked.when_offline,
        expires_in_s=asked.expires_in,
        batch_id=batch_id,
        idempotency_key=key,
    )


def run_of(keyring: Keyring, job: Job, features: Features) -> AdminRun:
    """Make the message of a job."""
    request = job.request
    token = None
    if SEALED in request:
        token = keyring.unseal(request[SEALED], _OWNER)
    elif feature_names.ACK not in (features or ()):
        token = job.id
    command = Command(
        command=request["command"],
        timeout_sec=request.get("timeout_sec"),
        cwd=request.get("cwd"),
        env=request.get("env"),
    )
    return AdminRun(cmd=command, token=token, job_id=job.id)


def told(request: dict[str, Any]) -> dict[str, Any]:
    """Say in the audit log what was asked for; of the environment only the names."""
    said: dict[str, Any] = {"command": request["command"][:TOLD_CHARS]}
    if "cwd" in request:
        said["cwd"] = request["cwd"]
    if "env" in request:
        said["env"] = sorted(request["env"])
    return said
