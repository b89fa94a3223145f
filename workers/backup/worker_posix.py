"""One step of a backup plan in one process. See `workers.backup.worker`.

Progress goes out every second from this loop's own timer, so that a stalled disk does not silence
it. Cancelling ends the whole tree, then the job, then tells the one result.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers import backup_state, trees
from workers.backup.gauge import Gauge
from workers.backup.gentle import make_gentle
from workers.backup.ground import Ground
from workers.backup.steps import Job, Steps
from workers.backup.tools import Tools
from workers.errors import BackupError
from workers.kind import Desk, StreamlessWorker
from workers.loop import Timer
from workers.messages import Spec
from workers.messages_backup import BackupEnded, BackupSpec
from workers.reaper import Reaper
from workers.trees_posix import become_subreaper

if TYPE_CHECKING:
    from workers.backup.running import Run

STEP_S = 1.05  # no closer than one a second, whatever the timers do
AFTER_S = 2.0  # what the `after` hook of a run that was cancelled has
# Enough for rsync to keep what it has of the file in flight; then it is killed.
END_TREE = (trees.Step(("TERM", "CONT"), 2.0), trees.Step(("KILL",), 2.5))


class BackupWorker(StreamlessWorker):
    """See `workers.kind.Worker`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._reaper = Reaper()
        self._reaper.attach(desk.loop)
        self._steps: Steps | None = None
        self._ground: Ground | None = None
        self._run: Run | None = None
        self._timer: Timer | None = None
        self._reason: str | None = None
        self._started_s = desk.loop.clock()
        self._last = (0, 0)

    def on_start(self, spec: Spec) -> None:
        assert isinstance(spec, BackupSpec)
        become_subreaper()
        make_gentle()
        folder = Path(spec.job.folder)
        try:
            for each in (folder.parent, folder):  # `parents` would take the umask's mode
                each.mkdir(mode=0o700, exist_ok=True)
            backup_state.enter(folder, spec.op)
        except OSError as e:
            self._fail(spec, "no_space" if e.errno == 28 else "io_error", str(e))
            return
        tools = Tools(self._desk.loop, self._reaper, spec.job, folder.parent, self._desk.job_id)
        self._ground = Ground(spec, tools, folder)
        self._gauge = Gauge(spec.op, spec.total_bytes)
        self._steps = Steps(self._desk.loop, self._job(spec), self._on_done)
        self._timer = self._desk.loop.call_later(STEP_S, self._tick)
        self._steps.start()

    def end(self, reason: str) -> None:
        if self._reason is not None or self._ground is None or self._steps is None:
            return
        asked = backup_state.is_cancelled(self._ground.folder)
        self._reason = "cancelled" if asked else reason
        self._stop_timer()
        self._steps.freeze()
        child = self._ground.tools.child
        if child is not None:
            child.close()
        pid = child.pid if child is not None and child.is_running else None
        self._kill(trees.kill_own_tree(END_TREE, main_pid=pid))

    def _job(self, spec: BackupSpec) -> Job[dict[str, Any]]:
        ground, gauge = self._ground, self._gauge
        assert ground is not None
        # Only what the step needs is loaded: an import is longer than many a step.
        match spec.op:
            case "plan":
                from workers.backup import planning

                return planning.plan(ground)
            case "run":
                from workers.backup.running import Run

                self._run = Run(ground, gauge)
                return self._run.perform()
            case "verify":
                from workers.backup import verifying

                return verifying.verify(ground, gauge)
            case "restore":
                from workers.backup import restoring

                return restoring.restore(ground, gauge)
            case "ls":
                from workers.backup import listing

                return listing.ls(ground)
            case "prune":
                from workers.backup import pruning

                return pruning.prune(ground)

    def _on_done(self, found: Any, error: Exception | None) -> None:
        assert self._ground is not None
        self._stop_timer()
        self._ground.close()
        spec = self._ground.spec
        if error is None:
            backup_state.leave(self._ground.folder)
            self._desk.finish(BackupEnded(op=spec.op, ok=True, duration_ms=self._ms(), found=found))
        elif isinstance(error, BackupError):
            self._fail(spec, error.reason, str(error))
        else:
            reason = "no_space" if getattr(error, "errno", 0) == 28 else "internal"
            self._desk.log("error", "backup failed", error=repr(error))
            self._fail(spec, reason, repr(error))

    def _fail(self, spec: BackupSpec, reason: str, sentence: str) -> None:
        backup_state.leave(Path(spec.job.folder))
        notes = [] if self._ground is None else list(dict.fromkeys(self._ground.notes))
        self._desk.finish(
            BackupEnded(
                op=spec.op,
                ok=False,
                duration_ms=self._ms(),
                error=reason,
                detail=sentence,
                found={"notes": notes} if notes else {},
            )
        )

    def _tick(self) -> None:
        assert self._ground is not None
        child = self._ground.tools.child
        self._gauge.child_pid = None if child is None else child.pid
        step = self._gauge.step()
        self._desk.send(step)
        now = (step.done_bytes, step.files)
        if now != self._last:
            self._last = now
            self._desk.progress()
        if self._run is not None:
            self._run.tick()
        self._timer = self._desk.loop.call_later(STEP_S, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _kill(self, kill: trees.TreeKill) -> None:
        wait_s = kill.step(self._desk.loop.clock())
        if wait_s is not None:
            self._desk.loop.call_later(wait_s, _again(self._kill, kill))
            return
        self._reaper.collect()
        assert self._steps is not None
        if self._run is not None and self._word == "cancelled":
            self._run.broken_as = "cancelled"
        self._steps.stop()
        left = f"left in the kernel: {kill.survivors}" if kill.survivors else None
        sentence = left or "ended before it was done"
        if self._run is None:
            self._tell_end(sentence)
            return
        after = self._run.after(self._run.broken_as)
        self._steps = Steps(self._desk.loop, after, lambda _found, _error: self._tell_end(sentence))
        self._steps.start()
        self._timer = self._desk.loop.call_later(AFTER_S, lambda: self._tell_end(sentence))

    @property
    def _word(self) -> str:
        return "cancelled" if self._reason in (None, "closed") else str(self._reason)

    def _tell_end(self, sentence: str) -> None:
        assert self._ground is not None and self._steps is not None
        self._stop_timer()
        self._steps.stop()
        self._ground.tools.kill()
        self._ground.close()
        self._fail(self._ground.spec, self._word, sentence)

    def _ms(self) -> int:
        return round((self._desk.loop.clock() - self._started_s) * 1000)


def _again(call: Callable[[trees.TreeKill], None], kill: trees.TreeKill) -> Callable[[], None]:
    return lambda: call(kill)
