"""What a machine was made of, and when it changed.

Rules: a version is kept when its digest differs from the newest one's; the newest `KEPT` stay. The
digest is worked out here; what the agent says of it only decides whether the inventory is wanted.
Source: contract part 2 (`inventory_digest`, `want_inventory`); issue 5 "Heartbeat link".
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.agents.models import Asset
from hub.clock import now_ms
from hub.errors import NotFoundError
from hub.heartbeat.identification import Known
from hub.heartbeat.models import InventoryVersion
from hub.ids import new_id
from wire.inventory import Inventory, digest

KEPT = 100
# What makes an entry of a list the same entry, before and after.
_KEYS = {
    "disks": ("mount",),
    "interfaces": ("name",),
    "packages": ("name", "arch", "source"),
    "services": ("name",),
    "users": ("name",),
    "timers": ("source", "name", "user"),
}
_OBJECTS = ("agent", "os", "hardware")


def keep(session: Session, known: Known, inventory: Inventory) -> str:
    """Keep an inventory where it is new; return its digest."""
    found = digest(inventory)
    newest = session.scalar(
        select(InventoryVersion.digest)
        .where(InventoryVersion.asset_id == known.asset_id)
        .order_by(InventoryVersion.id.desc())
        .limit(1)
    )
    if newest == found:
        return found
    session.add(
        InventoryVersion(
            id=new_id(),
            tenant_id=known.tenant_id,
            asset_id=known.asset_id,
            digest=found,
            seen_ms=now_ms(),
            body=zlib.compress(msgspec.json.encode(inventory, order="sorted")),
        )
    )
    session.flush()
    _forget_oldest(session, known.asset_id)
    _tell_asset(session, known.asset_id, inventory)
    return found


def versions(session: Session, asset_id: str) -> list[InventoryVersion]:
    """Return what is kept of an asset, newest first.

    Raises:
        NotFoundError: there is no such asset in the session's tenant.
    """
    if session.scalar(select(Asset.id).where(Asset.id == asset_id)) is None:
        raise NotFoundError("there is no such agent")
    query = select(InventoryVersion).where(InventoryVersion.asset_id == asset_id)
    return list(session.scalars(query.order_by(InventoryVersion.id.desc())))


def version(session: Session, asset_id: str, version_id: str | None) -> InventoryVersion:
    """Return one version, the newest for None.

    Raises:
        NotFoundError: there is none.
    """
    for one in versions(session, asset_id):
        if version_id in (None, one.id):
            return one
    raise NotFoundError("there is no such inventory")


def body(kept: InventoryVersion) -> dict[str, Any]:
    """Return a version's inventory as JSON has it."""
    found: dict[str, Any] = json.loads(zlib.decompress(kept.body))
    return found


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell what changed from one inventory to another.

    Returns:
        entries of `section`, `change` (`added`, `removed`, `changed`), `key`, `before`, `after`.
    """
    changes: list[dict[str, Any]] = []
    for section in _OBJECTS:
        old, new = before.get(section, {}), after.get(section, {})
        keys = sorted({*old, *new})
        changes += [_change(section, key, old.get(key), new.get(key)) for key in keys]
    for section, named_by in _KEYS.items():
        old, new = _by_key(before, section, named_by), _by_key(after, section, named_by)
        names = sorted({*old, *new})
        changes += [_change(section, name, old.get(name), new.get(name)) for name in names]
    return [change for change in changes if change["before"] != change["after"]]


def _by_key(inventory: dict[str, Any], section: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a list's entries by name; several of one name are told apart by their number."""
    found: dict[str, Any] = {}
    for entry in inventory.get(section, []):
        name = " ".join(str(entry[key]) for key in keys if entry.get(key) is not None)
        count = 2
        unique = name
        while unique in found:
            unique, count = f"{name} #{count}", count + 1
        found[unique] = entry
    return found


def _change(section: str, key: str, old: Any, new: Any) -> dict[str, Any]:
    kind = "added" if old is None else "removed" if new is None else "changed"
    return {"section": section, "change": kind, "key": key, "before": old, "after": new}


def _forget_oldest(session: Session, asset_id: str) -> None:
    ids = session.scalars(
        select(InventoryVersion.id)
        .where(InventoryVersion.asset_id == asset_id)
        .order_by(InventoryVersion.id.desc())
        .offset(KEPT)
    ).all()
    if ids:
        session.execute(delete(InventoryVersion).where(InventoryVersion.id.in_(ids)))


def _tell_asset(session: Session, asset_id: str, inventory: Inventory) -> None:
    """Keep what lists of machines show up to date."""
    asset = session.get(Asset, asset_id)
    if asset is None:
        return
    asset.release = (inventory.os.name or asset.release or "")[:128] or None
    asset.agent_version = inventory.agent.version[:64]
