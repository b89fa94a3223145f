"""Admin commands: from `admin_run` to its one `admin_result`.

Rules: checks in the contract's order; a command is known by our own job id, by `jobId` where the
hub gives one (then it runs once, whatever is delivered again), never by its token; a place is
taken before a worker is asked for and given back once. Source: contract 1.4.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from agent.command_output import LiveOutput
from agent.command_results import (
    BAD_REQUEST,
    BAD_TOKEN,
    DENIED,
    OUR_FAILURE,
    RATE_LIMITED,
    TIMED_OUT,
    Refusal,
    digest_of,
    refused,
    result_of,
)
from agent.limits import Place, RateLimit, Slots, Waiting
from agent.log import Log
from agent.pool import Pool
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.admin import AdminCredit, AdminResult, AdminRun, Command
from wire.connect import JobState
from wire.limits import CREDIT_INITIAL_BYTES
from wire.reasons import BusyDetail, Reason
from workers.jobs import JobRecord, Spool
from workers.loop import Loop
from workers.messages import (
    STREAM_STDOUT,
    AdminSpec,
    CommandEnded,
    Credit,
    End,
    Hello,
    Linked,
    Result,
    ToAgent,
)

# What a command is answered whose worker never came to start it.
NOT_BEGUN = {"no_user": DENIED, BusyDetail.DISK_FULL: DENIED, BusyDetail.RESOURCES: OUR_FAILURE}
END_PATIENCE_S = 10.0


class Rules(Protocol):
    """What the machine's policy says of commands."""

    def token_refusal(self, token: str | None) -> Refusal | None:
        """Is the command token wrong?"""

    def lock_refusal(self) -> Refusal | None:
        """Is the kill switch on, or the disk full?"""

    def launch(self, command: Command) -> Refusal | tuple[AdminSpec, str | None]:
        """Parse, judge and complete the command: what to run, and as whom."""


class KnownResults(Protocol):
    """Results of the last seven days, by `jobId`."""

    def find(self, job_id: str) -> tuple[str, AdminResult] | None:
        """Return the digest of the request and its stored result."""


@dataclass(eq=False)
class Job:
    """One accepted command."""

    key: str  # jobId, or a name of our own
    request: AdminRun  # without a jobId where the hub has no `ack`
    digest: str
    worker: Worker | None = None
    place: Place | None = None
    waiting: Waiting | None = None
    done: bool = False
    live: LiveOutput | None = None  # told live, where the hub has `stream`


