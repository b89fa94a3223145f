"""Ask a machine for one directory. Source: contract 1.2, 1.6; `dirBrowse.allowedRoots` decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from hub.agents import service
from hub.audit import service as audit
from hub.authorize import Principal
from wire.files import DirListRequest, DirListResponse

if TYPE_CHECKING:
    from hub.assembly import Hub


async def list_directory(hub: Hub, who: Principal, asset_id: str, path: str) -> DirListResponse:
    """List a directory; what the machine refuses stands in the answer's `error`.

    Raises:
        NotFoundError: no such machine; and what `Answers.ask` raises.
    """
    await hub.database.write(who.scope, _note, asset_id, who, path)
    request_id = hub.answers.new_id()
    question = DirListRequest(client_id=who.name, request_id=request_id, mode="local", path=path)
    found: DirListResponse = await hub.answers.ask(asset_id, request_id, question)
    return found


def _note(session: Session, asset_id: str, who: Principal, path: str) -> None:
    asset = service.get_asset(session, asset_id)
    audit.record(
        session, asset.tenant_id, who, "files.read", of=("asset", asset.id), path=path[:512]
    )
