"""Commands on the `/console` namespace: asked for and watched in one step, so that no output is
missed; watched later, from what is kept.

Events from the hub: `job` (its state), `admin_output` (`stream offset bytes data`, base64),
`admin_lagging` (the watcher took too long and is sent no more). A watcher answers output with
`admin_taken`, or is sent 256 KiB at most.
Source: contract 1.7 `stream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from hub.admin.requests import AdminIn
from hub.errors import BadRequestError
from hub.jobs import service as jobs_service
from hub.jobs.models import Job
from hub.jobs.states import OPEN
from hub.jobs.views import JobOut
from wire.fields import Count, Id

if TYPE_CHECKING:
    from hub.assembly import Hub
    from hub.sockets.console import ConsoleClient

Reply = dict[str, Any] | None


class Start(msgspec.Struct, kw_only=True):
    """`admin_start`: run a command and watch it; `request` is the body of the route."""

    asset_id: Id
    request: dict[str, Any]
    key: Id | None = None


class Named(msgspec.Struct, kw_only=True):
    """`admin_watch`, `admin_unwatch`."""

    job_id: Id


class Taken(msgspec.Struct, kw_only=True):
    """`admin_taken`: so many bytes of output were written out."""

    job_id: Id
    bytes: Count


class AdminEvents:
    """See the module."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        console = hub.console
        console.on("admin_start", "admin.run", Start, self.start)
        console.on("admin_watch", "jobs.read", Named, self.watch)
        console.on("admin_unwatch", "jobs.read", Named, self.unwatch)
        console.on("admin_taken", "jobs.read", Taken, self.taken)
        console.closed(hub.admin.live.closed)

    async def start(self, client: ConsoleClient, payload: Start) -> Reply:
        """Put a command into the queue; its output comes here from the first byte on."""
        try:
            asked = AdminIn.model_validate(payload.request)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadRequestError(f"{where}: {first['msg']}") from error
        hub, who = self._hub, client.principal
        job = await hub.database.write(
            who.scope, hub.admin.submission.one, who, payload.asset_id, asked, payload.key
        )
        self._join(client, job)
        hub.jobs.changed(job)
        return {"job": JobOut.of(job).model_dump()}

    async def watch(self, client: ConsoleClient, payload: Named) -> Reply:
        """Watch a command that somebody has asked for."""
        job = await self._job(client, payload.job_id)
        self._join(client, job)
        return {"job": JobOut.of(job).model_dump()}

    async def unwatch(self, client: ConsoleClient, payload: Named) -> Reply:
        """Watch no more."""
        job = await self._job(client, payload.job_id)
        client.leave(f"job:{job.id}")
        self._hub.admin.live.unwatch((job.asset_id, job.id), client)
        return None

    async def taken(self, client: ConsoleClient, payload: Taken) -> Reply:
        """Let more come."""
        self._hub.admin.live.taken(payload.job_id, client, payload.bytes)
        return None

    async def _job(self, client: ConsoleClient, job_id: str) -> Job:
        return await self._hub.database.read(client.principal.scope, jobs_service.get, job_id)

    def _join(self, client: ConsoleClient, job: Job) -> None:
        client.join(f"job:{job.id}")
        if job.state in OPEN:
            self._hub.admin.live.watch((job.asset_id, job.id), client)
