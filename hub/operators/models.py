"""Tenants, users, and what they log in with.

Rules: passwords as argon2 hashes; sessions and API tokens as SHA-256; TOTP secrets sealed with the
keyring (owner `user:<id>`). A user belongs to one tenant.
"""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.tables import ID_CHARS, Table, TenantOwned


class Tenant(Table):
    """An organisation whose machines and people no other sees."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_ms: Mapped[int]
    disabled_ms: Mapped[int | None]
    deleted_ms: Mapped[int | None]
    enforces_mtls: Mapped[bool] = mapped_column(default=False)
    alert_url: Mapped[str | None]


class User(TenantOwned, Table):
    """A person."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None]
    totp_sealed: Mapped[str | None]
    totp_pending_sealed: Mapped[str | None]
    """A secret that was shown and not yet confirmed by a code."""
    totp_last_step: Mapped[int] = mapped_column(default=0)
    created_ms: Mapped[int]
    disabled_ms: Mapped[int | None]


class Login(TenantOwned, Table):
    """A session or an API token: something that is shown instead of a password."""

    __tablename__ = "logins"

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`session` (a browser or the command line) or `token` (a program)."""
    label: Mapped[str] = mapped_column(String(128), default="")
    role: Mapped[str] = mapped_column(String(16))
    """The most that it may do; what counts is the lesser of this and the user's."""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_ms: Mapped[int]
    used_ms: Mapped[int | None]
    expires_ms: Mapped[int | None]
    revoked_ms: Mapped[int | None]


class DeviceCode(Table):
    """A code that a person approves (RFC 8628). No tenant's until then.

    `digest` is of the device's own secret, `user_code` what the person types.
    """

    __tablename__ = "device_codes"

    id: Mapped[str] = mapped_column(String(ID_CHARS), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_code: Mapped[str] = mapped_column(String(16), unique=True)
    client_id: Mapped[str] = mapped_column(String(16))
    """`cli` or `agent`."""
    tenant_name: Mapped[str | None] = mapped_column(String(64))
    """The tenant that it was asked for, where it said one: no other may approve it."""
    key_thumbprint: Mapped[str | None] = mapped_column(String(64))
    hostname: Mapped[str | None] = mapped_column(String(256))
    platform: Mapped[str | None] = mapped_column(String(256))
    address: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    """`pending`, `approved`, `denied` or `used`."""
    interval_s: Mapped[int]
    polled_ms: Mapped[int | None]
    created_ms: Mapped[int]
    expires_ms: Mapped[int] = mapped_column(index=True)
    approved_ms: Mapped[int | None]
    approved_by: Mapped[str | None] = mapped_column(String(ID_CHARS))
    approved_role: Mapped[str | None] = mapped_column(String(16))
    tenant_id: Mapped[str | None] = mapped_column(String(ID_CHARS))
    """The approver's."""
