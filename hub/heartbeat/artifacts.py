"""Large results: taken in once, handed out, forgotten after a while.

Rules: an artifact belongs to a command of the agent that sends it; the same command, name and
digest again is the same artifact. Bytes first, then the row: a row never lacks its bytes.
Source: contract part 2 (`POST /artifacts`); wire.artifacts.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.clock import now_ms
from hub.errors import ConflictError, NotFoundError
from hub.heartbeat.identification import Known
from hub.heartbeat.models import Artifact, Command

MAX_PER_COMMAND = 16
_BATCH = 200
_DAY_MS = 24 * 3600 * 1000


class Sent(NamedTuple):
    """What an agent uploaded."""

    id: str
    command_id: str
    name: str
    sha256: str
    size_bytes: int


def check(session: Session, known: Known, command_id: str) -> None:
    """Refuse an upload that belongs to no command of the agent's, before its bytes are taken.

    Raises:
        NotFoundError: there is no such command; ConflictError: it has too many artifacts.
    """
    _own_command(session, known, command_id)
    count = session.scalar(
        select(func.count()).select_from(Artifact).where(Artifact.command_id == command_id)
    )
    if count is not None and count >= MAX_PER_COMMAND:
        raise ConflictError(f"a command has at most {MAX_PER_COMMAND} artifacts")


def find(session: Session, command_id: str, name: str, sha256: str) -> Artifact | None:
    """Return the artifact that this one would be again."""
    return session.scalar(
        select(Artifact).where(
            Artifact.command_id == command_id,
            Artifact.name == name,
            Artifact.sha256 == sha256,
        )
    )


def add(session: Session, known: Known, sent: Sent) -> tuple[Artifact, bool]:
    """Make the row of an upload whose bytes are stored; tell whether it is new.

    Raises:
        NotFoundError: there is no such command of the agent's.
    """
    _own_command(session, known, sent.command_id)
    again = find(session, sent.command_id, sent.name, sent.sha256)
    if again is not None:
        return again, False
    row = Artifact(
        id=sent.id,
        tenant_id=known.tenant_id,
        asset_id=known.asset_id,
        command_id=sent.command_id,
        name=sent.name,
        sha256=sent.sha256,
        size_bytes=sent.size_bytes,
        created_ms=now_ms(),
    )
    session.add(row)
    session.flush()
    audit.record(
        session,
        known.tenant_id,
        known.principal,
        "artifact.stored",
        of=("command", sent.command_id),
        artifact=row.id,
        bytes=row.size_bytes,
    )
    return row, True


def get(session: Session, artifact_id: str) -> Artifact:
    """Return an artifact of the session's tenant.

    Raises:
        NotFoundError: there is none, or its time is over.
    """
    found = session.scalar(select(Artifact).where(Artifact.id == artifact_id))
    if found is None:
        raise NotFoundError("there is no such artifact")
    return found


def outdated(session: Session, days: int) -> list[str]:
    """Forget what is older, a batch at a time; return the ids whose bytes may go."""
    query = select(Artifact.id).where(Artifact.created_ms < now_ms() - days * _DAY_MS)
    ids = list(session.scalars(query.order_by(Artifact.id).limit(_BATCH)))
    if ids:
        session.execute(delete(Artifact).where(Artifact.id.in_(ids)))
    return ids


def without_row(session: Session, ids: list[str]) -> list[str]:
    """Return those ids of stored bytes that belong to nothing: a hub was killed in between."""
    found: set[str] = set()
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        found.update(session.scalars(select(Artifact.id).where(Artifact.id.in_(batch))))
    return [one for one in ids if one not in found]


def _own_command(session: Session, known: Known, command_id: str) -> Command:
    command = session.scalar(
        select(Command)
        .where(Command.id == command_id, Command.asset_id == known.asset_id)
        .with_for_update()
    )
    if command is None:
        raise NotFoundError("there is no such command")
    return command
