"""What runs by itself: commands expire, artifacts are forgotten, links without their certificate
are cut, tenants' policies are looked at.

Rules: one loop; a database that does not answer is tried again at the next round.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from hub.errors import HubError
from hub.heartbeat import artifacts, command_progress, liveness, notices, policies
from hub.operators.models import Tenant
from wire.problem import Code

if TYPE_CHECKING:
    from hub.assembly import Hub

EVERY_S = 5.0
ARTIFACTS_EVERY_S = 600.0
UPLOAD_S = 3600.0
"""Bytes without a row are somebody's upload for so long."""
_log = structlog.get_logger()


async def run(hub: Hub) -> None:
    """Keep going until cancelled."""
    waited_s = ARTIFACTS_EVERY_S
    while True:
        try:
            hub.beats.policies.know(await hub.database.read(None, policies.read))
            await expire(hub)
            await cut_uncertified(hub)
            await notice_silence(hub)
            if waited_s >= ARTIFACTS_EVERY_S:
                await forget_artifacts(hub)
                waited_s = 0.0
        except HubError as error:
            _log.warning("upkeep of commands failed", code=error.code)
        await asyncio.sleep(EVERY_S)
        waited_s += EVERY_S


async def expire(hub: Hub) -> None:
    """End the commands whose time is over."""
    while ended := await hub.database.write(None, command_progress.expire):
        for command in ended:
            notices.moved(hub, command)


async def notice_silence(hub: Hub) -> None:
    """Tell which machines are there no more."""
    notices.silent(hub, await hub.database.read(None, liveness.silent))


async def cut_uncertified(hub: Hub) -> None:
    """Cut the links without a certificate of tenants that have come to ask for them."""
    links = [link for link in hub.links.all() if not link.is_certified]
    if not links:
        return
    query = select(Tenant.id).where(Tenant.enforces_mtls)
    enforcing = set(await hub.database.read(None, lambda session: list(session.scalars(query))))
    for link in links:
        if link.tenant_id in enforcing:
            await hub.links.cut(link.agent_id, Code.BEARER_RETIRED)


async def forget_artifacts(hub: Hub) -> None:
    """Remove artifacts that are older than they may be, and bytes that belong to none."""
    while ids := await hub.database.write(None, artifacts.outdated, hub.settings.artifacts_days):
        for artifact_id in ids:
            await asyncio.to_thread(hub.artifacts.delete, artifact_id)
    settled = await asyncio.to_thread(hub.artifacts.older_than, UPLOAD_S)
    for artifact_id in await hub.database.read(None, artifacts.without_row, settled):
        await asyncio.to_thread(hub.artifacts.delete, artifact_id)
