"""Routes of commands and their artifacts.

Source: docs/reference/http.rst; contract part 2.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from hub import pages
from hub.errors import BadRequestError, ForbiddenError, NotFoundError, TooLargeError
from hub.heartbeat import artifacts, command_requests, notices
from hub.heartbeat.agent_requests import (
    agent_may,
    answer,
    as_agent,
    documented,
    read_body,
)
from hub.heartbeat.artifact_store import Upload
from hub.heartbeat.artifacts import Sent
from hub.heartbeat.command_templates import TEMPLATES
from hub.heartbeat.identification import Shown
from hub.heartbeat.models import Artifact
from hub.ids import new_id
from hub.requests import Caller, TheHub, may, refused
from wire import paths
from wire.artifacts import DIGEST_HEADER, NAME_PATTERN, ArtifactResponse, read_digest
from wire.commands import CommandPage, CommandRequest, CommandState, CommandView
from wire.problem import Code

router = APIRouter(tags=["commands"])
AssetId = Annotated[str, Query(max_length=64)]


class TemplateView(BaseModel):
    """What an agent can be asked to collect; `params` is a JSON Schema."""

    command_type: str
    title: str
    about: str
    risk: str
    params: dict[str, Any]


@router.get(f"{paths.COMMANDS}/templates")
async def list_templates(caller: Caller = may("commands.read")) -> list[TemplateView]:
    """List what can be asked for."""
    del caller
    return [
        TemplateView(
            command_type=one.command_type.value,
            title=one.title,
            about=one.about,
            risk=one.risk,
            params=one.schema,
        )
        for one in TEMPLATES.values()
    ]


@router.post(paths.COMMANDS, **documented(CommandRequest, CommandView, 201))
async def request_command(
    hub: TheHub, request: Request, caller: Caller = may("commands.run")
) -> Response:
    """Ask an agent to collect something; 200 when the same was asked before."""
    asked = await read_body(request, CommandRequest)
    try:
        done = await hub.database.write(
            caller.scope,
            command_requests.request,
            caller,
            asked,
            is_linked=hub.links.of(asked.asset_id) is not None,
        )
    except ForbiddenError as error:
        await refused(hub, caller, "command.requested", error, asset=asked.asset_id)
        raise
    if done.is_new:
        notices.moved(hub, done.command)
        await notices.wanted(hub, done.command)
    return answer(command_requests.view(done.command), 201 if done.is_new else 200)


@router.get(paths.COMMANDS, **documented(None, CommandPage))
async def list_commands(
    hub: TheHub,
    asset_id: AssetId | None = None,
    state: CommandState | None = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
    caller: Caller = may("commands.read"),
) -> Response:
    """List commands, newest first."""
    rows, following = await hub.database.read(
        caller.scope, command_requests.page, asset_id, state, limit, cursor
    )
    return answer(CommandPage(items=tuple(map(command_requests.view, rows)), next=following))


@router.get(f"{paths.COMMANDS}/{{command_id}}", **documented(None, CommandView))
async def read_command(
    hub: TheHub, command_id: str, caller: Caller = may("commands.read")
) -> Response:
    """Read a command."""
    found = await hub.database.read(caller.scope, command_requests.get, command_id)
    return answer(command_requests.view(found))


@router.post(f"{paths.COMMANDS}/{{command_id}}/cancel", **documented(None, CommandView))
async def cancel_command(
    hub: TheHub, command_id: str, caller: Caller = may("commands.run")
) -> Response:
    """End a command that has not ended."""
    ended = await hub.database.write(caller.scope, command_requests.cancel, caller, command_id)
    notices.moved(hub, ended)
    return answer(command_requests.view(ended))


@router.post(paths.ARTIFACTS, **documented(None, ArtifactResponse, 201))
async def store_artifact(
    hub: TheHub,
    request: Request,
    command_id: Annotated[str, Query(max_length=64)],
    name: Annotated[str, Query(pattern=rf"^{NAME_PATTERN}$")],
    shown: Shown = agent_may("agent.beat"),
) -> Response:
    """Take a large result in; 200 when it is here already."""
    wanted = read_digest(request.headers.get(DIGEST_HEADER, ""))
    if wanted is None or re.fullmatch(NAME_PATTERN, name) is None:
        raise BadRequestError(f"{DIGEST_HEADER}: sha-256 is needed", code=Code.BAD_DIGEST)
    await as_agent(
        hub,
        shown,
        "artifact.stored",
        lambda session, known: artifacts.check(session, known, command_id),
    )
    upload = hub.artifacts.begin(artifact_id := new_id())
    try:
        await _receive(request, upload, hub.settings.artifact_max_bytes)
        if upload.sha256() != wanted:
            said = f"the body is not what {DIGEST_HEADER} says"
            raise BadRequestError(said, code=Code.BAD_DIGEST)
        await asyncio.to_thread(upload.commit)
    except BaseException:
        upload.abort()
        raise
    sent = Sent(artifact_id, command_id, name, wanted.hex(), upload.size_bytes)
    try:
        row, is_new = await as_agent(
            hub,
            shown,
            "artifact.stored",
            lambda session, known: artifacts.add(session, known, sent),
        )
    except BaseException:
        hub.artifacts.delete(artifact_id)
        raise
    if not is_new:
        hub.artifacts.delete(artifact_id)
    body = ArtifactResponse(artifact_id=row.id, sha256=row.sha256, size_bytes=row.size_bytes)
    return answer(body, 201 if is_new else 200)


@router.get(f"{paths.ARTIFACTS}/{{artifact_id}}", response_class=FileResponse)
async def read_artifact(
    hub: TheHub, artifact_id: str, caller: Caller = may("commands.read")
) -> FileResponse:
    """Download an artifact."""
    found: Artifact = await hub.database.read(caller.scope, artifacts.get, artifact_id)
    path = hub.artifacts.path(found.id)
    if path is None:
        raise NotFoundError("there is no such artifact")
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=found.name,
        headers={"X-Content-Type-Options": "nosniff", "X-Sha256": found.sha256},
    )


async def _receive(request: Request, upload: Upload, max_bytes: int) -> None:
    async for chunk in request.stream():
        upload.write(chunk)
        if upload.size_bytes > max_bytes:
            raise TooLargeError(f"an artifact has at most {max_bytes} bytes")
