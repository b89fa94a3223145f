"""Alerts in the database: raised once, seen again, acknowledged, resolved; and a tenant's target.

Rules: an alert that is open stays one row however often its trouble is seen; resolving frees its
key, so that the next time is a new alert. A message is due once for each of raised and resolved;
what was never told as raised is not told as resolved. The target is sealed (its owner is
`alerts:<tenant>`) and shown by its scheme alone: every other part of it may be a secret.
"""

from __future__ import annotations

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.alerts.conditions import Trouble
from hub.alerts.models import Alert
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.rows import affected
from hub.errors import BadRequestError, ConflictError, NotFoundError
from hub.ids import first_of, new_id
from hub.keyring import Keyring
from hub.operators.models import Tenant

MAX_TRIES = 8
FIRST_WAIT_MS = 10_000
LEASE_MS = 60_000
SEEN_EVERY_MS = 60_000
AT_ONCE = 100
CHANGED_AT_ONCE = 500
"""A network that fails takes every machine with it: others write in between."""
# What Apprise would show or run on the hub's own machine.
LOCAL_SCHEMES = frozenset(
    {"dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"}
)


def reconcile(session: Session, found: dict[tuple[str, str], Trouble]) -> tuple[list[Alert], bool]:
    """Bring the alerts to what was found, a bounded number of them.

    Returns:
        those that changed, and whether there is more to do.
    """
    now = now_ms()
    known = {
        (alert.tenant_id, alert.open_key or ""): alert
        for alert in session.scalars(select(Alert).where(Alert.open_key.is_not(None)))
    }
    over = [alert for key, alert in known.items() if key not in found]
    fresh = [trouble for key, trouble in found.items() if key not in known]
    changed = [_resolve(alert, now) for alert in over[:CHANGED_AT_ONCE]]
    for trouble in fresh[:CHANGED_AT_ONCE]:
        changed += _raise(session, trouble, now)
    for key, alert in known.items():
        if key in found and now - alert.seen_ms >= SEEN_EVERY_MS:
            alert.seen_ms, alert.summary = now, found[key].summary[:500]
    session.flush()
    for alert in changed:
        word = "alert.raised" if alert.resolved_ms is None else "alert.resolved"
        of = ("alert", alert.id)
        audit.record(session, alert.tenant_id, audit.SYSTEM, word, of=of, kind=alert.kind)
    return changed, max(len(over), len(fresh)) > CHANGED_AT_ONCE


def count_open(session: Session) -> int:
    """Count what is wrong and nobody looks after yet."""
    found = select(func.count()).select_from(Alert)
    where = (Alert.resolved_ms.is_(None), Alert.acknowledged_ms.is_(None))
    return session.scalars(found.where(*where)).one()


def acknowledge(session: Session, who: Principal, alert_id: str) -> Alert:
    """Note that somebody has seen it.

    Raises:
        NotFoundError: no such alert; ConflictError: `already_ended`.
    """
    alert = session.scalar(select(Alert).where(Alert.id == alert_id))
    if alert is None:
        raise NotFoundError("there is no such alert")
    if alert.resolved_ms is not None:
        raise ConflictError("the alert is resolved already", code="already_ended")
    if alert.acknowledged_ms is None:
        alert.acknowledged_ms, alert.acknowledged_by = now_ms(), who.name[:256]
        session.flush()
        of = ("alert", alert.id)
        audit.record(session, alert.tenant_id, who, "alerts.write", of=of, act="acknowledge")
    return alert


def set_target(
    session: Session, keyring: Keyring, who: Principal, tenant_id: str, url: str | None
) -> None:
    """Set, or take away, where a tenant's alerts go.

    Raises:
        NotFoundError: no such tenant; BadRequestError: `bad_target`.
    """
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        raise NotFoundError("there is no such tenant")
    if url is not None:
        check_target(url)
    tenant.alert_url = None if url is None else keyring.seal(url, _owner(tenant_id))
    session.flush()
    of = ("tenant", tenant_id)
    shown = None if url is None else shown_target(url)
    audit.record(session, tenant_id, who, "alerts.write", of=of, act="target", target=shown)


