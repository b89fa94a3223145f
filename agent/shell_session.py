"""One session as the agent knows it: whose it is, and how far its output has got.

Rules: offsets count the raw bytes of the terminal. After a replay was asked for, frames of before
it may still be under way; only what continues the output is taken, so that no byte is lost, doubled
or out of its place. Source: contract 1.3, 1.7 `resume`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.limits import Place
from agent.stream_text import StreamText
from agent.worker import Gone, Worker
from wire.reasons import BusyDetail, Reason
from wire.shell import ShellClosed
from workers.jobs import JobRecord
from workers.loop import Timer
from workers.messages import ShellEnded, ShellSpec


@dataclass(eq=False)
class Session:
    """One accepted session."""

    key: str
    spec: ShellSpec
    run_as: str | None
    place: Place
    worker: Worker
    text: StreamText
    ended: ShellEnded | None = None
    finished: bool = False  # the final is with the outbox
    flowing: bool = False  # its output may go out on this link
    drained: int = 0  # offset below which everything has left us
    acked: int = 0  # offset below which the hub has everything
    seen: int = 0  # offset below which the output is known to exist
    granted: int = 0  # offset up to which its worker has had leave to print
    restarting: bool = False
    resume_timer: Timer | None = field(default=None, repr=False)

    def fresh(self, offset: int, data: bytes) -> bytes:
        """Return what of a frame continues the output; nothing, where it does not."""
        skip = self.text.fed - offset
        if skip != 0:
            data = data[skip:] if 0 < skip < len(data) else b""
        self.seen = max(self.seen, self.text.fed + len(data))
        return data

    def grant_to(self, offset: int) -> None:
        """Its worker may print up to `offset`; leave that it had before still counts."""
        self.granted = max(self.granted, offset)

    def is_allowed(self, data: bytes) -> bool:
        """Has the worker had leave for what continues the output?"""
        return not data or self.text.fed + len(data) <= self.granted

    def bypasses(self, start: int, end: int) -> bool:
        """Does a gap of the worker's belong to the output as it stands now?"""
        return start <= self.text.fed < end

    def may_close(self) -> bool:
        """Is everything that the final must follow said?"""
        if self.ended is None or self.finished or self.restarting or not self.flowing:
            return False
        return self.text.fed >= self.ended.offset

    def renewed_spec(self, first_offset: int, notice: bytes) -> ShellSpec:
        """Return what a new terminal of this session is started with."""
        return ShellSpec(
            argv=self.spec.argv,
            env=self.spec.env,
            cwd=self.spec.cwd,
            cols=self.spec.cols,
            rows=self.spec.rows,
            first_offset=first_offset,
            notice=notice,
        )


def closed(key: str, ended: ShellEnded) -> ShellClosed:
    """Say how a terminal has ended."""
    return ShellClosed(
        session=key,
        code=ended.code,
        signal=ended.signal,
        reason=ended.reason,
        detail=ended.detail,
    )


def lost(key: str, gone: Gone) -> ShellClosed:
    """Say how a session's worker was lost."""
    reason, detail = gone.reason, gone.detail
    if reason in (BusyDetail.DISK_FULL, BusyDetail.RESOURCES):
        # Never begun: that we killed the waiting worker is nobody's concern.
        return ShellClosed(session=key, reason=Reason.BUSY, detail=reason)
    if reason == "no_user":
        reason = Reason.DISABLED
    return ShellClosed(
        session=key, signal=gone.signal, code=gone.code, reason=reason, detail=detail
    )


def spec_of(record: JobRecord) -> ShellSpec:
    """Return what a session of an earlier agent was started with."""
    wire = record.wire
    return ShellSpec(
        argv=list(wire.get("argv", ["/bin/sh"])),
        env=dict(wire.get("env", {})),
        cwd=str(wire.get("cwd", "/")),
    )
