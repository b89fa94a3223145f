"""`jackline stop`: end every job, send their results, end the zygote and the agent.

Rules: new jobs are refused from the first moment; a job's end is its family's; what has not been
sent within the grace stays in the outbox for the next agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.worker import Gone
from wire.reasons import Reason
from workers.messages import End

if TYPE_CHECKING:
    from agent.main import Agent

GRACE_S = 6.0  # a command's own grace is 3 s, then KILL
KILL_S = 3.0
SEND_S = 3.0
LOOK_S = 0.02


class Ending:
    """One end, begun once."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._begun = False
        self._on_done: list[Callable[[], object]] = []

    def begin(self, on_done: Callable[[], object] | None = None) -> None:
        """End everything; `on_done` is called right before the agent leaves."""
        if on_done is not None:
            self._on_done.append(on_done)
        if self._begun:
            return
        self._begun = True
        agent = self._agent
        agent.log.info("everything is being ended")
        agent.rules.is_stopping = True
        agent.telemetry.stop()
        if agent.heartbeat is not None:
            agent.heartbeat.stop()
        end_jobs(agent, Reason.AGENT_STOPPED)
        self._await_workers(agent.loop.clock() + GRACE_S, insisted=False)

    def _await_workers(self, deadline_s: float, *, insisted: bool) -> None:
        agent = self._agent
        now = agent.loop.clock()
        if list(agent.pool) and now < deadline_s:
            agent.loop.call_later(
                LOOK_S, lambda: self._await_workers(deadline_s, insisted=insisted)
            )
        elif list(agent.pool) and not insisted:
            for worker in agent.pool:
                worker.kill(Gone(reason=Reason.AGENT_STOPPED))
            self._await_workers(now + KILL_S, insisted=True)
        else:
            self._await_results(now + SEND_S)

    def _await_results(self, deadline_s: float) -> None:
        agent = self._agent
        # A server that knows no `ack` confirms with its next ping, which may be far: then what has
        # been handed to the system will have to do, and the next agent sends it again.
        left = agent.outbox.status().waiting if agent.uplink.features else 0
        waits = agent.uplink.is_up and (left > 0 or not agent.outgoing.is_idle())
        if waits and agent.loop.clock() < deadline_s:
            agent.loop.call_later(LOOK_S, lambda: self._await_results(deadline_s))
            return
        for worker in agent.pool:
            agent.log.error("a worker would not end", worker=worker.id, pid=worker.pid)
        agent.nursery.quit()
        for on_done in self._on_done:
            on_done()
        # A turn for the answer to go out.
        agent.loop.call_later(LOOK_S, agent.leave)


def end_jobs(agent: Agent, reason: str) -> None:
    """End every job, each in its family's way; telemetry and the heartbeat are none."""
    agent.commands.end_all(reason)
    agent.shells.end_all(reason)
    for worker in agent.pool:
        if worker.record.kind not in ("shell", "admin", "telemetry", "heartbeat"):
            worker.send(End(reason=reason))