def target(session: Session, keyring: Keyring, tenant_id: str) -> str | None:
    """Return where a tenant's alerts go; a secret."""
    tenant = session.get(Tenant, tenant_id)
    if tenant is None or tenant.alert_url is None:
        return None
    return keyring.unseal(tenant.alert_url, _owner(tenant_id))


def check_target(url: str) -> None:
    """Refuse what is no address of a service.

    Raises:
        BadRequestError: `bad_target`.
    """
    import apprise

    scheme = url.partition("://")[0].lower()
    if scheme in LOCAL_SCHEMES or apprise.Apprise.instantiate(url) is None:
        raise BadRequestError("url: no address that Apprise knows", code="bad_target")


def shown_target(url: str) -> str:
    """Return what may be shown of an address."""
    return url.partition("://")[0] + "://****"


def due(session: Session) -> list[Alert]:
    """Take the messages that are due; another process finds them taken for a minute."""
    now = now_ms()
    alerts = list(
        session.scalars(
            select(Alert)
            .where(Alert.next_try_ms <= now)
            .order_by(Alert.next_try_ms)
            .limit(AT_ONCE)
            .with_for_update(skip_locked=True)
        )
    )
    for alert in alerts:
        alert.next_try_ms = now + LEASE_MS
    session.flush()
    return alerts


def told(session: Session, alert_id: str, *, as_resolved: bool) -> None:
    """Note that a message has left; the other one may be due behind it."""
    alert = session.get(Alert, alert_id, populate_existing=True)
    if alert is None:
        return
    now = now_ms()
    if as_resolved:
        alert.resolved_told_ms = now
    else:
        alert.raised_told_ms = now
    is_more = alert.resolved_ms is not None and alert.resolved_told_ms is None
    alert.next_try_ms, alert.tries = (now if is_more else None), 0


def not_told(session: Session, alert_id: str) -> None:
    """Note that a message did not leave: later, then ever later, then never."""
    alert = session.get(Alert, alert_id, populate_existing=True)
    if alert is not None:
        alert.tries += 1
        wait_ms = FIRST_WAIT_MS * 3 ** (alert.tries - 1)
        alert.next_try_ms = None if alert.tries >= MAX_TRIES else now_ms() + wait_ms


def nobody_to_tell(session: Session, alert_id: str) -> None:
    """Note that the tenant has no target: the alert stands in the list alone."""
    affected(session, update(Alert).where(Alert.id == alert_id).values(next_try_ms=None))


def forget(session: Session, before_ms: int) -> int:
    """Drop alerts that were resolved before a time, a bounded number of rows; return how many."""
    old = select(Alert.id).where(Alert.id < first_of(before_ms), Alert.resolved_ms < before_ms)
    ids = old.order_by(Alert.id).limit(CHANGED_AT_ONCE)
    return affected(session, delete(Alert).where(Alert.id.in_(ids)))


def _raise(session: Session, trouble: Trouble, now: int) -> list[Alert]:
    alert = Alert(
        id=new_id(),
        tenant_id=trouble.tenant_id,
        asset_id=trouble.asset_id,
        asset_name=trouble.asset_name,
        kind=trouble.kind,
        open_key=trouble.key,
        summary=trouble.summary[:500],
        raised_ms=now,
        seen_ms=now,
        tries=0,
        next_try_ms=now,
    )
    try:
        with session.begin_nested():
            session.add(alert)
            session.flush()
    except IntegrityError:
        return []  # another process was first
    return [alert]


def _resolve(alert: Alert, now: int) -> Alert:
    alert.open_key, alert.resolved_ms = None, now
    alert.tries, alert.next_try_ms = 0, now if alert.raised_told_ms is not None else None
    return alert


def _owner(tenant_id: str) -> str:
    return f"alerts:{tenant_id}"
