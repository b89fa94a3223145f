"""Jobs of a machine: what is to come and has been, one of them with its output, and a command line.

Rules: each form calls the API's own route function; live output comes over the socket
(static/output.js), the kept result is rendered here.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.admin import api as admin_api
from hub.admin.requests import AdminIn
from hub.backup.models import BackupPlan
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.one_agent import tab
from hub.errors import HubError
from hub.jobs import api as jobs_api
from hub.jobs import service
from hub.jobs.models import Job
from hub.jobs.states import OPEN
from hub.requests import Caller, TheHub

router = APIRouter(prefix="/agents/{asset_id}", include_in_schema=False)
PAST = 50


@router.get("/activity")
async def activity(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("jobs.read")
) -> Response:
    """Show what is to come and what has been."""
    jobs = await hub.database.read(caller.scope, _latest, asset_id)
    names = await hub.database.read(caller.scope, _plan_names, asset_id)
    upcoming = [job for job in jobs if job.state in OPEN]
    past = [job for job in jobs if job.state not in OPEN]
    return await tab(
        request, hub, caller, asset_id, "jobs/activity.html",
        upcoming=upcoming, past=past, names=names,
    )  # fmt: skip


@router.get("/jobs/{job_id}")
async def one(
    request: Request,
    hub: TheHub,
    asset_id: str,
    job_id: str,
    caller: Caller = may_see("jobs.read"),
) -> Response:
    """Show one job, its output and its end."""
    job = await hub.database.read(caller.scope, service.get, job_id)
    return await tab(request, hub, caller, asset_id, "jobs/one.html", job=job, fault=None)


@router.post("/jobs/{job_id}/cancel")
async def cancel(
    hub: TheHub, asset_id: str, job_id: str, caller: Caller = may_see("jobs.cancel")
) -> Response:
    """Ask for a job's end."""
    await jobs_api.cancel_job(hub, job_id, caller)
    return RedirectResponse(f"/agents/{asset_id}/jobs/{job_id}", 303)


@router.post("/run")
async def run(
    request: Request,
    hub: TheHub,
    asset_id: str,
    command: Annotated[str, Form(max_length=65536)],
    timeout_sec: Annotated[str, Form(max_length=16)] = "",
    when_offline: Annotated[str, Form(max_length=16)] = "queue",
    caller: Caller = may_see("admin.run"),
) -> Response:
    """Run an allow-listed command."""
    values: dict[str, Any] = {"command": command, "when_offline": when_offline}
    if timeout_sec:
        values["timeout_sec"] = timeout_sec
    try:
        body = checked(AdminIn, **values)
        made = await admin_api.run_command(hub, asset_id, body, None, caller)
    except HubError as fault:
        return await tab(request, hub, caller, asset_id, "jobs/refused.html", fault=fault)
    return RedirectResponse(f"/agents/{asset_id}/jobs/{made.id}", 303)


def _plan_names(session: Session, asset_id: str) -> dict[str, str]:
    found = select(BackupPlan.id, BackupPlan.name).where(BackupPlan.asset_id == asset_id)
    return {row.id: row.name for row in session.execute(found)}


def _latest(session: Session, asset_id: str) -> list[Job]:
    found = select(Job).where(Job.asset_id == asset_id).order_by(Job.id.desc()).limit(PAST)
    return list(session.scalars(found))
