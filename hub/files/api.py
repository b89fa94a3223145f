"""One directory of a machine, by HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from hub.files.listing import list_directory
from hub.files.views import DirectoryOut
from hub.requests import Caller, TheHub, may

router = APIRouter(prefix="/api/v1/agents/{asset_id}/files", tags=["files"])
AssetId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


@router.get("")
async def list_files(
    hub: TheHub,
    asset_id: AssetId,
    path: Annotated[str, Query(min_length=1, max_length=4096)],
    caller: Caller = may("files.read"),
) -> DirectoryOut:
    """List one directory of a machine."""
    return DirectoryOut.of(await list_directory(hub, caller, asset_id, path))
