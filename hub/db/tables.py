"""What every table shares: the declarative base, tenancy, column types.

Rules: stamps are whole milliseconds, named `*_ms`; ids are texts from `hub.ids`; a table that
belongs to a tenant derives from `TenantOwned`, and is then narrowed to the unit of work's tenant by
`hub.db.database` whatever the query says, and by row-level security on PostgreSQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID_CHARS = 64
# A key that the database counts up; SQLite counts only what it calls INTEGER.
SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")


class Table(DeclarativeBase):
    """The base of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        int: BigInteger(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
        list[Any]: JSON(),
    }


class TenantOwned:
    """A row that belongs to one tenant."""

    tenant_id: Mapped[str] = mapped_column(String(ID_CHARS), index=True)
