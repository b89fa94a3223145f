"""A tenant's policy: one document, replaced as a whole."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class TenantPolicy(TenantOwned, Table):
    """What this tenant narrows; `version` counts the replacements."""

    __tablename__ = "tenant_policies"

    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    document: Mapped[dict[str, Any]]
    version: Mapped[int]
    changed_ms: Mapped[int]
    changed_by: Mapped[str] = mapped_column(String(256))
