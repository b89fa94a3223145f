"""A heartbeat without a process: a pool of nobodies, a real store, a clock that a test moves.

A test is the worker: `calls` are what it was told to post, `answer` and `fail` are what came back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from agent.collection import Collection
from agent.heartbeat import Heartbeat
from agent.heartbeat_caller import Caller
from agent.heartbeat_memory import Memory
from agent.heartbeat_pace import Pace
from agent.heartbeat_store import HeartbeatStore
from agent.identity import Identity
from agent.identity_keeper import IdentityKeeper
from tests.doubles.disk import DiskDouble
from tests.doubles.endpoint import ListLog
from tests.doubles.families import StillClock
from tests.doubles.pool import PoolDouble, WorkerDouble
from wire import bodies, paths
from wire.heartbeat import HeartbeatResponse
from wire.problem import Problem
from workers.loop import Loop
from workers.messages import End, Stopped
from workers.messages_heartbeat import HeartbeatSpec, HubAnswer, HubCall, HubSilence, Renew

KNOWN = Identity(
    agent_id="agent-7",
    asset_id="asset-7",
    hub_url="https://hub.example",
    server_url="https://live.example",
    service_account_token="bearer",
    auth_token="secret",
    certificate="certificate",
    key="key",
    ca_chain="chain",
    not_before="2025-01-01T00:00:00.000Z",
    not_after="2125-01-01T00:00:00.000Z",
)


class HeartbeatParts:
    """See the module."""

    def __init__(self, root: Path, known: Identity = KNOWN, pace: Pace | None = None) -> None:
        (root / "identity").mkdir(mode=0o700, exist_ok=True)
        self.clock = StillClock()
        self.loop = Loop(clock=self.clock)
        self.pool = PoolDouble()
        self.log = ListLog()
        log = cast(Any, self.log)
        disk = DiskDouble(self.loop).as_disk
        self.store = HeartbeatStore(root / "heartbeat.db")
        self.keeper = IdentityKeeper(known, root, disk, log)
        self.refusal: str | None = None
        self.policies: list[dict[str, Any]] = []
        self.policy_fault: str | None = None
        self.heartbeat = Heartbeat(
            self.loop,
            Memory(disk, self.store, log),
            Caller(self.loop, self.pool.as_pool, self._spec, log),
            self.keeper,
            lambda: "boot",
            self._on_policy,
            log,
            pace or Pace(lambda low, high: (low + high) / 2),
        )
        self.collection = Collection(
            self.loop,
            self.pool.as_pool,
            self.heartbeat,
            lambda: self.refusal,
            lambda: {"version": "1", "profile": "reporter", "policy_digest": "d"},
            self.heartbeat.is_expired,
            log,
        )
        self.heartbeat.collection = self.collection
        self._answered = 0

    def _spec(self) -> HeartbeatSpec:
        known = self.keeper.identity
        return HeartbeatSpec(base_url=known.http_url, bearer=known.service_account_token)

    def _on_policy(self, said: dict[str, Any]) -> str | None:
        self.policies.append(said)
        return self.policy_fault

    # -- time ------------------------------------------------------------------------------------

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and everything happen that is due."""
        for step_s in (0.0, seconds):
            self.clock.now_s += step_s
            for _ in range(30):
                self.loop.turn(max_wait_s=0.0)

    def close(self) -> None:
        self.store.close()
        self.loop.close()

    # -- the worker ------------------------------------------------------------------------------

    @property
    def worker(self) -> WorkerDouble:
        """The present one that calls the hub."""
        return [w for w in self.pool if w.record.kind == "heartbeat"][-1]

    @property
    def calls(self) -> list[tuple[HubCall | Renew, bytes]]:
        """Every call of every worker, with its body."""
        found: list[tuple[HubCall | Renew, bytes]] = []
        for worker in self.pool.workers:
            if worker.record.kind == "heartbeat":
                told = [m for m in worker.told if isinstance(m, HubCall | Renew)]
                found += list(zip(told, worker.typed, strict=True))
        return sorted(found, key=lambda pair: pair[0].call_id)

    @property
    def open_call(self) -> tuple[HubCall | Renew, bytes]:
        """The one that waits for an answer."""
        call = self.calls[-1]
        assert call[0].call_id > self._answered, "nothing was asked"
        return call

    @property
    def has_open_call(self) -> bool:
        return bool(self.calls) and self.calls[-1][0].call_id > self._answered

    @property
    def beat(self) -> dict[str, Any]:
        """The beat that waits for an answer."""
        call, body = self.open_call
        assert isinstance(call, HubCall) and call.path == paths.HEARTBEAT
        told: dict[str, Any] = json.loads(body)
        return told

    def answer(self, **fields: Any) -> dict[str, Any]:
        """Answer the open beat with 200; return what it said."""
        beat = self.beat
        response = HeartbeatResponse(**{"server_ts": 1_800_000_000_000, **fields})
        self.reply(200, bodies.encode(response))
        return beat

    def refuse(self, status: int, code: str, retry_after_s: float | None = None, **f: Any) -> None:
        """Answer the open call with a problem."""
        body = bodies.encode(Problem(title=code, status=status, code=code, **f))
        self.reply(status, body, retry_after_s)

    def reply(self, status: int, body: bytes, retry_after_s: float | None = None) -> None:
        """Answer the open call."""
        self._answered = self.open_call[0].call_id
        self.worker.says(
            HubAnswer(call_id=self._answered, status=status, body=body, retry_after_s=retry_after_s)
        )
        self.turn()

    def fail(self, reason: str = "unreachable") -> None:
        """There is no answer to the open call."""
        self._answered = self.open_call[0].call_id
        self.worker.says(HubSilence(call_id=self._answered, reason=reason, sentence="why"))
        self.turn()

    def obey_end(self) -> None:
        """The worker that was told to end does."""
        worker = self.worker
        assert worker.of(End)
        worker.ends(Stopped())
        self.turn()

    def collectors(self) -> list[WorkerDouble]:
        """Workers that collect."""
        return [w for w in self.pool.workers if w.record.kind in ("inventory", "telemetry")]
