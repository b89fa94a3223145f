"""One beat: who sends it, what it brings, what it takes home. One unit of work, one answer.

Rules: answered only when everything in it is stored. A beat that came before (hub.heartbeat.boots)
brings no samples and takes no commands; its results are heard, since they are idempotent. The first
beat closes the window in which a lost enrolment reply is given again. What gathers while the
database writes is one unit of work.
Source: contract part 2; fault cases C (heartbeat rows).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.agents.batches import Batches
from hub.agents.models import Asset
from hub.clock import now_ms
from hub.db.database import Database, foreign
from hub.errors import BadRequestError, ForbiddenError, HubError
from hub.heartbeat import (
    boots,
    certificates,
    command_progress,
    inventories,
    plain_beats,
    samples,
)
from hub.heartbeat.identification import Known, Shown, audit_refusal, identify
from hub.heartbeat.models import Command, Enrolment
from hub.heartbeat.plain_beats import Asked, Stored
from hub.heartbeat.policies import Policies
from wire.heartbeat import HeartbeatRequest, HeartbeatResponse
from wire.problem import Code

ACTION = "agent.beat"
UNSTORABLE = (DBAPIError, ArithmeticError, ValueError)
"""What a database and its driver say to a value that they cannot keep."""
_log = structlog.get_logger()


@dataclass
class Taken:
    """What came of a beat: an answer, or why there is none; and which commands moved."""

    known: Known | None = None
    response: HeartbeatResponse | None = None
    refusal: HubError | None = None
    moved: list[Command] = field(default_factory=list)
    is_replay: bool = False
    presence: str | None = None
    """As it was before."""


class Beats:
    """Takes beats in.

    Args:
        interval_s: when the next one is wanted.
    """

    def __init__(self, database: Database, interval_s: float) -> None:
        self._interval_s = interval_s
        self.policies = Policies()
        self._gathered = Batches[Asked, Taken](
            lambda asked: database.write(None, self.take_many, asked)
        )

    async def ask(self, asked: Asked) -> Taken:
        """Take a beat, with all that come at the same time.

        Raises:
            UnavailableError, StorageFullError: nothing of it is stored.
        """
        return await self._gathered.ask(asked)

    def take_many(self, session: Session, asked: list[Asked]) -> list[Taken]:
        """Store some beats, in the system's scope; each has its own outcome.

        A beat that fails leaves nothing behind, and the others their own.
        """
        stored = _plain_ones(session, asked)
        return [
            self._alone(session, *one) if done is None else self._plain(one.shown, done)
            for one, done in zip(asked, stored, strict=True)
        ]

    def _plain(self, shown: Shown, done: Stored) -> Taken:
        response = msgspec.structs.replace(
            self._response(shown, done.known), want_inventory=done.wants_inventory
        )
        return Taken(known=done.known, response=response, presence=done.presence)

    def _alone(self, session: Session, shown: Shown, beat: HeartbeatRequest) -> Taken:
        try:
            with session.begin_nested():
                return self.take(session, shown, beat)
        except HubError as error:
            return Taken(refusal=error)
        except UNSTORABLE as error:
            return Taken(refusal=_refusal(error))

    def take(self, session: Session, shown: Shown, beat: HeartbeatRequest) -> Taken:
        """Store a beat, in the system's scope.

        Raises:
            UnauthorizedError, ForbiddenError: nobody we know; there is nothing to audit.
        """
        known = identify(session, shown)
        if known.refusal is None and known.client_id != beat.agent_id:
            said = ForbiddenError(
                "the body names another agent than the credential", code=Code.IDENTITY_MISMATCH
            )
            known = replace(known, refusal=said)
        if known.refusal is not None:
            audit_refusal(session, known, ACTION)
            return Taken(known=known, refusal=known.refusal)
        return self._store(session, shown, known, beat)

    def _store(self, session: Session, shown: Shown, known: Known, beat: HeartbeatRequest) -> Taken:
        enrolment = session.get_one(Enrolment, known.agent_id)
        if shown.is_certified and shown.leaf is not None:
            certificates.shown_first(session, shown.leaf)
        after = boots.after(enrolment.boots, beat)
        enrolment.closed_ms = enrolment.closed_ms or now_ms()
        moved = [
            command
            for result in beat.command_results
            if (command := command_progress.report(session, known, result)) is not None
        ]
        response = self._response(shown, known)
        if after is None:
            return Taken(known=known, response=response, moved=moved, is_replay=True)
        enrolment.boots = after
        enrolment.beat_ms, enrolment.boot_id = now_ms(), beat.boot_id
        presence = self._keep_samples(session, known, beat)
        wants = _inventory(session, known, enrolment, beat)
        offered = command_progress.offer(session, known)
        moved += [command for command in offered if command.offers == 1]
        return Taken(
            known=known,
            moved=moved,
            presence=presence,
            response=msgspec.structs.replace(
                response,
                want_inventory=wants,
                pending_commands=tuple(map(command_progress.pending, offered)),
            ),
        )

    def _response(self, shown: Shown, known: Known) -> HeartbeatResponse:
        return HeartbeatResponse(
            server_ts=now_ms(),
            next_interval_sec=self._interval_s,
            policy=self.policies.of_machine(known.tenant_id, known.tags),
            agents_url=shown.agents_url,
        )

    def _keep_samples(self, session: Session, known: Known, beat: HeartbeatRequest) -> str:
        asset = session.get_one(Asset, known.asset_id)
        asset.seen_ms = now_ms()
        if beat.metrics:
            samples.keep(session, known, asset, beat.metrics)
        return asset.presence


def _plain_ones(session: Session, asked: list[Asked]) -> list[Stored | None]:
    """Store the plain ones together; where that fails, each is taken by itself."""
    try:
        with session.begin_nested():
            return plain_beats.store(session, asked, now_ms())
    except UNSTORABLE as error:
        _refusal(error)
        return [None] * len(asked)


def _refusal(error: Exception) -> HubError:
    """Return why a beat is not taken, where it is not the database that is away.

    Raises:
        UnavailableError, StorageFullError: it is.
    """
    if isinstance(error, DBAPIError) and isinstance(known := foreign(error), HubError):
        raise known from error
    _log.error("a beat could not be stored", exc_info=error)
    return BadRequestError("something in the beat cannot be stored")


def _inventory(
    session: Session, known: Known, enrolment: Enrolment, beat: HeartbeatRequest
) -> bool:
    """Keep an inventory that came; tell whether one is wanted."""
    if beat.inventory is not None:
        enrolment.inventory_digest = inventories.keep(session, known, beat.inventory)
        return False
    said = beat.inventory_digest
    return said is not None and said != enrolment.inventory_digest
