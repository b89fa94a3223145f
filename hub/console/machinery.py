"""A machine's workers, its crontab, its keys: looked at, and changed after a look at what changes.

Rules: each form calls the API's own route function; what is asked of the machine is a job, and the
page shows how far it is; nothing is saved that was not shown as a difference before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from hub.admin.requests import Timing
from hub.agents import workers_api
from hub.console.access import may_see
from hub.console.forms import checked
from hub.console.one_agent import machine_of, tab
from hub.console.rendering import page
from hub.cron import api as cron_api
from hub.errors import HubError
from hub.jobs import service as jobs
from hub.jobs.models import Job
from hub.jobs.views import JobOut
from hub.keys import api as keys_api
from hub.requests import Caller, TheHub

router = APIRouter(prefix="/agents/{asset_id}", include_in_schema=False)
Text = Annotated[str, Form(max_length=1_000_000)]
JobId = Annotated[str, Query(max_length=64)]


@router.get("/workers")
async def workers(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("workers.read")
) -> Response:
    """Show the agent's processes."""
    return await tab(request, hub, caller, asset_id, "workers/page.html")


@router.get("/workers/list")
async def workers_now(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("workers.read")
) -> Response:
    """List the agent's processes as they are now."""
    machine = await machine_of(hub, caller, asset_id)
    items, fault = [], None
    try:
        items = (await workers_api.list_workers(hub, asset_id, caller)).items
    except HubError as error:
        fault = error
    return page(request, "workers/list.html", caller, machine=machine, items=items, fault=fault)


@router.post("/workers/{worker_id}/restart")
async def restart(
    request: Request,
    hub: TheHub,
    asset_id: str,
    worker_id: str,
    caller: Caller = may_see("workers.restart"),
) -> Response:
    """Restart one worker, and list them anew."""
    await workers_api.restart_worker(hub, asset_id, worker_id, caller)
    return await workers_now(request, hub, asset_id, caller)


@router.get("/cron")
async def cron(
    request: Request,
    hub: TheHub,
    asset_id: str,
    job: JobId = "",
    caller: Caller = may_see("cron.read"),
) -> Response:
    """Show the crontab, as text and as rows."""
    return await _cron(request, hub, caller, asset_id, job=await _job(hub, caller, job))


@router.post("/cron/read")
async def read_cron(
    request: Request, hub: TheHub, asset_id: str, caller: Caller = may_see("cron.write")
) -> Response:
    """Ask the machine for its crontab."""

    async def ask() -> JobOut:
        return await cron_api.read_crontab(hub, asset_id, Timing(), caller)

    return await _asked(request, hub, caller, asset_id, ask)


@router.post("/cron/diff")
async def compare(
    request: Request,
    hub: TheHub,
    asset_id: str,
    text: Text,
    expected: Text = "",
    caller: Caller = may_see("cron.write"),
) -> Response:
    """Show what a draft would change."""
    text = _lines(text)
    try:
        body = checked(cron_api.DraftIn, text=text)
        draft = await cron_api.compare_crontab(hub, asset_id, body, caller)
    except HubError as fault:
        return await _cron(request, hub, caller, asset_id, fault=fault, text=text)
    return await _cron(request, hub, caller, asset_id, draft=draft, text=text, expected=expected)


@router.post("/cron/save")
async def save_cron(
    request: Request,
    hub: TheHub,
    asset_id: str,
    text: Text,
    expected: Text = "",
    caller: Caller = may_see("cron.write"),
) -> Response:
    """Install a draft that was shown."""

    async def ask() -> JobOut:
        body = checked(cron_api.CrontabIn, text=_lines(text), expected=expected or None)
        return await cron_api.install_crontab(hub, asset_id, body, caller)

    return await _asked(request, hub, caller, asset_id, ask, _lines(text))


@router.post("/cron/undo")
async def undo_cron(
    request: Request,
    hub: TheHub,
    asset_id: str,
    version_id: Text = "",
    caller: Caller = may_see("cron.write"),
) -> Response:
    """Install an earlier version again."""

    async def ask() -> JobOut:
        body = checked(cron_api.UndoIn, version_id=version_id or None)
        return await cron_api.undo_crontab(hub, asset_id, body, caller)

    return await _asked(request, hub, caller, asset_id, ask)


@router.get("/keys")
async def keys(
    request: Request,
    hub: TheHub,
    asset_id: str,
    job: JobId = "",
    caller: Caller = may_see("jobs.read"),
) -> Response:
    """Show a preview or a sync, and ask for one."""
    found = await _job(hub, caller, job)
    return await tab(request, hub, caller, asset_id, "keys/page.html", job=found, fault=None)


@router.post("/keys")
async def ask_keys(
    request: Request,
    hub: TheHub,
    asset_id: str,
    user: Text,
    act: Text,
    caller: Caller = may_see("keys.sync"),
) -> Response:
    """Preview a key sync, or do it."""
    do = keys_api.sync_keys if act == "sync" else keys_api.preview_sync
    try:
        made = await do(hub, asset_id, checked(keys_api.KeysIn, user=user), caller)
    except HubError as fault:
        return await tab(request, hub, caller, asset_id, "keys/page.html", job=None, fault=fault)
    return RedirectResponse(f"/agents/{asset_id}/keys?job={made.id}", 303)


async def _asked(
    request: Request,
    hub: TheHub,
    caller: Caller,
    asset_id: str,
    ask: Callable[[], Awaitable[JobOut]],
    text: str | None = None,
) -> Response:
    try:
        made = await ask()
    except HubError as fault:
        return await _cron(request, hub, caller, asset_id, fault=fault, text=text)
    return RedirectResponse(f"/agents/{asset_id}/cron?job={made.id}", 303)


async def _cron(
    request: Request,
    hub: TheHub,
    caller: Caller,
    asset_id: str,
    *,
    job: Job | None = None,
    draft: cron_api.DraftOut | None = None,
    fault: HubError | None = None,
    text: str | None = None,
    expected: str | None = None,
) -> Response:
    known = await cron_api.show_crontab(hub, asset_id, caller)
    history = await cron_api.list_crontabs(hub, asset_id, limit=20, caller=caller)
    digest = known.version.digest if known.version else ""
    return await tab(
        request,
        hub,
        caller,
        asset_id,
        "cron/page.html",
        known=known,
        history=history.items,
        draft=draft,
        fault=fault,
        job=job,
        text=known.text if text is None else text,
        expected=digest if expected is None else expected,
    )


async def _job(hub: TheHub, caller: Caller, job_id: str) -> Job | None:
    if not job_id:
        return None
    return await hub.database.read(caller.scope, jobs.get, job_id)


def _lines(text: str) -> str:
    """Return a form's text with the line ends that a crontab has."""
    plain = text.replace("\r\n", "\n")
    return plain if not plain or plain.endswith("\n") else f"{plain}\n"
