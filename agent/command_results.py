"""What is answered to an `admin_run`: the codes that are ours, refusals, and a command's own end.

Pure. Source: contract 1.4.
"""

from __future__ import annotations

import hashlib

import msgspec

from wire.admin import OMITTED, AdminResult, AdminRun, Outcome, Summary
from workers.messages import Captured, CommandEnded

BAD_REQUEST = 2
TIMED_OUT = 124
OUR_FAILURE = 125
DENIED = 126
BAD_TOKEN = 401
RATE_LIMITED = 429


class Refusal(msgspec.Struct, frozen=True):
    """Why a command is not run: the code on the wire, the sentence for `stderr`."""

    code: int
    sentence: str
    error: str | None = None


def digest_of(message: AdminRun) -> str:
    """Return what tells two requests under one jobId apart; the token is not part of it."""
    return hashlib.sha256(msgspec.json.encode(message.cmd)).hexdigest()


def result_of(request: AdminRun, ended: CommandEnded) -> AdminResult:
    """Say how a command has ended."""
    stdout, stderr = _shown(ended.stdout), _shown(ended.stderr)
    cut = bool(ended.stdout.tail or ended.stderr.tail)
    return AdminResult(
        token=request.token,
        job_id=request.job_id,
        command=request.cmd.command,
        result=Outcome(
            stdout=stdout,
            stderr=stderr,
            error=ended.error,
            summary=Summary(
                code=ended.code,
                signal=ended.signal,
                duration_ms=ended.duration_ms,
                truncated=True if cut else None,
                stdout_bytes=ended.stdout.total_bytes,
                stderr_bytes=ended.stderr.total_bytes,
            ),
        ),
    )


def refused(request: AdminRun, refusal: Refusal, signal_number: int | None = None) -> AdminResult:
    """Say why a command was not run, or was lost."""
    return AdminResult(
        token=request.token,
        job_id=request.job_id,
        command=request.cmd.command,
        result=Outcome(
            stdout="",
            stderr=refusal.sentence,
            error=refusal.error,
            summary=Summary(code=refusal.code, signal=signal_number, duration_ms=0),
        ),
    )


def _shown(captured: Captured) -> str:
    head = captured.head.decode(errors="replace")
    if not captured.tail:
        return head
    return head + OMITTED + captured.tail.decode(errors="replace")
