"""Commands as people ask for them: requested, listed, shown, cancelled.

Rules: the same key and body of the same user again is the same command, another body is
`idempotency_mismatch`; an asset without an enrolled agent in the caller's scope is refused with one
and the same 403, whatever the reason; a command's id sorts behind every earlier one of its asset.
Source: contract part 2 (`POST /commands`); fault cases B.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub import pages
from hub.agents.models import Agent, Asset
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import iso, iso_or_none, now_ms
from hub.errors import ConflictError, ForbiddenError, NotFoundError
from hub.heartbeat import command_templates, liveness
from hub.heartbeat.models import Command, Enrolment
from hub.ids import new_id
from wire.commands import CommandError, CommandRequest, CommandView
from wire.problem import Code

DEFAULT_TTL_S = 24 * 3600
FINAL = ("completed", "failed")


class Requested(NamedTuple):
    """A command, and whether it was made just now."""

    command: Command
    is_new: bool


def request(
    session: Session, who: Principal, asked: CommandRequest, *, is_linked: bool
) -> Requested:
    """Ask an agent to collect something.

    Args:
        is_linked: whether the asset's live link is up.

    Raises:
        BadRequestError: `unsupported_type`, `bad_params`.
        ForbiddenError: there is no enrolled agent of that asset in the caller's tenant.
        ConflictError: `idempotency_mismatch`, `agent_offline`.
    """
    command_templates.check(asked.command_type, asked.params)
    asset = _enrolled_asset(session, asked.asset_id)
    digest = _body_digest(asked)
    known = _known(session, asset.tenant_id, who.id, asked.idempotency_key)
    if known is not None:
        if known.body_digest != digest:
            raise _mismatch()
        return Requested(known, is_new=False)
    is_online = is_linked or liveness.is_beating(session, asset.id)
    if asked.when_offline == "fail" and not is_online:
        raise ConflictError("the agent is offline", code=Code.AGENT_OFFLINE)
    return Requested(_made(session, who, asset, asked, digest, is_online), is_new=True)


def get(session: Session, command_id: str) -> Command:
    """Return a command of the session's tenant.

    Raises:
        NotFoundError: there is none.
    """
    command = session.scalar(select(Command).where(Command.id == command_id))
    if command is None:
        raise NotFoundError("there is no such command")
    return command


def page(
    session: Session, asset_id: str | None, state: str | None, limit: int, cursor: str | None
) -> tuple[list[Command], str | None]:
    """Return commands, newest first.

    Raises:
        NotFoundError: there is no such asset in the session's tenant.
    """
    query = select(Command)
    if asset_id is not None:
        if session.scalar(select(Asset.id).where(Asset.id == asset_id)) is None:
            raise NotFoundError("there is no such agent")
        query = query.where(Command.asset_id == asset_id)
    if state is not None:
        query = query.where(Command.state == state)
    return pages.fetch(session, query, (Command.id,), limit, cursor, descending=True)


def cancel(session: Session, who: Principal, command_id: str) -> Command:
    """End a command; what an agent still reports of it is not heard any more.

    Raises:
        NotFoundError: there is none; ConflictError: `not_cancellable`, it has ended.
    """
    command = session.scalar(select(Command).where(Command.id == command_id).with_for_update())
    if command is None:
        raise NotFoundError("there is no such command")
    if command.state in FINAL:
        raise ConflictError("the command has ended", code=Code.NOT_CANCELLABLE)
    fail(session, who, command, CommandError.CANCELLED)
    return command


def fail(session: Session, who: Principal, command: Command, error: str) -> None:
    """End a command without a result."""
    command.state, command.error, command.finished_ms = "failed", error, now_ms()
    tell(session, who, command, "command.failed", error=error)


def tell(session: Session, who: Principal, command: Command, event: str, **detail: str) -> None:
    """Record an event of the frozen lifecycle."""
    of = ("command", command.id)
    audit.record(session, command.tenant_id, who, event, of=of, asset=command.asset_id, **detail)


def view(command: Command) -> CommandView:
    """Return a command as the API shows it."""
    return CommandView(
        command_id=command.id,
        asset_id=command.asset_id,
        command_type=command.command_type,
        state=command.state,  # type: ignore[arg-type]
        requested_at=iso(command.requested_ms),
        expires_at=iso(command.expires_ms),
        params=command.params,
        requested_by=command.user_name,
        accepted_at=iso_or_none(command.accepted_ms),
        started_at=iso_or_none(command.started_ms),
        finished_at=iso_or_none(command.finished_ms),
        result_summary=command.result_summary,
        artifact_id=command.artifact_id,
        error=command.error,
        skipped=command.skipped or None,
    )


def _enrolled_asset(session: Session, asset_id: str) -> Asset:
    """Return the asset, locked, so that its commands are numbered one after another."""
    found = session.scalar(
        select(Asset)
        .join(Agent, Agent.asset_id == Asset.id)
        .join(Enrolment, Enrolment.agent_id == Agent.id)
        .where(Asset.id == asset_id, Asset.deleted_ms.is_(None), Agent.state == "active")
        .with_for_update(of=Asset)
    )
    if found is None:
        raise ForbiddenError("no enrolled agent of yours has that asset_id")
    return found


def _made(
    session: Session,
    who: Principal,
    asset: Asset,
    asked: CommandRequest,
    digest: str,
    is_online: bool,
) -> Command:
    at_ms = now_ms()
    command = Command(
        id=_next_id(session, asset.id),
        tenant_id=asset.tenant_id,
        asset_id=asset.id,
        command_type=asked.command_type,
        params=asked.params,
        state="requested",
        when_offline=asked.when_offline,
        idempotency_key=asked.idempotency_key,
        body_digest=digest,
        user_id=who.id,
        user_name=who.name[:256],
        requested_ms=at_ms,
        expires_ms=at_ms + (asked.expires_in or DEFAULT_TTL_S) * 1000,
        skipped=False,
        offers=0,
    )
    _insert(session, command)
    tell(session, who, command, "command.requested", type=command.command_type)
    if asked.when_offline == "skip" and not is_online:
        command.skipped = True
        fail(session, who, command, Code.AGENT_OFFLINE)
    return command


def _insert(session: Session, command: Command) -> None:
    """Save a command, unless its key was used meanwhile, for another machine: this one is locked.

    Raises:
        ConflictError: `idempotency_mismatch`.
    """
    try:
        with session.begin_nested():
            session.add(command)
    except IntegrityError:
        if _known(session, command.tenant_id, command.user_id, command.idempotency_key) is None:
            raise
        raise _mismatch() from None


def _known(session: Session, tenant_id: str, user_id: str, key: str) -> Command | None:
    return session.scalar(
        select(Command).where(
            Command.tenant_id == tenant_id,
            Command.user_id == user_id,
            Command.idempotency_key == key,
        )
    )


def _mismatch() -> ConflictError:
    return ConflictError(
        "that idempotency_key was used with another body", code=Code.IDEMPOTENCY_MISMATCH
    )


def _next_id(session: Session, asset_id: str) -> str:
    """Return an id behind those that the asset has, though several fall into one millisecond."""
    newest = session.scalar(
        select(Command.id).where(Command.asset_id == asset_id).order_by(Command.id.desc()).limit(1)
    )
    made = new_id()
    while newest is not None and made <= newest and _time_of(made) >= _time_of(newest):
        made = new_id()
    return made


def _time_of(command_id: str) -> str:
    """Return the part of an id that is its time: with a clock set back there is no waiting."""
    return command_id[:13]


def _body_digest(asked: CommandRequest) -> str:
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()
