"""One row of every tenant's table, made from the tables themselves: what two tenants have alike.

Rules: a column that is an enumeration has its value in VALUES; other texts carry a marker that is
the tenant's own, so that a marker in somebody else's answer is a leak; parents are made first.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary, String, Table
from sqlalchemy.orm import Session

from hub.ids import new_id
from hub.metadata import METADATA

VALUES: dict[str, Any] = {
    "users.role": "auditor",
    "users.disabled_ms": None,
    "logins.kind": "token",
    "logins.role": "auditor",
    "jobs.kind": "admin",
    "crontabs.origin": "seen",
    "jobs.state": "queued",
    "jobs.when_offline": "queue",
    "agents.state": "active",
    "backup_plans.state": "planned",
    "assets.presence": "online",
    "commands.state": "pending",
}
LISTS = ("tags", "auto_approve_tags")
LEFT_OUT = {"audit", "audit_heads", "audit_seals"}
"""Made by what the hub does, and checked as chains."""


class Seeds:
    """The rows of one tenant; `ids` is table -> primary key."""

    def __init__(self, session: Session, tenant_id: str, marker: str) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._marker = marker
        self._made = sum(marker.encode()) * 1000
        self.ids: dict[str, Any] = {"tenants": tenant_id}
        for table in METADATA.sorted_tables:
            if "tenant_id" in table.columns and table.name not in LEFT_OUT:
                self._row(table)

    def _row(self, table: Table) -> None:
        row = {column.name: self._value(table, column) for column in table.columns}
        self._session.execute(table.insert().values(row))
        key = [column.name for column in table.primary_key.columns]
        self.ids[table.name] = row[key[0]] if len(key) == 1 else None

    def _value(self, table: Table, column: Column[Any]) -> Any:
        name = f"{table.name}.{column.name}"
        if column.name == "tenant_id":
            return self._tenant_id
        if name in VALUES:
            return VALUES[name]
        if column.foreign_keys:
            parent = next(iter(column.foreign_keys)).column.table.name
            return self.ids.get(parent)
        if column.nullable:
            return None
        return self._filler(column)

    def _filler(self, column: Column[Any]) -> Any:
        self._made += 1
        if column.primary_key and isinstance(column.type, String):
            return new_id()
        if isinstance(column.type, JSON):
            return [] if column.name in LISTS else {}
        if isinstance(column.type, Boolean):
            return False
        if isinstance(column.type, Float):
            return 0.0
        if isinstance(column.type, Integer):
            return self._made
        text = f"{self._marker}{self._made}"
        if isinstance(column.type, LargeBinary):
            return text.encode()
        return text[: column.type.length or 64] if isinstance(column.type, String) else text
