"""Routes of a machine's workers: list them, restart one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from hub.agents.workers import WorkersOut, ask, restart
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/agents/{asset_id}/workers", tags=["agents"])
AssetId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
WorkerId = Annotated[str, Path(max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


@router.get("")
async def list_workers(
    hub: TheHub, asset_id: AssetId, caller: Caller = may("workers.read")
) -> WorkersOut:
    """List a machine's workers."""
    return await ask(hub, caller, asset_id)


@router.post("/{worker_id}/restart", status_code=204)
async def restart_worker(
    hub: TheHub, asset_id: AssetId, worker_id: WorkerId, caller: Caller = may("workers.restart")
) -> None:
    """Restart one worker."""
    await restart(hub, caller, asset_id, worker_id)
