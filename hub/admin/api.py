"""Commands over HTTP: one machine, many, and once more what failed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from hub.admin.requests import AdminIn
from hub.jobs.models import Job
from hub.jobs.views import JobOut
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1", tags=["commands"])
MAX_MACHINES = 500
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128)]
AssetId = Annotated[str, Field(min_length=1, max_length=64)]


class BatchIn(AdminIn):
    """A command for several machines."""

    asset_ids: Annotated[list[AssetId], Field(min_length=1, max_length=MAX_MACHINES)]


class BatchOut(BaseModel):
    """One job for each machine."""

    batch_id: str
    jobs: list[JobOut]

    @classmethod
    def of(cls, made: tuple[str, list[Job]]) -> BatchOut:
        """Show a batch."""
        return cls(batch_id=made[0], jobs=[JobOut.of(job) for job in made[1]])


@router.post("/agents/{asset_id}/admin", status_code=201)
async def run_command(
    hub: TheHub, asset_id: str, body: AdminIn, key: Key = None, caller: Caller = may("admin.run")
) -> JobOut:
    """Run a command on a machine, now or when it is back."""
    job = await hub.database.write(
        caller.scope, hub.admin.submission.one, caller, asset_id, body, key
    )
    hub.jobs.changed(job)
    return JobOut.of(job)


@router.post("/admin", status_code=201)
async def run_on_many(
    hub: TheHub, body: BatchIn, key: Key = None, caller: Caller = may("admin.run")
) -> BatchOut:
    """Run a command on several machines; with one that is not the caller's, on none."""
    made = await hub.database.write(
        caller.scope, hub.admin.submission.many, caller, body.asset_ids, body, key
    )
    hub.jobs.changed(*made[1])
    return BatchOut.of(made)


@router.post("/batches/{batch_id}/rerun", status_code=201)
async def run_again(hub: TheHub, batch_id: str, caller: Caller = may("admin.run")) -> BatchOut:
    """Run once more what failed, expired or was skipped in a batch."""
    made = await hub.database.write(caller.scope, hub.admin.submission.again, caller, batch_id)
    hub.jobs.changed(*made[1])
    return BatchOut.of(made)
