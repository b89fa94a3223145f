"""What is wrong, as the database shows it now.

Rules: each condition finds every machine that has the trouble, so that what it does not find is
over; a machine that is only just in trouble is left a while (offline), and one that is only just
out of it, too (disk). Only machines with an active credential count.
Source: issue "Alerts"; product "Complaints" (backups fail silently).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, defer

from hub.agents.models import Agent, Asset
from hub.alerts.models import Alert
from hub.backup.models import BackupPlan
from hub.clock import iso, iso_or_none
from hub.heartbeat.models import Certificate

OFFLINE_AFTER_MS = 5 * 60_000
DISK_FULL_PERCENT = 90.0
DISK_CALM_PERCENT = 87.0
BACKUP_QUIET_MS = 60_000
"""A backup that has said something of late is running."""
CERTIFICATE_LEFT = 6
"""A certificate is renewed when a third of its life is left; with a sixth, something is wrong."""


class Trouble(NamedTuple):
    """One machine's trouble. `key` tells it from every other of the tenant."""

    tenant_id: str
    asset_id: str | None
    asset_name: str
    kind: str
    key: str
    summary: str


def offline(session: Session, now_ms: int) -> Iterable[Trouble]:
    """Find machines that have been away for a while."""
    is_away = and_(Asset.presence == "offline", Asset.presence_since_ms < now_ms - OFFLINE_AFTER_MS)
    for asset in _assets(session, is_away):
        assert asset.presence_since_ms is not None
        yield _of(asset, "offline", f"offline since {iso(asset.presence_since_ms)}")


def conflict(session: Session, _now_ms: int) -> Iterable[Trouble]:
    """Find identities that two machines use."""
    for asset in _assets(session, Asset.presence == "conflict"):
        yield _of(asset, "identity_conflict", "two machines use this identity; no jobs are sent")


def disk(session: Session, _now_ms: int) -> Iterable[Trouble]:
    """Find disks that fill up."""
    known = select(Alert.asset_id).where(Alert.kind == "disk_filling", Alert.open_key.is_not(None))
    is_full = or_(
        Asset.disk_percent >= DISK_FULL_PERCENT,
        and_(Asset.disk_percent >= DISK_CALM_PERCENT, Asset.id.in_(known)),
    )
    for asset in _assets(session, is_full):
        yield _of(asset, "disk_filling", f"the fullest disk is at {asset.disk_percent:.0f} %")


def backup_failed(session: Session, _now_ms: int) -> Iterable[Trouble]:
    """Find machines with a backup whose last run failed, or could not read everything."""
    for asset in _assets(session, Asset.last_backup_ok.is_(False)):
        yield _of(asset, "backup_failed", "the last backup failed, or is partial")


def backup_overdue(session: Session, now_ms: int) -> Iterable[Trouble]:
    """Find machines with a backup that did not run when its schedules say, or is too old."""
    is_quiet = or_(
        BackupPlan.progress_ms.is_(None), BackupPlan.progress_ms < now_ms - BACKUP_QUIET_MS
    )
    is_late = or_(BackupPlan.is_late.is_(True), and_(BackupPlan.overdue_ms < now_ms, is_quiet))
    late = and_(BackupPlan.removed_ms.is_(None), is_late)
    names: dict[str, list[str]] = {}
    for asset_id, name in session.execute(select(BackupPlan.asset_id, BackupPlan.name).where(late)):
        names.setdefault(asset_id, []).append(name)
    for asset in _assets(session, Asset.id.in_(select(BackupPlan.asset_id).where(late))):
        which, last = ", ".join(sorted(names[asset.id])), iso_or_none(asset.last_backup_ms)
        said = f"did not run when it should have: {which}; the last run: {last or 'never'}"
        yield _of(asset, "backup_overdue", said)


def certificate(session: Session, now_ms: int) -> Iterable[Trouble]:
    """Find machines whose newest certificate was not renewed when it should have been."""
    newest = (
        select(Certificate.agent_id, func.max(Certificate.not_after_ms).label("until"))
        .where(Certificate.revoked_ms.is_(None))
        .group_by(Certificate.agent_id)
        .subquery()
    )
    rows = session.execute(
        select(Asset, Certificate)
        .join(Agent, Agent.asset_id == Asset.id)
        .join(Certificate, Certificate.agent_id == Agent.id)
        .join(
            newest,
            and_(
                newest.c.agent_id == Certificate.agent_id,
                newest.c.until == Certificate.not_after_ms,
            ),
        )
        .where(Agent.state == "active", Asset.deleted_ms.is_(None))
        .where(
            (Certificate.not_after_ms - now_ms) * CERTIFICATE_LEFT
            < Certificate.not_after_ms - Certificate.not_before_ms
        )
    )
    for asset, found in rows:
        word = "expires" if found.not_after_ms > now_ms else "has expired"
        until = iso(found.not_after_ms)
        yield _of(asset, "certificate_expiring", f"its certificate {word}: {until}")


ALL: tuple[Callable[[Session, int], Iterable[Trouble]], ...] = (
    offline,
    conflict,
    disk,
    backup_failed,
    backup_overdue,
    certificate,
)


def find(session: Session, now_ms: int) -> dict[tuple[str, str], Trouble]:
    """Find all of it, by tenant and key."""
    found = (trouble for condition in ALL for trouble in condition(session, now_ms))
    return {(one.tenant_id, one.key): one for one in found}


def _assets(session: Session, which: ColumnElement[bool]) -> Iterable[Asset]:
    active = select(Agent.asset_id).where(Agent.state == "active")
    return session.scalars(
        select(Asset)
        .options(defer(Asset.sample))  # of every machine that is away, every few seconds
        .where(which, Asset.deleted_ms.is_(None), Asset.id.in_(active))
    )


def _of(asset: Asset, kind: str, summary: str) -> Trouble:
    return Trouble(asset.tenant_id, asset.id, asset.name, kind, f"{kind}:{asset.id}", summary)
