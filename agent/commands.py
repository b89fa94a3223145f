"""Admin commands: from `admin_run` to its one `admin_result`.

Rules: checks in the contract's order; a command is known by our own job id, by `jobId` where the
hub gives one (then it runs once, whatever is delivered again), never by its token; a place is
taken before a worker is asked for and given back once. Source: contract 1.4.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec
import xxhash

from agent.limits import Place, RateLimit, Slots, Waiting
from agent.log import Log
from agent.pool import Pool
from agent.stream_text import StreamText
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.admin import (
    OMITTED,
    AdminCredit,
    AdminOutput,
    AdminResult,
    AdminRun,
    Command,
    Outcome,
    Summary,
)
from wire.connect import JobState
from wire.limits import CREDIT_INITIAL_BYTES
from workers.jobs import JobRecord, Spool
from workers.loop import Loop
from workers.messages import (
    STREAM_STDOUT,
    AdminSpec,
    Captured,
    CommandEnded,
    Credit,
    End,
    Hello,
    Linked,
    Result,
    ToAgent,
)

BAD_REQUEST = 2
TIMED_OUT = 124
OUR_FAILURE = 125
DENIED = 126
BAD_TOKEN = 401
RATE_LIMITED = 429
END_PATIENCE_S = 10.0

STREAMS: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}


class Refusal(msgspec.Struct, frozen=True):
    """Why a command is not run: the code on the wire, the sentence for `stderr`."""

    code: int
    sentence: str
    error: str | None = None


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
    request: AdminRun
    digest: str
    worker: Worker | None = None
    place: Place | None = None
    waiting: Waiting | None = None
    done: bool = False
    streams: dict[int, StreamText] = field(default_factory=dict)


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
        refused = self._rules.token_refusal(message.token)
        if refused is None and message.job_id is not None and self._is_repeated(message):
            return
        refused = refused or self._rules.lock_refusal()
        if refused is None and not self._rate.admits():
            refused = Refusal(RATE_LIMITED, "too many commands: admin.rateLimitMax is reached")
        launched = refused or self._rules.launch(message.cmd)
        if isinstance(launched, Refusal):
            self.refuse(message, launched)
            return
        spec, run_as = launched
        self._queue(message, spec, run_as)

    def on_credit(self, message: AdminCredit) -> None:
        """The consumer takes more of a job's live output."""
        job = self._jobs.get(message.job_id)
        if job is not None and job.worker is not None:
            job.worker.send(Credit(bytes=message.bytes, stream=STREAM_STDOUT))

    def refuse(self, message: AdminRun, refusal: Refusal) -> None:
        """Answer a command that is not run."""
        self._answer(
            message.token,
            message.job_id,
            message.cmd.command,
            refusal,
        )

    def refuse_malformed(self, ids: dict[str, str], detail: str) -> None:
        """Answer an `admin_run` that is none."""
        refusal = Refusal(BAD_REQUEST, f"bad request: {detail}", "bad_request")
        self._answer(ids.get("token"), ids.get("jobId"), ids.get("command", ""), refusal)

    def on_link_up(self) -> None:
        """Live output goes on, from here."""
        for job in self._jobs.values():
            if job.worker is not None:
                job.worker.send(Linked(up=True))

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
                self._finish(job, _refused(job.request, refusal))
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
            result = _result(job.request, spool.result)
        else:
            sentence = "the endpoint was restarted while this command ran: outcome unknown"
            result = _refused(job.request, Refusal(OUR_FAILURE, sentence, "unknown_outcome"))
        self._uplink.final(result, record.job_id, on_stored=on_stored, digest=job.digest)

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """Tell an adopted worker whether anybody listens."""
        if hello.started:
            worker.send(Linked(up=self._uplink.is_up))

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """Live output."""
        job = self._by_worker.get(worker.record.job_id)
        name = STREAMS.get(stream)
        if job is None or name is None or features.STREAM not in self._uplink.features:
            return
        text = job.streams.get(stream)
        if text is None or text.fed != offset:
            text = job.streams[stream] = StreamText(offset, as_base64=True)
        for piece in text.pieces(data, self._uplink.event_limit):
            event = AdminOutput(
                job_id=job.key,
                stream=name,
                offset=piece.offset,
                data=piece.data,
                encoding=piece.encoding,
            )
            self._uplink.data(job.key, event, piece.cost)

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """Nothing a command says is for the wire, save its output and its end."""

    def on_finished(self, worker: Worker, result: Result) -> None:
        """The command has ended."""
        job = self._by_worker.get(worker.record.job_id)
        if job is None or not isinstance(result, CommandEnded):
            self._pool.release(worker)
            return
        self._flush(job)
        self._finish(job, _result(job.request, result))

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead, and the command with it."""
        job = self._by_worker.get(worker.record.job_id)
        if job is None:
            return
        code = 128 + gone.signal if gone.signal else OUR_FAILURE
        if gone.reason == "no_user":
            code = DENIED
        sentence = f"the command's worker was lost: {gone.reason}"
        if gone.detail:
            sentence += f" ({gone.detail})"
        refusal = Refusal(code, sentence, gone.reason)
        self._finish(job, _refused(job.request, refusal, gone.signal))

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
            result = _refused(message, Refusal(BAD_REQUEST, sentence, "id_reused"))
            self._uplink.final(result, f"reused-{secrets.token_hex(8)}")
        elif known is not None:
            self._uplink.final(known[1], f"again-{secrets.token_hex(8)}")
        return True

    def _queue(self, message: AdminRun, spec: AdminSpec, run_as: str | None) -> None:
        key = message.job_id or f"local-{secrets.token_hex(8)}"
        job = self._jobs[key] = Job(key, message, digest_of(message))
        place = self._slots.take()
        if place is not None:
            self._start(job, spec, run_as, place)
            return
        job.waiting = self._slots.wait(
            spec.timeout_s,
            lambda place: self._start(job, spec, run_as, place),
            lambda: self._time_out(job),
        )

    def _time_out(self, job: Job) -> None:
        sentence = "no place came free within the command's own timeout (admin.maxConcurrent)"
        refusal = Refusal(TIMED_OUT, sentence, "queue timeout")
        self._finish(job, _refused(job.request, refusal))

    def _start(self, job: Job, spec: AdminSpec, run_as: str | None, place: Place) -> None:
        job.waiting, job.place = None, place
        streams = job.request.job_id is not None and features.STREAM in self._uplink.features
        spec = msgspec.structs.replace(spec, stream=streams)
        wire: dict[str, Any] = {
            "request": msgspec.to_builtins(job.request),
            "digest": job.digest,
        }
        job.worker = self._pool.spawn(
            "admin", job.key, spec, self, wire, run_as=run_as, lease_s=spec.timeout_s + 10.0
        )
        self._by_worker[job.worker.record.job_id] = job
        if streams:
            job.worker.send(Credit(bytes=CREDIT_INITIAL_BYTES, stream=STREAM_STDOUT))

    def _flush(self, job: Job) -> None:
        for stream, text in job.streams.items():
            for piece in text.pieces(b"", self._uplink.event_limit, is_last=True):
                event = AdminOutput(
                    job_id=job.key,
                    stream=STREAMS[stream],
                    offset=piece.offset,
                    data=piece.data,
                    encoding=piece.encoding,
                )
                self._uplink.data(job.key, event, piece.cost)

    def _finish(self, job: Job, result: AdminResult) -> None:
        """The one end of every accepted command."""
        if job.done:
            return
        job.done = True
        if job.place is not None:
            job.place.release()
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
        self._uplink.final(result, key, after=job.key, on_stored=stored, digest=job.digest)

    def _answer(
        self, token: str | None, job_id: str | None, command: str, refusal: Refusal
    ) -> None:
        request = AdminRun(token=token, job_id=job_id, cmd=Command(command=command))
        self._uplink.final(_refused(request, refusal), f"refused-{secrets.token_hex(8)}")

    def _job_of(self, record: JobRecord) -> Job:
        request = msgspec.convert(record.wire["request"], AdminRun)
        return Job(record.key, request, str(record.wire.get("digest", "")))


def digest_of(message: AdminRun) -> str:
    """Return what tells two requests under one jobId apart; the token is not part of it."""
    return str(xxhash.xxh3_128_hexdigest(msgspec.json.encode(message.cmd)))


def _insist(worker: Worker, reason: str) -> None:
    if worker.result is None:
        worker.kill(Gone(reason=reason))


def _result(request: AdminRun, ended: CommandEnded) -> AdminResult:
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


def _shown(captured: Captured) -> str:
    head = captured.head.decode(errors="replace")
    if not captured.tail:
        return head
    return head + OMITTED + captured.tail.decode(errors="replace")


def _refused(request: AdminRun, refusal: Refusal, signal_number: int | None = None) -> AdminResult:
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
