"""Backups: plans made and kept, runs of exactly the plan that was made, one final for each.

Rules: a request is checked as text and by policy before any process starts; a plan is durable
before it is told; at most `backup.maxConcurrent` jobs that copy or read at a time, the others wait
in line; a run goes on without an agent and is adopted by the next one. The disk is only touched in
the disk thread. Source: contract 1.5, 1.7 `backup2`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, cast

import msgspec

from agent import backup_events, backup_jobs, backup_tasks
from agent.backup_quarantine import Quarantine
from agent.backup_store import Layout, Plan, Store, plan_of
from agent.backup_tasks import Task, failure, task_of
from agent.disk import Disk
from agent.errors import BackupPlanError
from agent.limits import Place, Slots
from agent.log import Log
from agent.pool import Pool
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.backup import BackupCancel, BackupPlan, BackupResult, BackupStart
from wire.connect import JobState
from wire.events import ToServer
from workers import backup_request
from workers.errors import BackupError
from workers.jobs import JobRecord, Spool
from workers.loop import Loop
from workers.messages import End, Hello, Result, ToAgent
from workers.messages_backup import BackupEnded, BackupOp, BackupStep
from workers.policy import Policy

LINE_S = 24 * 3600.0
LOOKS = 2  # plans and listings at a time
CANCEL_S = 6.0
CRASHES = ("worker_died", "worker_stalled", "oom")


class Backups:
    """The family; see the module.

    Args:
        locked: why no job is taken now (kill switch, full disk, the end of the agent), or None.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        disk: Disk,
        uplink: Uplink,
        store: Store,
        policy: Policy,
        locked: Callable[[], BackupError | None],
        log: Log,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._disk = disk
        self._uplink = uplink
        self._policy = policy
        self._locked = locked
        self._log = log
        self.store = store
        self._runs = Slots(loop, max(1, policy.sections.backup.max_concurrent))
        self._looks = Slots(loop, LOOKS)
        self._tasks: list[Task] = []
        self._quarantine = Quarantine(store.root, disk, log)

    # -- requests ------------------------------------------------------------------------------

    def on_plan(self, message: BackupPlan) -> None:
        """Make a plan, or answer why not."""
        request_id = self._request_id(message.request_id)
        try:
            request = backup_tasks.request_of(message)
            backup_request.check(request)
            layout = self._layout(message.layout)
        except BackupError as e:
            self.refuse(message.plan_id, e.reason, str(e), request_id)
            return
        refused = self._locked() or backup_jobs.refusal(self._policy, request)
        if refused is not None:
            self.refuse(message.plan_id, refused.reason, str(refused), request_id)
            return
        if self._is_busy("plan", message.plan_id, request_id):
            return
        self._queue(Task("plan", plan_of(message.plan_id, request, layout), request_id))

    def on_start(self, message: BackupStart) -> None:
        """Run the plan that was made, or answer why not."""
        request_id = self._request_id(message.request_id)
        if self._is_busy("run", message.plan_id, request_id):
            return
        stand_in = Plan(plan_id=message.plan_id, source_dirs=[], dest_root="")
        task = Task("run", stand_in, request_id)
        self._tasks.append(task)  # from now on a second one is a repetition

        def judged(plan: Plan) -> None:
            backup_tasks.check_start(message, plan, lenient=request_id is not None)
            refused = self._locked() or backup_jobs.refusal(self._policy, plan.request())
            if refused is not None:
                raise refused
            task.plan = plan

        self._load(task, judged)

    def start_scheduled(self, plan_id: str) -> None:
        """Run a plan because its time has come."""
        if self._find("run", plan_id) is not None:
            return
        task = Task("run", Plan(plan_id=plan_id, source_dirs=[], dest_root=""))
        task.is_told = features.BACKUP2 in self._uplink.last_features
        self._accept(task)

    def perform(self, op: BackupOp, plan_id: str, request_id: str, args: dict[str, Any]) -> None:
        """Verify, list, restore or prune; answered by `backup_result`."""
        task = Task(op, Plan(plan_id=plan_id, source_dirs=[], dest_root=""), request_id, args)
        if any(each.key == task.key for each in self._tasks):
            return  # the same request again: one answer
        self._accept(task)

    def on_cancel(self, message: BackupCancel) -> None:
        """End everything that is done for a plan; answered when it has ended."""
        chosen = [each for each in self._tasks if each.plan.plan_id == message.plan_id]
        for task in chosen:
            self._cancel(task, "cancelled")
        if not chosen:
            self.answer(message.request_id, message.plan_id, error="not_running")
        else:
            self._await_end(message, chosen)

    def refuse(
        self, plan_id: str, reason: str, detail: str | None = None, request_id: str | None = None
    ) -> None:
        """Answer a plan or a run that does not take place; what goes on for it is left alone."""
        if request_id is None and any(task.plan.plan_id == plan_id for task in self._tasks):
            self._log.warning("a refusal that would end a live plan or run is not sent", why=reason)
        else:
            self._final(backup_events.failed(plan_id, request_id, reason, detail))

    def answer(
        self, request_id: str, plan_id: str | None, error: str | None = None, **fields: Any
    ) -> None:
        """Answer a request of `backup2` that needs no worker."""
        ok = error is None
        result = BackupResult(request_id=request_id, plan_id=plan_id, ok=ok, error=error, **fields)
        self._final(result)

    def states(self) -> list[JobState]:
        """For the CONNECT packet."""
        return [
            JobState(id=task.key, kind="backup", state="running" if task.worker else "queued")
            for task in self._tasks
            if not task.done
        ]

    # -- checks --------------------------------------------------------------------------------

    def _layout(self, layout: str | None) -> Layout:
        """A foreign message never picks the layout."""
        if layout is None or features.BACKUP2 not in self._uplink.features:
            return self._policy.sections.backup.layout
        if layout not in ("mirror", "snapshot"):
            raise BackupError("bad_request", f"there is no layout {layout!r}")
        return cast("Layout", layout)

    def _request_id(self, request_id: str | None) -> str | None:
        return request_id if features.BACKUP2 in self._uplink.features else None

    def _find(self, op: BackupOp, plan_id: str) -> Task | None:
        return next((t for t in self._tasks if (t.op, t.plan.plan_id) == (op, plan_id)), None)

    def _is_busy(self, op: BackupOp, plan_id: str, request_id: str | None) -> bool:
        """The same thing is being done: a foreign peer's repetition is logged, ours is answered."""
        if self._find(op, plan_id) is None:
            return False
        if request_id is not None:
            self.answer(request_id, plan_id, error="already_running")
        else:
            self._log.warning("a backup was asked for again while it runs", op=op, plan=plan_id)
        return True

    # -- from request to worker ----------------------------------------------------------------

    def _accept(self, task: Task) -> None:
        self._tasks.append(task)

        def taken(plan: Plan) -> None:
            task.plan = plan

        self._load(task, taken)

    def _load(self, task: Task, judge: Callable[[Plan], None]) -> None:
        """Read the plan in the disk thread; then go on here."""
        plan_id = task.plan.plan_id
        found: list[Plan] = []

        def loaded(error: Exception | None) -> None:
            if task.done:
                return
            if error is not None:
                word = "unknown_plan" if isinstance(error, BackupPlanError) else "io_error"
                self._end(task, failure(task, word, str(error)))
                return
            try:
                judge(found[0])
            except BackupError as e:
                error_word = f"{e.reason}: {e}" if e.reason == "plan_mismatch" else e.reason
                self._end(task, failure(task, error_word, str(e)))
                return
            self._tasks.remove(task)
            self._queue(task)

        self._disk.submit(lambda: found.append(self.store.load(plan_id)), loaded)

    def _queue(self, task: Task) -> None:
        self._tasks.append(task)
        if self._is_locked(task):
            return
        if self._quarantine.holds(task.op, task.plan.plan_id):
            self._end(task, failure(task, "busy", "quarantined"))
            return
        slots = self._looks if task.op in ("plan", "ls") else self._runs
        place = slots.take()
        if place is not None:
            self._start(task, place)
            return
        busy = failure(task, "busy", "backup.maxConcurrent is reached")
        size = len(msgspec.json.encode((task.plan, task.args)))
        if slots.may_wait(size):
            task.waiting = slots.wait(
                LINE_S, lambda place: self._start(task, place), lambda: self._end(task, busy), size
            )
        else:
            self._end(task, busy)

    def _start(self, task: Task, place: Place) -> None:
        task.waiting, task.place = None, place
        if not self._is_locked(task):  # it may have waited long
            self._spawn(task)

    def _is_locked(self, task: Task) -> bool:
        refused = self._locked()
        if refused is not None:
            self._end(task, failure(task, refused.reason, str(refused)))
        return refused is not None

    def _spawn(self, task: Task) -> None:
        plan = task.plan
        spec = backup_jobs.spec_of(task, self.store, self._policy)
        wire = {
            "op": task.op,
            "plan": msgspec.to_builtins(msgspec.structs.replace(plan, found={})),
            "requestId": task.request_id,
            "isTold": task.is_told,
        }
        lease_s = None if task.op in ("run", "restore") else 60.0
        task.worker = self._pool.spawn("backup", task.key, spec, self, wire, lease_s=lease_s)

    def _cancel(self, task: Task, reason: str) -> None:
        if task.waiting is not None:
            task.waiting.cancel()
        if task.worker is None:
            self._end(task, failure(task, reason, None))
            return
        worker = task.worker
        worker.send(End(reason=reason))

        def insist() -> None:
            if worker.result is None:
                worker.kill(Gone(reason=reason))

        self._loop.call_later(CANCEL_S, insist)

    def _await_end(self, message: BackupCancel, chosen: list[Task]) -> None:
        if all(task.done for task in chosen):
            self.answer(message.request_id, message.plan_id)
        else:
            self._loop.call_later(0.05, lambda: self._await_end(message, chosen))

    # -- the worker's owner --------------------------------------------------------------------

    def adopt(self, worker: Worker, record: JobRecord) -> None:
        """Go on with a job of an earlier agent."""
        task = task_of(record)
        task.worker = worker
        task.place = (self._looks if task.op in ("plan", "ls") else self._runs).force()
        self._tasks.append(task)

    def recover(
        self, record: JobRecord, spool: Spool | None, on_stored: Callable[[], object]
    ) -> None:
        """Report a job whose worker did not outlive the agent's absence."""
        task = task_of(record)
        if spool is not None and isinstance(spool.result, BackupEnded):
            self._conclude(task, spool.result, record.job_id, on_stored)
        else:
            sentence = "the job was gone when the agent came back; run the plan again"
            self._tell(task, failure(task, "agent_restarted", sentence), record.job_id, on_stored)

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """Nothing to tell it."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """It has no stream."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """How far it is; a plan's own progress is nobody's business."""
        task = self._task_of_worker(worker)
        if task is None or not isinstance(message, BackupStep) or not task.is_told:
            return
        if task.op == "run" or (task.op in ("verify", "restore") and task.request_id):
            step = backup_events.progress(task.plan.plan_id, task.request_id, message)
            self._uplink.latest(("backup", task.key), step)

    def on_finished(self, worker: Worker, result: Result) -> None:
        """Done, well or not."""
        task = self._task_of_worker(worker)
        if task is None or not isinstance(result, BackupEnded):
            self._pool.release(worker)
            return
        self._leave_line(task)
        self._quarantine.note_end(task.op, task.plan.plan_id)
        self._conclude(task, result, worker.record.job_id, lambda: self._pool.release(worker))

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead. A run that was killed goes on in a new one: it resumes."""
        task = self._task_of_worker(worker)
        if task is None:
            return
        is_held = gone.reason in CRASHES and self._quarantine.note_crash(task.op, task.plan.plan_id)
        if task.op == "run" and gone.reason in ("worker_died", "restart") and not is_held:
            self._log.warning("a backup goes on in a new worker", worker=worker.id, why=gone.reason)
            self._pool.drop_record(worker.record.job_id)
            self._spawn(task)
            return
        self._leave_line(task)
        event, job_id = failure(task, gone.reason, gone.detail), worker.record.job_id
        self._tell(task, event, job_id, lambda: self._pool.drop_record(job_id))

    def _task_of_worker(self, worker: Worker) -> Task | None:
        return next((task for task in self._tasks if task.worker is worker), None)

    # -- ends ----------------------------------------------------------------------------------

    def _conclude(
        self, task: Task, result: BackupEnded, key: str, on_stored: Callable[[], object]
    ) -> None:
        """A plan is kept before it is told; everything else is told at once."""
        if task.op != "plan" or not result.ok:
            event = backup_events.ended(task.op, task.plan.plan_id, task.request_id, result)
            self._tell(task, event, key, on_stored)
            return
        plan = msgspec.structs.replace(task.plan, found=result.found)

        def saved(error: Exception | None) -> None:
            event: ToServer = backup_events.planned(plan, task.request_id)
            if error is not None:
                event = failure(task, "no_space", f"the plan cannot be kept: {error}")
            self._tell(task, event, key, on_stored)

        self._disk.submit(lambda: self.store.save(plan), saved)

    def _end(self, task: Task, event: ToServer) -> None:
        """The end of a task that never had a worker."""
        self._tell(task, event, f"backup-{secrets.token_hex(8)}", lambda: None)

    def _tell(self, task: Task, event: ToServer, key: str, on_stored: Callable[[], object]) -> None:
        if task.done:
            return
        task.done = True
        backup_tasks.note_end(self._log, task, event)
        self._leave_line(task)
        if task in self._tasks:
            self._tasks.remove(task)
        if task.is_told:
            self._uplink.final(event, key, on_stored=on_stored)
        else:
            on_stored()

    def _leave_line(self, task: Task) -> None:
        if task.place is not None:
            task.place.release()
            task.place = None

    def _final(self, event: ToServer) -> None:
        self._uplink.final(event, f"backup-{secrets.token_hex(8)}")
