"""Commands as agents meet them: offered under a lease, reported, expired.

Rules: offers go in the order of their requests; one that was not heard of is offered again when its
lease has run out, and the agent runs each id once; the first final report counts, later ones are
duplicates. A command that nobody took expires at its time; one that an agent has taken stays open
as long as the agent may still report it, unless the agent beats without a word about it.
Source: contract part 2; fault cases C.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from hub.agents.models import Agent
from hub.audit import service as audit
from hub.clock import iso, now_ms
from hub.db.rows import affected
from hub.heartbeat import command_requests
from hub.heartbeat.identification import Known
from hub.heartbeat.models import Artifact, Command, Enrolment
from hub.ids import first_of
from wire import bodies, limits
from wire.commands import CommandError, CommandResult, PendingCommand

LEASE_MS = int(limits.COMMAND_LEASE_S * 1000)
REPORTED_FOR_MS = limits.COMMAND_ID_KEPT_S * 1000
_ORDER = {"requested": 0, "accepted": 1, "running": 2, "completed": 3, "failed": 3}
EXPIRE_BATCH = 500


def offer(session: Session, known: Known) -> list[Command]:
    """Take the next commands of an agent's asset and lease them to it."""
    at_ms = now_ms()
    due = (
        select(Command)
        .where(
            Command.asset_id == known.asset_id,
            Command.state.in_(("requested", "accepted", "running")),
            Command.expires_ms > at_ms,
            or_(Command.leased_ms.is_(None), Command.leased_ms <= at_ms),
        )
        .order_by(Command.id)
        .limit(limits.BEAT_COMMANDS)
        .with_for_update(skip_locked=True)
    )
    taken = list(session.scalars(due))
    for command in taken:
        command.leased_ms = at_ms + LEASE_MS
        command.offers += 1
        if command.state == "requested":
            command.state, command.accepted_ms = "accepted", at_ms
            command_requests.tell(session, known.principal, command, "command.accepted")
    return taken


def pending(command: Command) -> PendingCommand:
    """Return a command as it is offered."""
    return PendingCommand(
        command_id=command.id,
        command_type=command.command_type,
        expires_at=iso(command.expires_ms),
        params=command.params,
    )


def report(session: Session, known: Known, result: CommandResult) -> Command | None:
    """Take in how far a command is; None: it changes nothing.

    A result for another agent's command is dropped and audited.
    """
    command = session.scalar(
        select(Command)
        .where(Command.id == result.command_id, Command.tenant_id == known.tenant_id)
        .with_for_update()
    )
    if command is None or command.asset_id != known.asset_id:
        _tell_foreign(session, known, result.command_id)
        return None
    if result.state == "running" and command.state == "running":
        command.leased_ms = now_ms() + LEASE_MS
    if _ORDER[result.state] <= _ORDER[command.state]:
        return None
    _advance(session, known, command, result)
    return command


def expire(session: Session) -> list[Command]:
    """End what has outlived its time, in the system's scope."""
    at_ms = now_ms()
    silent = (
        select(Enrolment.agent_id)
        .join(Agent, Agent.id == Enrolment.agent_id)
        .where(Agent.asset_id == Command.asset_id, Enrolment.beat_ms > Command.leased_ms)
        .exists()
    )
    is_over = or_(
        Command.state == "requested",
        (Command.state == "accepted") & (Command.leased_ms <= at_ms) & silent,
        Command.expires_ms <= at_ms - REPORTED_FOR_MS,
    )
    query = (
        select(Command)
        .where(
            Command.state.in_(("requested", "accepted", "running")),
            Command.expires_ms <= at_ms,
            is_over,
        )
        .limit(EXPIRE_BATCH)
        .with_for_update(skip_locked=True)
    )
    ended = list(session.scalars(query))
    for command in ended:
        command_requests.fail(session, audit.SYSTEM, command, CommandError.EXPIRED)
    return ended


def forget(session: Session, before_ms: int) -> int:
    """Drop commands that ended before a time, a bounded number of rows; return how many.

    One that has an artifact stays as long as that.
    """
    old = (
        select(Command.id)
        .where(Command.id < first_of(before_ms), Command.finished_ms < before_ms)
        .where(Command.id.not_in(select(Artifact.command_id)))
        .where(Command.state.in_(command_requests.FINAL))
    )
    ids = old.order_by(Command.id).limit(EXPIRE_BATCH)
    return affected(session, delete(Command).where(Command.id.in_(ids)))


def _advance(session: Session, known: Known, command: Command, result: CommandResult) -> None:
    at_ms = now_ms()
    command.state = result.state
    command.accepted_ms = command.accepted_ms or at_ms
    command.started_ms = command.started_ms or _stamp(result.started_at)
    detail = {}
    if result.state == "running":
        command.started_ms = command.started_ms or at_ms
        command.leased_ms = at_ms + LEASE_MS
    else:
        command.finished_ms = _stamp(result.finished_at) or at_ms
        command.result_summary = _fitting(result)
        command.artifact_id = _own_artifact(session, command, result.artifact_id)
        if result.state == "failed":
            command.error = result.error or CommandError.INTERNAL
            detail = {"error": command.error}
    command_requests.tell(session, known.principal, command, f"command.{result.state}", **detail)


def _tell_foreign(session: Session, known: Known, command_id: str) -> None:
    audit.record(
        session,
        known.tenant_id,
        known.principal,
        "command.result",
        "foreign_result",
        of=("agent", known.asset_id),
        command=command_id,
    )


def _fitting(result: CommandResult) -> dict[str, object] | None:
    """Return the summary, or what is left of one that is too large to be one."""
    if result.result_summary is None:
        return None
    size = len(msgspec.json.encode(result.result_summary))
    if size <= limits.MAX_SUMMARY_BYTES:
        return result.result_summary
    return {"truncated": True, "bytes": size}


def _own_artifact(session: Session, command: Command, artifact_id: str | None) -> str | None:
    if artifact_id is None:
        return None
    query = select(Artifact.id).where(Artifact.id == artifact_id, Artifact.command_id == command.id)
    return session.scalar(query)


def _stamp(moment: str | None) -> int | None:
    if moment is None:
        return None
    try:
        return int(bodies.wall_s(moment) * 1000)
    except (ValueError, OverflowError):
        return None
