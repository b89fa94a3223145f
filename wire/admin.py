"""Commands, run without a shell.

Rules: `token` is echoed and never a key; `jobId` is the key. `command`, `cwd` and `env` are any
strings, NUL included: the policy refuses them with 126 and a sentence. `admin_result` is final.

Source: contract 1.2, 1.4, 1.7.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from wire import features
from wire.fields import LISTED, Count, Grant, Id, Millis, Part, Payload, Seconds, Signal, Token

# Stands between the head and the tail of output that did not fit.
OMITTED = "\n[jackline: the middle of this output did not fit and is left out]\n"


class Command(Part, frozen=True, kw_only=True):
    """What to run; `timeout_sec` counts from the command's start."""

    command: str
    timeout_sec: Seconds | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None


# -- to the agent -------------------------------------------------------------------------------


class AdminRun(Payload, frozen=True, kw_only=True):
    """Run one command."""

    OURS: ClassVar = {"job_id": features.ACK}

    cmd: Command
    token: Token | None = None
    job_id: Id | None = None


class AdminCredit(Payload, frozen=True, kw_only=True):
    """So many more bytes of the job's raw output may be streamed."""

    job_id: Id
    bytes: Grant


# -- to the server ------------------------------------------------------------------------------


class Summary(Part, frozen=True, kw_only=True):
    """How it ended; the byte counts are of the whole streams, shortened or not."""

    code: int | None
    duration_ms: Millis
    signal: Signal | None = None
    truncated: bool | None = None
    stdout_bytes: Count | None = None
    stderr_bytes: Count | None = None


class Outcome(Part, frozen=True, kw_only=True):
    """Both streams, or their heads and tails, and how it ended."""

    stdout: str
    stderr: str
    summary: Summary
    error: str | None = None


class AdminResult(Payload, frozen=True, kw_only=True):
    """A command's end; `command` is the line that was asked for, "" if there was none."""

    OURS: ClassVar = {"job_id": features.ACK, "id": features.ACK, "detail": LISTED}

    command: str
    result: Outcome
    token: Token | None = None
    job_id: Id | None = None
    detail: str | None = None
    id: Id | None = None


class AdminOutput(Payload, frozen=True, kw_only=True):
    """A stretch of one stream, live; its `offset` counts that stream's own bytes."""

    job_id: Id
    stream: Literal["stdout", "stderr"]
    offset: Count
    data: str
    encoding: Literal["base64"] | None = None
