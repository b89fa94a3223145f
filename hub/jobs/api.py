"""Jobs over HTTP: list, look, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import pages
from hub.agents import service as agents
from hub.jobs import service
from hub.jobs.models import Job
from hub.jobs.views import JobOut, StateName
from hub.pages import Cursor, Limit, Page
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])
Name = Annotated[str | None, Query(max_length=64)]


@router.get("")
async def list_jobs(
    hub: TheHub,
    asset_id: Name = None,
    kind: Name = None,
    batch_id: Name = None,
    state: Annotated[list[StateName] | None, Query(max_length=8)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    caller: Caller = may("jobs.read"),
) -> Page[JobOut]:
    """List jobs, newest first; `state=queued` are the upcoming ones."""

    def unit(session: Session) -> Page[JobOut]:
        query = select(Job)
        if asset_id is not None:
            query = query.where(Job.asset_id == agents.get_asset(session, asset_id).id)
        for column, value in ((Job.kind, kind), (Job.batch_id, batch_id)):
            if value is not None:
                query = query.where(column == value)
        if state:
            query = query.where(Job.state.in_(state))
        rows, following = pages.fetch(session, query, (Job.id,), limit, cursor, descending=True)
        return Page(items=[JobOut.of(row) for row in rows], next=following)

    return await hub.database.read(caller.scope, unit)


@router.get("/{job_id}")
async def show_job(hub: TheHub, job_id: str, caller: Caller = may("jobs.read")) -> JobOut:
    """Show one job with its result."""
    return JobOut.of(await hub.database.read(caller.scope, service.get, job_id))


@router.post("/{job_id}/cancel")
async def cancel_job(hub: TheHub, job_id: str, caller: Caller = may("jobs.cancel")) -> JobOut:
    """End a job: a queued one at once; of a sent one the agent is asked, where it can be."""
    return JobOut.of(await hub.jobs.cancel(caller, job_id))
