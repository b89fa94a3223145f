"""What the heartbeat's worker does between two beats: upload large results, renew the certificate.

Rules: core thread only; one call at a time, never while the hub is failing. An artifact stays until
the hub has it or refuses it for good. A certificate is renewed from two thirds of its life, by the
hub's clock, with a new key that was made in the worker; what failed is tried again later.

Source: contract part 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from agent.heartbeat_caller import Caller, Failure, Outcome
from agent.heartbeat_memory import Memory
from agent.heartbeat_store import Artifact
from agent.identity_keeper import IdentityKeeper
from agent.log import Log
from wire import bodies, limits, paths
from wire.artifacts import DIGEST_HEADER, ArtifactResponse, digest_value
from wire.commands import CommandError
from wire.errors import WireError
from workers.loop import Loop
from workers.messages_heartbeat import HubAnswer, Renewed

RENEW_RETRY_S = 600.0
ARTIFACT_NAME = "result.json"


class Errands:
    """See the module.

    Args:
        hub_s: the hub's clock, seconds since the epoch.
        on_told: a command's result can be told now.
        on_over: an errand is over; another may begin.
    """

    def __init__(
        self,
        loop: Loop,
        caller: Caller,
        memory: Memory,
        keeper: IdentityKeeper,
        hub_s: Callable[[], float],
        on_told: Callable[[], object],
        on_over: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._caller = caller
        self._memory = memory
        self._keeper = keeper
        self._hub_s = hub_s
        self._on_told = on_told
        self._on_over = on_over
        self._log = log
        self._has_artifact = False
        self._renew_after_s = 0.0

    def note_artifact(self) -> None:
        """There may be something to upload."""
        self._has_artifact = True

    def begin(self) -> bool:
        """Begin an errand, if there is one; `on_over` follows."""
        if self._has_artifact:
            self._memory.try_(lambda store: store.artifact(), self._upload)
        elif self._is_renewal_due():
            self._renew_after_s = self._loop.clock() + self._patience_s()
            self._caller.renew(self._on_renewed)
        else:
            return False
        return True

    def _upload(self, found: list[Artifact | None]) -> None:
        artifact = found[0] if found else None
        if artifact is None:
            self._has_artifact = False
            self._on_over()
            return
        digest = digest_value(hashlib.sha256(artifact.data).digest())
        self._caller.call(
            paths.ARTIFACTS,
            artifact.data,
            lambda outcome: self._on_uploaded(artifact.command_id, outcome),
            headers={"Content-Type": "application/json", DIGEST_HEADER: digest},
            query={paths.QUERY_COMMAND_ID: artifact.command_id, paths.QUERY_NAME: ARTIFACT_NAME},
        )

    def _on_uploaded(self, command_id: str, outcome: Outcome) -> None:
        artifact_id = _artifact_id(outcome)
        if artifact_id is None and not _is_for_good(outcome):
            self._has_artifact = False  # until the next beat is answered
            self._on_over()
            return
        error = None if artifact_id is not None else CommandError.ARTIFACT_REFUSED

        def noted(_: list[None]) -> None:
            self._on_told()
            self._on_over()

        self._memory.try_(lambda store: store.uploaded(command_id, artifact_id, error), noted)

    def _is_renewal_due(self) -> bool:
        if self._loop.clock() < self._renew_after_s:
            return False
        begins, ends = self._life()
        return self._hub_s() >= begins + (ends - begins) * limits.RENEW_AFTER

    def _life(self) -> tuple[float, float]:
        """From when to when the certificate is good; what nobody can read is long over."""
        known = self._keeper.identity
        try:
            return bodies.wall_s(known.not_before), bodies.wall_s(known.not_after)
        except ValueError:
            return 0.0, 0.0

    def _patience_s(self) -> float:
        """How long to rest after a renewal, good or not: of a short life less.

        A hub dates its certificates back a little: one of minutes seems to be old at once.
        """
        begins, ends = self._life()
        return min(RENEW_RETRY_S, (ends - begins) / 20.0)

    def _on_renewed(self, outcome: Outcome) -> None:
        if isinstance(outcome, Renewed):
            self._log.info("the certificate was renewed", until=outcome.not_after)
            self._keeper.change(
                certificate=outcome.certificate,
                key=outcome.key,
                ca_chain=outcome.ca_chain,
                not_before=outcome.not_before,
                not_after=outcome.not_after,
            )
        else:
            why = outcome.reason if isinstance(outcome, Failure) else "no answer"
            self._log.warning("the certificate was not renewed", reason=why)
        self._on_over()


def _artifact_id(outcome: Outcome) -> str | None:
    if not isinstance(outcome, HubAnswer) or outcome.status not in (200, 201):
        return None
    try:
        return bodies.decode(ArtifactResponse, outcome.body, len(outcome.body)).artifact_id
    except WireError:
        return None


def _is_for_good(outcome: Outcome) -> bool:
    """Would the hub say the same the next time?"""
    if not isinstance(outcome, HubAnswer):
        return False
    return 400 <= outcome.status < 500 and outcome.status not in (401, 403, 408, 425, 429)
