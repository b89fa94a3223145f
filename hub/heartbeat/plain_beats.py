"""Beats that only report: most of them, taken many at once by a handful of statements.

Rules: plain is a beat by bearer token, of an active agent whose tenant enforces no certificates,
that names its sender, came not before, brings no result and no inventory, and finds no command
waiting; of several beats of one agent only the first. All others are None here, and are taken one
by one (hub.heartbeat.beats): what a beat means stands there, this is the same in fewer statements.
Source: issue 5 "Benchmark"; figures: `python -m bench.beats`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import JSON, BigInteger, Float, String, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from hub import tokens
from hub.agents.models import Agent, Asset
from hub.heartbeat import boots, samples
from hub.heartbeat.identification import BEARER_PREFIX, Known, Shown
from hub.heartbeat.models import Command, Enrolment
from hub.operators.models import Tenant
from wire.heartbeat import HeartbeatRequest

E, A, M, T, C = (table.__table__.c for table in (Enrolment, Agent, Asset, Tenant, Command))
_SENDERS = (
    select(
        E.bearer_digest, E.boots, E.closed_ms, E.inventory_digest, M.presence,
        A.id, A.client_id, A.asset_id, A.tenant_id, M.name, A.state, T.enforces_mtls, M.tags,
    )
    .join_from(Enrolment.__table__, Agent.__table__, A.id == E.agent_id)
    .join(Asset.__table__, M.id == A.asset_id)
    .join(Tenant.__table__, T.id == A.tenant_id)
    .where(
        E.bearer_digest.in_(bindparam("digests", expanding=True)),
        A.state == "active",
        T.disabled_ms.is_(None),
        T.enforces_mtls.is_(False),
    )
    .order_by(M.id)  # locked in this order: beats at two hub processes wait for one another
    .with_for_update(of=(Enrolment.__table__, Asset.__table__))
)  # fmt: skip
_DUE = select(C.asset_id).where(
    C.asset_id.in_(bindparam("assets", expanding=True)),
    C.state.in_(("requested", "accepted", "running")),
    C.expires_ms > bindparam("at_ms"),
    or_(C.leased_ms.is_(None), C.leased_ms <= bindparam("at_ms")),
)
_ENROLMENTS = (
    update(Enrolment.__table__)  # type: ignore[arg-type]
    .where(E.agent_id == bindparam("of_agent"))
    .values(
        boots=bindparam("now_boots", type_=JSON()),
        boot_id=bindparam("now_boot", type_=String()),
        beat_ms=bindparam("now_beat", type_=BigInteger()),
        closed_ms=bindparam("now_closed", type_=BigInteger()),
    )
)
_SEEN = (
    update(Asset.__table__)  # type: ignore[arg-type]
    .where(M.id == bindparam("of_asset"))
    .values(seen_ms=bindparam("now_seen", type_=BigInteger()))
)
_SHOWN = _SEEN.values(
    sample=bindparam("now_sample", type_=JSON()),
    **{name: bindparam(f"now_{name}", type_=Float()) for name in samples.FIGURES_OF_ASSET},
    **{
        name: func.coalesce(bindparam(f"now_{name}", type_=String()), M[name])
        for name in samples.TEXTS_OF_ASSET
    },
)


class Asked(NamedTuple):
    """A beat, and what it shows."""

    shown: Shown
    beat: HeartbeatRequest


class Stored(NamedTuple):
    """A plain beat that is stored."""

    known: Known
    presence: str
    wants_inventory: bool


class _Plain(NamedTuple):
    sender: Any
    beat: HeartbeatRequest
    boots: dict[str, list[int]]


def store(session: Session, asked: Sequence[Asked], at_ms: int) -> list[Stored | None]:
    """Store the plain ones of some beats; None for each of the others."""
    plain = _plain(session, asked, at_ms)
    if plain:
        _write(session, list(plain.values()), at_ms)
    return [
        _stored(plain[number], asked[number]) if number in plain else None
        for number in range(len(asked))
    ]


def _plain(session: Session, asked: Sequence[Asked], at_ms: int) -> dict[int, _Plain]:
    digests = {number: digest for number, one in enumerate(asked) if (digest := _digest(one))}
    if not digests:
        return {}
    rows = session.execute(_SENDERS, {"digests": sorted(set(digests.values()))})
    senders = {row.bearer_digest: row for row in rows}
    due = _due(session, [row.asset_id for row in senders.values()], at_ms)
    found: dict[int, _Plain] = {}
    taken: set[str] = set()
    for number, digest in digests.items():
        sender, beat = senders.get(digest), asked[number].beat
        if sender is None or sender.id in taken:
            continue
        taken.add(sender.id)
        if sender.client_id != beat.agent_id or sender.asset_id in due:
            continue
        if (after := boots.after(sender.boots, beat)) is not None:
            found[number] = _Plain(sender, beat, after)
    return found


def _digest(one: Asked) -> str | None:
    """Return what to look a plain beat's sender up by."""
    is_plain = not (one.shown.is_certified or one.beat.command_results or one.beat.inventory)
    text = one.shown.bearer
    if not is_plain or text is None or not tokens.is_token(BEARER_PREFIX, text):
        return None
    return tokens.digest(text)


def _due(session: Session, asset_ids: list[str], at_ms: int) -> set[str]:
    if not asset_ids:
        return set()
    return set(session.scalars(_DUE, {"assets": asset_ids, "at_ms": at_ms}))


def _write(session: Session, plain: list[_Plain], at_ms: int) -> None:
    session.execute(
        _ENROLMENTS,
        [
            {
                "of_agent": one.sender.id,
                "now_boots": one.boots,
                "now_boot": one.beat.boot_id,
                "now_beat": at_ms,
                "now_closed": one.sender.closed_ms or at_ms,
            }
            for one in plain
        ],
    )
    with_samples = [one for one in plain if one.beat.metrics]
    samples.store(
        session,
        [(one.sender.tenant_id, one.sender.asset_id, one.beat.metrics) for one in with_samples],
        at_ms,
    )
    if with_samples:
        session.execute(_SHOWN, [_shown(one, at_ms) for one in with_samples])
    silent = [
        {"of_asset": one.sender.asset_id, "now_seen": at_ms}
        for one in plain
        if not one.beat.metrics
    ]
    if silent:
        session.execute(_SEEN, silent)


def _shown(one: _Plain, at_ms: int) -> dict[str, Any]:
    row: dict[str, Any] = {"of_asset": one.sender.asset_id, "now_seen": at_ms}
    row |= {f"now_{name}": None for name in samples.TEXTS_OF_ASSET}
    told = samples.told(one.beat.metrics[-1])
    return row | {f"now_{name}": value for name, value in told.items()}


def _stored(one: _Plain, asked: Asked) -> Stored:
    sender, said = one.sender, one.beat.inventory_digest
    known = Known(
        sender.id, sender.client_id, sender.asset_id, sender.tenant_id, sender.name, sender.state,
        sender.enforces_mtls, tuple(sender.tags), asked.shown.address,
    )  # fmt: skip
    wants = said is not None and said != sender.inventory_digest
    return Stored(known, sender.presence, wants)
