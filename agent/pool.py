"""All workers: spawn, adopt, watch, kill, reap; what each of them owes.

Rules: core thread only; nothing here knows a family; every way a worker can end leads through
`_on_reaped`, once. A kind whose workers die five times a minute before their first beat is FATAL
until an admin restarts it. Source: architecture, "Endpoint processes".
"""

from __future__ import annotations

import os
import secrets
import signal
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from agent.disk import Disk
from agent.limits import has_descriptors_for_another
from agent.log import Log
from agent.nursery import Nursery
from agent.watchdog import PATIENCE, Patience, Silence, SleepDetector, is_overloaded, judge
from agent.worker import Gone, Owner, Worker, lacks_resources
from workers import jobs, processes, trees
from workers.jobs import JobRecord
from workers.loop import Loop
from workers.messages import Log as Words
from workers.messages import Spec, Start
from workers.messages_zygote import Exited, Spawn, Spawned, SpawnFailed

STACK_S = 0.3
DEATHS = 5
FAULTS = ("worker_died", "worker_stalled")
DEATHS_WINDOW_S = 60.0
BRIEF_S = 2.0
MAX_WORDS_BYTES = 4096


class Pool:
    """See the module.

    Args:
        secret_dirs: what a confined worker must lose sight of.
        patience: how long a worker may be silent.
    """

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        state_dir: str,
        run_dir: str,
        secret_dirs: list[str],
        log: Log,
        patience: Patience = PATIENCE,
    ) -> None:
        self._loop = loop
        self._disk = disk
        self._state_dir = state_dir
        self._run_dir = run_dir
        self._secret_dirs = secret_dirs
        self._log = log
        self._patience = patience
        self._boot_id = processes.boot_id() or ""
        self._workers: dict[str, Worker] = {}
        self._silences: dict[str, Silence] = {}
        self._early_deaths: dict[str, deque[float]] = {}
        self._sleep = SleepDetector()
        self.nursery: Nursery
        self.on_change: Callable[[], object] = lambda: None
        self.fatal: set[str] = set()

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def start_watching(self) -> None:
        """Look after the beats from now on, every second by default."""
        self._loop.call_later(self._patience.look_s, self._look)

    def find(self, worker_id: str) -> Worker | None:
        """Return the live worker with that id."""
        live = (w for w in self._workers.values() if w.state != "EXITED")
        return next((w for w in live if w.id == worker_id), None)

    def spawn(
        self,
        kind: str,
        key: str,
        spec: Spec,
        owner: Owner,
        wire: dict[str, Any],
        run_as: str | None = None,
        lease_s: float | None = None,
        durable: bool = True,
    ) -> Worker:
        """Begin a job in a process of its own.

        Args:
            key: the server's name for the job; the worker's id is made from it.
            wire: what the family needs to speak of the job after the agent was restarted.
            lease_s: how long it goes on with no agent; None: to its end. Up to BRIEF_S it may
                begin on a full disk, too: telemetry tells of it.
            durable: begin only when the record would survive a power cut, so that the job is
                never run again; else when the next agent would find it.

        Returns:
            The worker, STARTING. What is sent to it waits until it can take it. A failure comes
            to `owner.on_gone`, later.
        """
        worker_id = jobs.worker_id_of(kind, key)
        job_id = f"{worker_id}.{secrets.token_hex(3)}"
        record = JobRecord(
            job_id=job_id,
            worker_id=worker_id,
            kind=kind,
            key=key,
            pid=0,
            start_time=0,
            boot_id=self._boot_id,
            address=f"{self._run_dir}/w-{secrets.token_hex(8)}.sock",
            token=secrets.token_bytes(32),
            lease_s=lease_s,
            wire=wire,
        )
        worker = Worker(self._loop, record, owner, self._on_reaped, self._note_words)
        self._workers[job_id] = worker
        if kind in self.fatal:
            self._loop.call_soon(lambda: worker.fail("resources", f"{kind} workers are FATAL"))
            return worker
        launching = sum(1 for each in self._workers.values() if not each.pid) - 1
        if not has_descriptors_for_another(launching):
            self._loop.call_soon(lambda: worker.fail("resources", "too few file descriptors"))
            return worker
        start = Start(spec=spec, run_as=run_as, lease_s=lease_s, secret_dirs=self._secret_dirs)
        self.nursery.spawn(
            Spawn(
                job_id=job_id,
                kind=kind,
                address=record.address,
                token=record.token,
                spool=jobs.spool_path(self._state_dir, job_id),
            ),
            lambda answer: self._on_spawned(worker, start, durable, answer),
        )
        return worker

    def adopt(self, record: JobRecord, owner: Owner) -> Worker | None:
        """Take over a worker that an earlier agent started; None: it is not there any more."""
        # Dead and not reaped yet: what it has left is in its spool, and it answers nobody.
        process = processes.ProcessRef(record.pid, record.start_time)
        if record.boot_id != self._boot_id or not processes.is_alive(process):
            return None
        worker = Worker(self._loop, record, owner, self._on_reaped, self._note_words)
        self._workers[record.job_id] = worker
        worker.adopt()
        return worker

    def release(self, worker: Worker) -> None:
        """Its final result is stored: let it go, and its record."""
        worker.forget()
        self.drop_record(worker.record.job_id)

    def drop_record(self, job_id: str) -> None:
        """Remove what is kept of a job."""
        self._disk.submit(lambda: jobs.remove(self._state_dir, job_id))

    def sweep(self, job_id: str) -> None:
        """Kill what a dead worker's job has left behind."""
        self._drive(trees.kill_orphans(job_id, trees.AT_ONCE), job_id)

    def note_exit(self, exited: Exited) -> None:
        """The zygote's report."""
        worker = self._workers.get(exited.job_id)
        if worker is not None:
            worker.note_exit(exited.status, out_of_memory=exited.out_of_memory)

    def _on_spawned(
        self, worker: Worker, start: Start, durable: bool, answer: Spawned | SpawnFailed
    ) -> None:
        if isinstance(answer, SpawnFailed):
            self._log.error("worker not started", worker=worker.id, error=answer.error)
            worker.fail("resources", answer.error)
            return
        record = msgspec.structs.replace(
            worker.record, pid=answer.pid, start_time=answer.start_time
        )
        job_id = record.job_id

        def placed(error: Exception | None) -> None:
            if error is not None:
                self._log.error("job record not written", worker=worker.id, error=str(error))
            if error is not None and not _is_brief(start):
                worker.kill(_not_begun(error))
            elif not durable and worker.doom is None:
                worker.clear(start)

        def synced(error: Exception | None) -> None:
            if durable and error is None and worker.doom is None:
                worker.clear(start)
            elif durable and error is not None:
                worker.kill(_not_begun(error))

        self._disk.submit(lambda: jobs.place_record(self._state_dir, record), placed)
        self._disk.submit(lambda: jobs.sync_record(self._state_dir, job_id), synced)
        worker.launch(record)

    def _note_words(self, worker: Worker, said: Words) -> None:
        """What a worker wants in the log: under its name, bounded in length and number."""
        if not worker.log_lines.admits():
            return
        fields = msgspec.json.encode(said.fields, enc_hook=str)
        if len(fields) > MAX_WORDS_BYTES:
            fields = msgspec.json.encode(fields[:MAX_WORDS_BYTES].decode(errors="replace"))
        about = {"worker": worker.id, "about": msgspec.json.decode(fields)}
        self._log.write(said.level, said.sentence[:200], about)

    def _on_reaped(self, worker: Worker) -> None:
        """The one end of every worker."""
        job_id = worker.record.job_id
        self._workers.pop(job_id, None)
        self._silences.pop(job_id, None)
        if worker.result is None and worker.pid:
            self._log.warning("worker lost", worker=worker.id, pid=worker.pid)
            self.sweep(job_id)
            if not worker.has_beaten and worker.gone is not None:
                self._note_early_death(worker, worker.gone)
        self.on_change()

    def _note_early_death(self, worker: Worker, gone: Gone) -> None:
        """Count it, unless it was for want of something that may be there again in a minute."""
        if gone.reason not in FAULTS:
            return
        deaths = self._early_deaths.setdefault(worker.record.kind, deque(maxlen=DEATHS))
        deaths.append(self._loop.clock())
        if len(deaths) == DEATHS and deaths[-1] - deaths[0] < DEATHS_WINDOW_S:
            self.fatal.add(worker.record.kind)
            self._log.error("worker kind is FATAL", kind=worker.record.kind)

    def _drive(self, kill: trees.TreeKill, job_id: str) -> None:
        wait_s = kill.step(self._loop.clock())
        if wait_s is not None:
            self._loop.call_later(wait_s, lambda: self._drive(kill, job_id))
        elif kill.survivors:
            self._log.error("processes left in the kernel", job=job_id, pids=kill.survivors)

    def _look(self) -> None:
        """Judge every worker that has missed its beats."""
        self._loop.call_later(self._patience.look_s, self._look)
        if self._sleep.slept_s() > 1.0:
            self._silences.clear()
        now = self._loop.clock()
        for worker in list(self._workers.values()):
            if worker.state in ("STARTING", "RUNNING") and worker.pid:
                self._look_at(worker, now)
            elif worker.state == "STOPPING" and worker.pid:
                self._press(worker, now - worker.stopping_s)

    def _look_at(self, worker: Worker, now: float) -> None:
        job_id = worker.record.job_id
        beat_s = worker.last_beat_s if worker.last_beat_s is not None else worker.started_s
        silence = self._silences.get(job_id)
        if silence is None or beat_s > silence.since_s:
            cpu_s = processes.cpu_time(worker.pid) or 0.0
            self._silences[job_id] = Silence(
                since_s=max(beat_s, now - self._patience.look_s), cpu_s=cpu_s
            )
            return
        if now - silence.since_s < self._patience.stall_s / 2:
            return
        cpu_s = processes.cpu_time(worker.pid) or 0.0
        state = processes.state(worker.pid)
        verdict = judge(silence, now, cpu_s, state, is_overloaded(), self._patience)
        if verdict != "alive":
            self._log.error("worker hangs", worker=worker.id, pid=worker.pid, verdict=verdict)
            self._silences[job_id] = Silence(since_s=now, cpu_s=cpu_s)
            self._kill_hung(worker, verdict)

    def _press(self, worker: Worker, waited_s: float) -> None:
        """It may go, and does not: kill it. It was killed, and still is: it hangs in the kernel."""
        if worker.doom is None and waited_s >= self._patience.stall_s:
            self._log.error("finished worker does not go", worker=worker.id, pid=worker.pid)
            worker.kill(Gone(reason="worker_stalled"))
        elif worker.doom is not None and waited_s >= self._patience.stall_io_s:
            self._log.error("killed worker does not die", worker=worker.id, pid=worker.pid)
            worker.abandon()

    def _kill_hung(self, worker: Worker, reason: str) -> None:
        """Ask for its stack, then kill it; the spool's file is free for that while it runs."""
        if hasattr(signal, "SIGUSR2"):
            reference = processes.ProcessRef(worker.pid, worker.record.start_time)
            processes.send(reference, signal.SIGUSR2)
        self._loop.call_later(STACK_S, lambda: self._finish_hung(worker, reason))

    def _finish_hung(self, worker: Worker, reason: str) -> None:
        path = jobs.spool_path(self._state_dir, worker.record.job_id)
        self._disk.submit(lambda: self._log_stack(worker.id, path))
        worker.kill(Gone(reason=reason))
        if reason == "stalled_io":
            worker.abandon()

    def _log_stack(self, worker_id: str, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return
        try:
            text = os.read(fd, 8192)
        finally:
            os.close(fd)
        if text.startswith((b"Current thread", b"Thread")):
            self._log.warning("stack of a hung worker", worker=worker_id, stack=text.decode())


def _is_brief(start: Start) -> bool:
    """It leaves by itself, right after its agent: nobody needs a record to find it by."""
    return start.lease_s is not None and start.lease_s <= BRIEF_S


def _not_begun(error: Exception) -> Gone:
    """A job whose record cannot be written: for want of descriptors or memory, else of disk."""
    reason = "resources" if lacks_resources(error) else "disk_full"
    return Gone(reason=reason, detail=str(error))
