"""The workers as admins see them: list, restart, stop; for the control socket and for the hub.

Rules: a restart is the family's: a shell gets a new terminal under the same session, a command
ends and is not run again, telemetry starts again, a backup's run goes on, the rest just ends.
Source: contract 1.7 `workers`; docs/reference/cli.rst.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from agent.commands import Commands
from agent.pool import Pool
from agent.shells import Shells
from agent.telemetry import Telemetry
from agent.uplink import Uplink
from agent.worker import Gone, Worker
from wire import features
from wire.workers import WorkerItem, WorkerList, WorkerRestart, WorkerResult, Workers
from workers.loop import Loop
from workers.messages import End

# How long a restarted shell's or telemetry's new process, or an ended command's report, may take.
PATIENCE_S = 20.0
LOOK_S = 0.05


class Roster:
    """See the module.

    Args:
        fatal: kinds that are given up; a restart by an admin gives them another chance.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        uplink: Uplink,
        shells: Shells,
        commands: Commands,
        telemetry: Telemetry,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._uplink = uplink
        self._shells = shells
        self._commands = commands
        self._telemetry = telemetry

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each live worker: id, kind, state, pid, job, memory, beats."""
        now = self._loop.clock()
        return [_row(worker, now) for worker in self._pool if worker.state != "EXITED"]

    def restart(self, target: str, on_done: Callable[[list[dict[str, Any]]], object]) -> None:
        """Restart a worker by id, all of a kind, or `all`; answer when it is done."""
        self._act(target, self._restart_one, on_done)

    def stop(self, target: str, on_done: Callable[[list[dict[str, Any]]], object]) -> None:
        """End the jobs of some workers."""
        self._act(target, self._stop_one, on_done)

    def on_list(self, message: WorkerList) -> None:
        """`worker_list`."""
        if features.WORKERS not in self._uplink.features:
            return
        items = tuple(
            WorkerItem(
                id=row["id"],
                kind=row["kind"],
                state=row["state"],
                pid=row["pid"] or None,
                job=row["job"],
                memory_bytes=row["memory_bytes"],
                beat_age_ms=None if row["beat_ago_s"] is None else round(row["beat_ago_s"] * 1e3),
                uptime_sec=round(row["age_s"], 1),
            )
            for row in self.rows()
        )
        self._uplink.control(Workers(request_id=message.request_id, items=items))

    def on_restart(self, message: WorkerRestart) -> None:
        """`worker_restart`."""
        if features.WORKERS not in self._uplink.features:
            return

        def done(results: list[dict[str, Any]]) -> None:
            ok = bool(results) and all(result["ok"] for result in results)
            error = None if ok else (results[0].get("error") if results else "not_found")
            self._answer(message.request_id, ok=ok, error=error)

        if self._pool.find(message.worker_id) is None and not self._is_dead(message.worker_id):
            self._answer(message.request_id, ok=False, error="not_found")
        else:
            self.restart(message.worker_id, done)

    def refuse(self, message: WorkerList | WorkerRestart, reason: str) -> None:
        """Answer a request that is not carried out."""
        if features.WORKERS in self._uplink.features:
            self._answer(message.request_id, ok=False, error=reason)

    def refuse_malformed(self, request_id: str) -> None:
        """Answer a `worker_restart` that is none."""
        if features.WORKERS in self._uplink.features:
            self._answer(request_id, ok=False, error="bad_request")

    def _answer(self, request_id: str, *, ok: bool, error: str | None) -> None:
        result = WorkerResult(request_id=request_id, ok=ok, error=error)
        self._uplink.final(result, f"restart-{secrets.token_hex(8)}")

    def _is_dead(self, target: str) -> bool:
        return target == "telemetry" and not any(w.record.kind == "telemetry" for w in self._pool)

    def _act(
        self,
        target: str,
        act: Callable[[Worker], str | None],
        on_done: Callable[[list[dict[str, Any]]], object],
    ) -> None:
        self._pool.fatal.discard(target)
        if target == "all":
            self._pool.fatal.clear()
        if self._is_dead(target):
            self._telemetry.restart()
            on_done([{"id": "telemetry", "ok": True}])
            return
        chosen = [w for w in self._pool if w.state != "EXITED" and _matches(w, target)]
        results = [_result(w, act(w)) for w in chosen]
        begun = [w for w, result in zip(chosen, results, strict=True) if result["ok"]]
        self._await(begun, results, self._loop.clock() + PATIENCE_S, on_done)

    def _await(
        self,
        begun: list[Worker],
        results: list[dict[str, Any]],
        deadline_s: float,
        on_done: Callable[[list[dict[str, Any]]], object],
    ) -> None:
        """Done when every old process is dead."""
        left = [w for w in begun if w.state != "EXITED"]
        if left and self._loop.clock() < deadline_s:
            self._loop.call_later(LOOK_S, lambda: self._await(left, results, deadline_s, on_done))
            return
        for worker in left:
            for result in results:
                if result["id"] == worker.id:
                    result.update(ok=False, error="it has not ended yet")
        on_done(results)

    def _restart_one(self, worker: Worker) -> str | None:
        match worker.record.kind:
            case "shell":
                done = self._shells.restart(worker.id)
                return None if done else "it is ending already"
            case "admin":
                done = self._commands.end(worker.id, "restarted")
                return None if done else "it is ending already"
            case "telemetry":
                self._telemetry.restart()
                return None
            case "backup" if _resumes(worker):
                worker.kill(Gone(reason="restart"))
                return None
            case _:
                worker.send(End(reason="restarted"))
                return None

    def _stop_one(self, worker: Worker) -> str | None:
        match worker.record.kind:
            case "shell":
                self._shells.end(worker.record.key, "closed")
            case "admin":
                self._commands.end(worker.id, "cancelled")
            case _:
                worker.send(End(reason="closed"))
        return None


def _matches(worker: Worker, target: str) -> bool:
    return target in ("all", worker.id, worker.record.kind)


def _result(worker: Worker, error: str | None) -> dict[str, Any]:
    again = worker.record.kind in ("shell", "telemetry", "heartbeat") or _resumes(worker)
    return {"id": worker.id, "again": again, "ok": error is None, "error": error}


def _resumes(worker: Worker) -> bool:
    """Is it the run of a backup? A new worker goes on where the old one was killed."""
    return worker.record.kind == "backup" and worker.record.wire.get("op") == "run"


def _row(worker: Worker, now: float) -> dict[str, Any]:
    beat_s = worker.last_beat_s
    return {
        "id": worker.id,
        "kind": worker.record.kind,
        "state": worker.state,
        "pid": worker.pid,
        "child_pid": worker.child_pid,
        "job": _job(worker),
        "memory_bytes": _memory_bytes(worker.pid),
        "beat_ago_s": None if beat_s is None else now - beat_s,
        "progress": worker.progress,
        "age_s": now - worker.started_s,
    }


def _job(worker: Worker) -> str:
    """What it works at, in a word: never a command line, which may hold secrets."""
    return "" if worker.record.kind == "telemetry" else worker.record.key[:80]


def _memory_bytes(pid: int) -> int | None:
    """Return the private and shared memory that is the process's part (PSS), else its RSS."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None
