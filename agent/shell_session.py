"""One session as the agent knows it, and what is said of its end. Source: contract 1.3."""

from __future__ import annotations

from dataclasses import dataclass

from agent.limits import Place
from agent.shell_flow import Flow
from agent.worker import Gone, Worker
from wire.reasons import BusyDetail, Reason
from wire.shell import ShellClosed
from workers.jobs import JobRecord
from workers.messages import ShellEnded, ShellSpec


@dataclass(eq=False)
class Session:
    """One accepted session."""

    key: str
    spec: ShellSpec
    run_as: str | None
    place: Place
    flow: Flow
    ended: ShellEnded | None = None
    finished: bool = False  # the final is with the outbox
    restarting: bool = False

    @property
    def worker(self) -> Worker:
        """Whose output it is now."""
        return self.flow.worker

    def may_close(self) -> bool:
        """Is everything that the final must follow said?"""
        if self.ended is None or self.finished or self.restarting or not self.flow.is_on:
            return False
        return self.flow.fed >= self.ended.offset

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


def insist(worker: Worker, reason: str) -> None:
    """A worker that hangs does not obey."""
    if worker.result is None:
        worker.kill(Gone(reason=reason))