class Commands:
    """The family; see the module."""

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        uplink: Uplink,
        slots: Slots,
        rate: RateLimit,
        rules: Rules,
        known: KnownResults,
        log: Log,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._uplink = uplink
        self._slots = slots
        self._rate = rate
        self._rules = rules
        self._known = known
        self._log = log
        self._jobs: dict[str, Job] = {}
        self._by_worker: dict[str, Job] = {}

    def on_run(self, message: AdminRun) -> None:
        """Run a command, or answer why not."""
        if message.job_id is not None and features.ACK not in self._uplink.features:
            message = msgspec.structs.replace(message, job_id=None)
        why_not = self._rules.token_refusal(message.token)
        if why_not is None and message.job_id is not None and self._is_repeated(message):
            return
        why_not = why_not or self._rules.lock_refusal()
        if why_not is None and not self._rate.admits():
            why_not = Refusal(RATE_LIMITED, "too many commands: admin.rateLimitMax is reached")
        launched = why_not or self._rules.launch(message.cmd)
        if isinstance(launched, Refusal):
            self.refuse(message, launched)
            return
        spec, run_as = launched
        place = self._slots.take()
        if place is None and not self._slots.may_wait(_size(message.cmd)):
            sentence = "too many commands wait already (admin.maxConcurrent)"
            self.refuse(message, Refusal(RATE_LIMITED, sentence, Reason.BUSY))
            return
        self._queue(message, spec, run_as, place)

    def on_credit(self, message: AdminCredit) -> None:
        """The consumer takes more of a job's live output."""
        job = self._jobs.get(message.job_id)
        if job is not None and features.CREDIT in self._uplink.features:
            _grant(job, message.bytes)

    def on_drained(self, turn: str, cost: int) -> None:
        """That much of a job's live output has left our send queue."""
        if features.CREDIT in self._uplink.features:
            return
        job = next((j for j in self._jobs.values() if j.live and j.live.turn == turn), None)
        if job is not None:
            _grant(job, cost)

    def refuse(self, message: AdminRun, refusal: Refusal) -> None:
        """Answer a command that is not run; nor is it when its jobId is delivered again."""
        # A wrong token is nobody's: whoever guesses a jobId must not use it up.
        is_kept = message.job_id is not None and refusal.code != BAD_TOKEN
        self._uplink.final(
            refused(message, refusal),
            f"refused-{secrets.token_hex(8)}",
            digest=digest_of(message) if is_kept else None,
        )

    def refuse_for_rate(self, message: AdminRun) -> None:
        """Answer one of too many requests; a job that goes on is answered by its own result."""
        if message.job_id not in self._jobs:
            sentence = "too many requests on this link"
            self.refuse(message, Refusal(RATE_LIMITED, sentence, "rate_limited"))

    def refuse_malformed(self, ids: dict[str, str], detail: str) -> None:
        """Answer an `admin_run` that is none."""
        refusal = Refusal(BAD_REQUEST, f"bad request: {detail}", "bad_request")
        command = Command(command=ids.get("command", ""))
        request = AdminRun(token=ids.get("token"), job_id=ids.get("jobId"), cmd=command)
        self._uplink.final(refused(request, refusal), f"refused-{secrets.token_hex(8)}")

    def on_link_up(self) -> None:
        """Live output goes on, from here."""
        for job in self._jobs.values():
            if job.worker is not None:
                job.worker.send(Linked(up=self._is_heard))

    def on_link_down(self) -> None:
        """No live output; the pipes are drained all the same."""
        for job in self._jobs.values():
            if job.worker is not None:
                job.worker.send(Linked(up=False))

    def states(self) -> list[JobState]:
        """For the CONNECT packet."""
        return [
            JobState(id=job.key, kind="admin", state="running" if job.worker else "queued")
            for job in self._jobs.values()
            if not job.done
        ]

    def end(self, worker_id: str, reason: str) -> bool:
        """End a running command; it is not run again."""
        job = next((j for j in self._jobs.values() if j.worker and j.worker.id == worker_id), None)
        if job is None or job.worker is None or job.done:
            return False
        worker = job.worker
        worker.send(End(reason=reason))
        self._loop.call_later(END_PATIENCE_S, lambda: _insist(worker, reason))
        return True

    def end_all(self, reason: str) -> None:
        """End what runs, and answer what waits in line."""
        for job in list(self._jobs.values()):
            if job.waiting is not None:
                job.waiting.cancel()
                refusal = Refusal(OUR_FAILURE, "the agent was stopped before its turn came", reason)
                self._finish(job, refused(job.request, refusal))
            elif job.worker is not None:
                self.end(job.worker.id, reason)

    def adopt(self, worker: Worker, record: JobRecord) -> None:
        """Go on with a command of an earlier agent."""
        job = self._job_of(record)
        job.worker, job.place = worker, self._slots.force()
        self._jobs[job.key] = self._by_worker[record.job_id] = job

    def recover(
        self, record: JobRecord, spool: Spool | None, on_stored: Callable[[], object]
    ) -> None:
        """Report a command whose worker did not outlive the agent's absence."""
        job = self._job_of(record)
        if spool is not None and isinstance(spool.result, CommandEnded):
            result = result_of(job.request, spool.result)
        else:
            sentence = "the endpoint was restarted while this command ran: outcome unknown"
            result = refused(job.request, Refusal(OUR_FAILURE, sentence, "unknown_outcome"))
        job.done = True
        self._jobs[job.key] = job  # until it is stored, a hub that asks again would run it again

        def stored() -> None:
            self._jobs.pop(job.key, None)
            on_stored()

        self._uplink.final(result, record.job_id, on_stored=stored, digest=job.digest)

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """Tell an adopted worker whether anybody listens."""
        if hello.started:
            worker.send(Linked(up=self._is_heard))

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """Live output."""
        job = self._by_worker.get(worker.record.job_id)
        if job is not None and job.live is not None:
            job.live.take(stream, offset, data)

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """Nothing a command says is for the wire, save its output and its end."""

    def on_finished(self, worker: Worker, result: Result) -> None:
        """The command has ended."""
        job = self._by_worker.get(worker.record.job_id)
        if job is None or not isinstance(result, CommandEnded):
            self._pool.release(worker)
            return
        self._finish(job, result_of(job.request, result))

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead, and the command with it."""
        job = self._by_worker.get(worker.record.job_id)
        if job is None:
            return
        never_begun = NOT_BEGUN.get(gone.reason)
        signal_number = gone.signal if never_begun is None else None
        code = never_begun or (128 + signal_number if signal_number else OUR_FAILURE)
        what = "lost its worker" if never_begun is None else "was not begun"
        sentence = f"the command {what}: {gone.reason}"
        if gone.detail:
            sentence += f" ({gone.detail})"
        refusal = Refusal(code, sentence, gone.reason)
        self._finish(job, refused(job.request, refusal, signal_number))

    def _is_repeated(self, message: AdminRun) -> bool:
        """The same jobId again: the same answer again, or none yet; never a second run."""
        assert message.job_id is not None
        digest = digest_of(message)
        running = self._jobs.get(message.job_id)
        known = self._known.find(message.job_id) if running is None else None
        if running is None and known is None:
            return False
        earlier = running.digest if running is not None else known[0] if known else ""
        if not hmac.compare_digest(earlier, digest):
            sentence = "this jobId was used for another command"
            result = refused(message, Refusal(BAD_REQUEST, sentence, "id_reused"))
            self._uplink.final(result, f"reused-{secrets.token_hex(8)}")
        elif known is not None:
            self._uplink.final(known[1], f"again-{secrets.token_hex(8)}")
        return True

    def _queue(
        self, message: AdminRun, spec: AdminSpec, run_as: str | None, place: Place | None
    ) -> None:
        key = message.job_id or f"local-{secrets.token_hex(8)}"
        job = self._jobs[key] = Job(key, message, digest_of(message))
        if message.job_id is not None and self._is_heard:
            job.live = LiveOutput(self._uplink, key)
        if place is not None:
            self._start(job, spec, run_as, place)
            return
        job.waiting = self._slots.wait(
            spec.timeout_s,
            lambda place: self._start_late(job, spec, run_as, place),
            lambda: self._time_out(job),
            _size(message.cmd),
        )

    def _start_late(self, job: Job, spec: AdminSpec, run_as: str | None, place: Place) -> None:
        """Its turn has come; the machine may have been paused while it waited."""
        job.waiting = None
        refusal = self._rules.lock_refusal()
        if refusal is None:
            self._start(job, spec, run_as, place)
        else:
            place.release()
            self._finish(job, refused(job.request, refusal))

    def _time_out(self, job: Job) -> None:
        sentence = "no place came free within the command's own timeout (admin.maxConcurrent)"
        refusal = Refusal(TIMED_OUT, sentence, "queue timeout")
        self._finish(job, refused(job.request, refusal))

    def _start(self, job: Job, spec: AdminSpec, run_as: str | None, place: Place) -> None:
        job.place = place
        spec = msgspec.structs.replace(spec, stream=job.live is not None)
        wire: dict[str, Any] = {
            "request": msgspec.to_builtins(job.request),
            "digest": job.digest,
        }
        job.worker = self._pool.spawn(
            "admin", job.key, spec, self, wire, run_as=run_as, lease_s=spec.timeout_s + 10.0
        )
        self._by_worker[job.worker.record.job_id] = job
        if job.live is not None:
            _grant(job, CREDIT_INITIAL_BYTES)
            if not self._is_heard:
                job.worker.send(Linked(up=False))

    def _finish(self, job: Job, result: AdminResult) -> None:
        """The one end of every accepted command."""
        if job.done:
            return
        job.done = True
        if job.place is not None:
            job.place.release()
        if job.live is not None:
            job.live.end()
        worker = job.worker

        def stored() -> None:
            if worker is not None:
                if worker.state == "EXITED":
                    self._pool.drop_record(worker.record.job_id)
                else:
                    self._pool.release(worker)
                self._by_worker.pop(worker.record.job_id, None)
            self._jobs.pop(job.key, None)

        key = worker.record.job_id if worker is not None else job.key
        after = job.live.turn if job.live is not None else None
        self._uplink.final(result, key, after=after, on_stored=stored, digest=job.digest)

    def _job_of(self, record: JobRecord) -> Job:
        request = msgspec.convert(record.wire["request"], AdminRun)
        job = Job(record.key, request, str(record.wire.get("digest", "")))
        if request.job_id is not None:
            job.live = LiveOutput(self._uplink, record.key)
        return job

    @property
    def _is_heard(self) -> bool:
        """Is there a hub that takes live output?"""
        return self._uplink.is_up and features.STREAM in self._uplink.features


def _size(command: Command) -> int:
    """What a command holds in memory, about."""
    env = command.env or {}
    return len(command.command) + sum(len(name) + len(value) for name, value in env.items())


def _insist(worker: Worker, reason: str) -> None:
    if worker.result is None:
        worker.kill(Gone(reason=reason))


def _grant(job: Job, count: int) -> None:
    if job.worker is not None:
        job.worker.send(Credit(bytes=count, stream=STREAM_STDOUT))
