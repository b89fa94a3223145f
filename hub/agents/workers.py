"""A machine's workers: listed, and one of them restarted; its events on the console's socket.

Rules: the list is the agent's word of this moment and is kept nowhere; a restart is audited when it
is asked for and when it is answered. Source: contract 1.7 `workers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel
from sqlalchemy.orm import Session

from hub.agents import service
from hub.agents.links import Link
from hub.audit import service as audit
from hub.authorize import Principal
from hub.errors import ConflictError
from wire.fields import Id
from wire.workers import WorkerItem, WorkerList, WorkerRestart, WorkerResult, Workers

if TYPE_CHECKING:
    from hub.assembly import Hub
    from hub.sockets.console import ConsoleClient


class WorkerOut(BaseModel):
    """One worker."""

    id: str
    kind: str
    state: str
    pid: int | None
    job: str | None
    memory_bytes: int | None
    beat_age_ms: float | None
    uptime_s: float | None
    restarts: int | None

    @classmethod
    def of(cls, item: WorkerItem) -> WorkerOut:
        """Show what an agent says of a worker."""
        return cls(
            id=item.id,
            kind=item.kind,
            state=item.state,
            pid=item.pid,
            job=item.job,
            memory_bytes=item.memory_bytes,
            beat_age_ms=item.beat_age_ms,
            uptime_s=item.uptime_sec,
            restarts=item.restarts,
        )


class WorkersOut(BaseModel):
    """A machine's workers at this moment."""

    items: list[WorkerOut]
    truncated: bool


class ListWorkers(msgspec.Struct, kw_only=True):
    """`worker_list`."""

    asset_id: Id


class RestartWorker(msgspec.Struct, kw_only=True):
    """`worker_restart`."""

    asset_id: Id
    worker_id: Id


class WorkerEvents:
    """The console's events, and the answers of agents."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        hub.console.on("worker_list", "workers.read", ListWorkers, self._list)
        hub.console.on("worker_restart", "workers.restart", RestartWorker, self._restart)
        hub.inbox.live(Workers, hub.answers.take)
        hub.inbox.final(WorkerResult, self._on_result)
        hub.inbox.unlinked(hub.answers.on_unlinked)

    async def _list(self, client: ConsoleClient, asked: ListWorkers) -> dict[str, Any]:
        return (await ask(self._hub, client.principal, asked.asset_id)).model_dump()

    async def _restart(self, client: ConsoleClient, asked: RestartWorker) -> None:
        await restart(self._hub, client.principal, asked.asset_id, asked.worker_id)

    def _on_result(
        self, session: Session, link: Link, result: WorkerResult
    ) -> Callable[[], None] | None:
        agent = Principal("agent", link.agent_id, link.client_id, link.tenant_id, None)
        outcome = "ok" if result.ok else (result.error or "failed")[:32]
        of = ("asset", link.asset_id)
        audit.record(session, link.tenant_id, agent, "workers.restarted", outcome, of=of)
        return lambda: self._hub.answers.take(link, result)


async def ask(hub: Hub, who: Principal, asset_id: str) -> WorkersOut:
    """Ask a machine for its workers.

    Raises:
        NotFoundError: no such machine; and what `Answers.ask` raises.
    """
    await hub.database.read(who.scope, service.get_asset, asset_id)
    request_id = hub.answers.new_id()
    found: Workers = await hub.answers.ask(asset_id, request_id, WorkerList(request_id=request_id))
    return WorkersOut(
        items=[WorkerOut.of(item) for item in found.items], truncated=bool(found.truncated)
    )


async def restart(hub: Hub, who: Principal, asset_id: str, worker_id: str) -> None:
    """Restart a worker of a machine.

    Raises:
        NotFoundError: no such machine; ConflictError: the agent says no; and what `Answers.ask`
            raises.
    """
    await hub.database.write(who.scope, _note, asset_id, who, worker_id)
    request_id = hub.answers.new_id()
    question = WorkerRestart(request_id=request_id, worker_id=worker_id)
    result: WorkerResult = await hub.answers.ask(asset_id, request_id, question)
    if not result.ok:
        raise ConflictError(result.detail or "the agent refused", code=result.error or "failed")


def _note(session: Session, asset_id: str, who: Principal, worker_id: str) -> None:
    asset = service.get_asset(session, asset_id)
    audit.record(
        session, asset.tenant_id, who, "workers.restart", of=("asset", asset.id), worker=worker_id
    )
