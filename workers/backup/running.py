"""A run of a plan: every source copied, a manifest written, a snapshot published.

Rules: the same arguments as the plan's; one lock for each destination; a lost connection, and an
rsync that somebody kills, is tried again as long as it gets on at all; what the disk says of the
run is always enough for the next one to go on. Source: docs/reference/backup.rst; cases H.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from workers import backup_state
from workers.backup import hooks, itemize, layout, lock, orphans, outcomes, planning, pruning
from workers.backup.gauge import Gauge
from workers.backup.ground import Ground
from workers.backup.itemize import Batch, Meter, Skipped
from workers.backup.layout import Snapshot
from workers.backup.manifest import Writer
from workers.backup.outcomes import Outcome, Words
from workers.backup.planning import Counts
from workers.backup.sources import Source
from workers.backup.steps import Job
from workers.errors import BackupError
from workers.loop import now_s

T = TypeVar("T")
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
MAX_ERRORS = 500
_BROKEN_OFF = ("running", "interrupted", "failed", "cancelled")
_PASSING = ("ssh", "connection", "timeout", "killed")


class Tally(msgspec.Struct):
    """What a run has done."""

    counts: Counts = msgspec.field(default_factory=Counts)
    transferred: int = 0
    errors: list[str] = []
    error_count: int = 0
    is_partial: bool = False
    attempts: int = 0


class Run:
    """One run. `ground` is prepared by `perform`."""

    def __init__(self, ground: Ground, gauge: Gauge) -> None:
        self._ground = ground
        self._gauge = gauge
        self._tally = Tally()
        self._seq = 0
        self._started = 0.0
        self._snapshot: Snapshot | None = None
        self._manifest: Writer | None = None
        self._locks: list[lock.Lock] = []
        self._last: dict[str, Any] = {}
        self._was_broken_off = False
        self._since_s = 0.0  # by the target's clock: when the first run began that was broken off
        self._is_copying = self._is_after = False
        self._attempt_bytes = 0
        self._moved_s = now_s()
        self.broken_as = "interrupted"  # what is said of a run that something else has ended

    def perform(self) -> Job[dict[str, Any]]:
        """Run the plan; return what the result tells.

        Raises:
            BackupError: it did not come to its end; the next run goes on from here.
        """
        ground = self._ground
        ground.check()
        hooks.check(ground)
        self._locks.append(lock.take(ground.folder / "lock", ground.job.plan_id))
        error = "interrupted"
        try:
            self._come_from(backup_state.read(ground.folder))
            found = yield from self._whole()
            error = ""
            return found
        except (BackupError, OSError) as e:
            error = e.reason if isinstance(e, BackupError) else "io_error"
            yield from self.after("failed")
            raise
        finally:
            self._leave(error)

    def after(self, how: str) -> Job[None]:
        """Run the owner's `after`, once, where `before` may have begun something."""
        if self._started and not self._is_after:
            self._is_after = True
            yield from hooks.after(self._ground, how)

    def _whole(self) -> Job[dict[str, Any]]:
        ground = self._ground
        yield from hooks.before(ground)
        ground.open_sources()
        ground.meet_target()
        yield from hooks.dump(ground)
        names = [source.name for source in ground.sources]
        yield from self._patiently(lambda: ground.survey(names))
        self._take_lock()
        self._begin()
        yield from self._prepare()
        self._is_copying = True
        for source in ground.sources:
            yield from self._copy(source)
        self._is_copying = False
        return (yield from self._finish())

    # -- before --------------------------------------------------------------------------------

    def _patiently(self, begin: Callable[[], Job[T]]) -> Job[T]:
        """Do something at the target; another host may be away for a while."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return (yield from begin())
            except BackupError as e:
                if (
                    e.reason not in ("ssh", "connection", "timeout", "killed")
                    or not self._may_wait()
                ):
                    raise
            self._gauge.say("waiting")
            yield wait_s
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _take_lock(self) -> None:
        ground = self._ground
        path = ground.target.lock_file()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise BackupError("bad_dest", f"{e.filename}: {e.strerror}") from e
        taken = lock.take(path, ground.job.plan_id)
        self._locks.append(taken)
        if taken.stale is not None:
            stale = taken.stale
            ground.notes.append(
                f"the lock of a run that had died (pid {stale.get('pid')}) was taken over"
            )

    def _come_from(self, last: dict[str, Any]) -> None:
        """Know how the last run ended; from now on `run.json` tells of this one."""
        self._last = last
        self._seq = int(last.get("seq") or 0)
        self._started = _stamp_s()
        # Who is said to be running holds no lock: it is dead, whatever its process looks like. One
        # that had not begun to copy has broken nothing off.
        if last.get("state") in _BROKEN_OFF:
            self._since_s = float(last.get("since") or 0.0)
        self._was_broken_off = self._since_s > 0
        self._note("running")

    def _begin(self) -> None:
        ground = self._ground
        seen = [each for found in ground.look.snapshots.values() for each in found]
        numbers = [int(p.stem.split(".")[0]) for p in backup_state.known_manifests(ground.folder)]
        numbers += [each.seq for each in seen] + [self._seq]
        if ground.job.layout == "snapshot":
            self._snapshot = layout.fresh(seen, self._started)
            self._snapshot = self._snapshot._replace(seq=max(numbers) + 1)
        self._seq = max(numbers) + 1
        if self._was_broken_off:
            ground.notes.append("the last run was broken off; this one goes on from there")
        self._since_s = self._since_s or ground.look.clock_s
        self._note("running", durable=True)

    def _prepare(self) -> Job[None]:
        ground = self._ground
        places = [self._place(source) for source in ground.sources]
        if self._last.get("error") == "no_space":
            yield from self._patiently(ground.drop_unfinished)
        yield from self._patiently(lambda: ground.target.prepare(ground.look, places))
        if self._was_broken_off and self._snapshot is None:
            for source in ground.sources:
                yield from self._tidy(source)
        known = [
            *backup_state.broken_manifests(ground.folder),
            *backup_state.known_manifests(ground.folder)[:1],
        ]
        path = backup_state.manifest_path(ground.folder, self._seq)
        self._manifest = Writer(path, ground.features.algorithm, known)

    def _tidy(self, source: Source) -> Job[None]:
        """Remove what a killed rsync has left; where that fails, the next run does."""
        place, since_s = self._place(source), self._since_s
        try:
            removed = yield from orphans.remove(self._ground, source, place, since_s)
        except BackupError:
            return
        if removed:
            self._ground.notes.append(f"{removed} temporary files of a killed rsync were removed")

    def _place(self, source: Source) -> str:
        return source.name if self._snapshot is None else f"{source.name}/{self._snapshot.name}"

    # -- copying -------------------------------------------------------------------------------

    def _copy(self, source: Source) -> Job[None]:
        """Copy one source, again and again where that helps."""
        wait_s = FIRST_WAIT_S
        while True:
            code, words = yield from self._attempt(source)
            outcome = outcomes.judge(code, words)
            if words.lacks_attributes and outcome.verdict == "partial":
                if self._ground.features.acls or self._ground.features.xattrs:
                    self._ground.learn_plain()
                    continue
            if outcome.verdict in ("done", "partial"):
                self._note_errors(outcome, words)
                self._gauge.source_done()
                return
            if outcome.verdict == "failed" or not self._may_wait():
                raise BackupError(outcome.error, outcome.sentence)
            self._gauge.say("waiting")
            yield wait_s
            yield from self._tidy(source)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _attempt(self, source: Source) -> Job[tuple[int, Words]]:
        self._tally.attempts += 1
        self._attempt_bytes = 0
        self._gauge.begin_source(source)
        transfer = planning.transfer_of(self._ground, source, self._snapshot)
        source.enter()
        job = self._ground.rsync(transfer, lambda batch: self._take(source, batch), dry_run=False)
        code, words = yield from job
        self._tally.transferred += self._attempt_bytes
        return code, words

    def _take(self, source: Source, batch: Batch) -> None:
        """Take note of what was done; called with every chunk of a million lines."""
        assert self._manifest is not None
        prefix = os.fsencode(source.name)
        self._manifest.add_files(prefix, batch.files)
        self._gauge.rows(batch.files)
        for line in batch.others:
            if isinstance(line, Meter):
                self._take_meter(line.transferred)
            elif isinstance(line, Skipped):
                self._tally.counts.skip(source, line)
            elif line.kind == b"d":
                if not line.is_deletion and self._ground.job.one_file_system:
                    self._tally.counts.enter_directory(source, line)
            elif not line.is_deletion:
                self._manifest.add(prefix, line)
                self._gauge.item(line)

    def _take_meter(self, transferred: int) -> None:
        if transferred > self._attempt_bytes:
            self._attempt_bytes = transferred
            self._moved_s = now_s()
        self._gauge.meter(transferred)

    def _may_wait(self) -> bool:
        """Is the run still within the time that it may go without getting on?"""
        return now_s() - self._moved_s < self._ground.spec.retry_s

    def _note_errors(self, outcome: Outcome, words: Words) -> None:
        errors = words.errors()
        self._tally.error_count += len(errors)
        room = MAX_ERRORS - len(self._tally.errors)
        self._tally.errors.extend(errors[: max(0, room)])
        if outcome.verdict == "partial":
            self._tally.is_partial = True
            if not errors:
                self._tally.errors.append(outcome.sentence)

    # -- after ---------------------------------------------------------------------------------

    def _finish(self) -> Job[dict[str, Any]]:
        ground, tally = self._ground, self._tally
        assert self._manifest is not None
        name = yield from self._publish()
        self._manifest.finish()
        for path in backup_state.broken_manifests(ground.folder):
            path.unlink(missing_ok=True)
        if self._snapshot is None:
            for path in backup_state.known_manifests(ground.folder)[1:]:
                path.unlink(missing_ok=True)
        self._gauge.end()
        yield from self.after("partial" if tally.is_partial else "complete")
        found = self._found(name)
        backup_state.add_history(ground.folder, {**found, "notes": ground.notes[:20]})
        if not tally.is_partial and ground.job.retention and self._snapshot is not None:
            yield from self._prune(found)
        self._note("partial" if tally.is_partial else "complete", durable=True)
        return found

    def _publish(self) -> Job[str | None]:
        if self._snapshot is None:
            return None
        done = self._snapshot._replace(label=layout.PARTIAL if self._tally.is_partial else "")
        broken: list[str] = []
        target, made = self._ground.target, self._snapshot.name
        for source in self._ground.sources:
            publish = partial(target.publish, source.name, made, done.name)
            yield from self._patiently(publish)
            known = self._ground.look.snapshots.get(source.name, [])
            broken += [f"{source.name}/{s.name}" for s in known if not s.is_finished]
        yield from self._patiently(lambda: target.remove(broken))
        return done.name

    def _prune(self, found: dict[str, Any]) -> Job[None]:
        """Retention, after a success only; what goes wrong there does not spoil the run."""
        try:
            names = [source.name for source in self._ground.sources]
            look = yield from self._ground.target.look(names)
            found["pruned"] = yield from pruning.remove(self._ground, look.snapshots)
        except BackupError as e:
            self._ground.notes.append(f"nothing was pruned: {e}")

    def _found(self, snapshot: str | None) -> dict[str, Any]:
        tally, gauge = self._tally, self._gauge
        assert self._manifest is not None
        return {
            "seq": self._seq,
            "snapshot": snapshot,
            "layout": self._ground.job.layout,
            "startedAt": self._started,
            "endedAt": _stamp_s(),
            "files": gauge.files,
            "bytes": gauge.done_bytes,
            "plannedFiles": self._ground.spec.total_files,
            "plannedBytes": self._ground.spec.total_bytes,
            "transferredBytes": tally.transferred,
            "partial": tally.is_partial,
            "skipped": sum(tally.counts.skipped.values()),
            "skippedKinds": tally.counts.skipped,
            "errors": tally.errors,
            "errorCount": tally.error_count,
            "attempts": tally.attempts,
            "checksum": self._ground.features.algorithm,
            "withoutChecksum": self._manifest.unknown,
            "notes": list(dict.fromkeys(self._ground.notes)),
        }

    def _leave(self, error: str) -> None:
        self._is_copying = False
        if self._manifest is not None and error:
            self._manifest.leave()
        if error:
            self._note(self.broken_as if error == "interrupted" else "failed", error=error)
        while self._locks:
            self._locks.pop().release()

    def tick(self) -> None:
        """Keep what the disk says of this run up to date; called every second or two."""
        if self._is_copying and self._manifest is not None:
            self._manifest.flush()
            self._note("running")

    def _note(self, word: str, *, error: str | None = None, durable: bool = False) -> None:
        said = {
            "state": word,
            "error": error,
            "seq": self._seq,
            "startedAt": self._started,
            "since": self._since_s,
            "file": itemize.plain_name(self._gauge.file or b"").decode("utf-8", "replace"),
            "bytes": self._gauge.done_bytes,
            **backup_state.me(),
        }
        backup_state.write(self._ground.folder, said, durable=durable)


def _stamp_s() -> float:
    """Return the wall clock's time, for people to read."""
    return time.time()  # noqa: TID251 - a stamp, never a timer
