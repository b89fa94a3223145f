"""May this agent in? Shape, signature, window, pace, one-time use, state: in this order.

Rules: before the signature is good a stranger sees `auth_malformed`, `auth_failed` or
`rate_limited`, all else stands in the audit row; after it, the precise reason. Failures are counted
per address and never hold up a good signature. The pace is asked before the query is used up.

Source: contract 1.1; fault cases A; architecture "Hub".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hub.agents import identities, once
from hub.agents.batches import Batches
from hub.agents.identities import Identity
from hub.agents.pace import Pace
from hub.audit import service as audit
from hub.authorize import Principal
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import HubError, RefusalError
from hub.heartbeat import identification
from hub.heartbeat.showing import Reader
from hub.keyring import Keyring
from hub.throttle import Failures
from wire.connect import Refusal
from wire.errors import AuthError
from wire.signature import SignedQuery, check, parse_query

ACTION = "agent.link"
NOBODY = Principal("agent", "", "", "", None)
RETRY_OFF_MS = 60_000
MAX_FAILURES = 20
FAILURES_S = 60.0
# Each query and each commit costs as much as several connects; in a storm these waits cost nobody
# anything, and alone a link is up that much later.
GATHER_READ_S = 0.01
GATHER_WRITE_S = 0.02
_REVOKED = frozenset({"revoked", "replaced"})


class Knock(NamedTuple):
    """One attempt to connect."""

    query: str
    address: str
    scope: Mapping[str, Any]


class Admission:
    """See the module."""

    def __init__(
        self, database: Database, keyring: Keyring, showing: Reader, connects_per_s: float
    ) -> None:
        self._database = database
        self._showing = showing
        self._keyring = keyring
        self._failures = Failures(MAX_FAILURES, FAILURES_S)
        self._pace = Pace(connects_per_s)
        self._lookups = Batches[str, Identity | None](self._look_up, GATHER_READ_S)
        self._uses = Batches[once.Use, bool](self._use, GATHER_WRITE_S)

    async def admit(self, knock: Knock) -> Identity:
        """Let an agent in.

        Raises:
            RefusalError: with what it is told.
        """
        try:
            query = parse_query(knock.query)
        except AuthError as error:
            raise await self._failed(knock, NOBODY, error.reason, error.hint) from error
        identity = await self._check(knock, query)
        who = principal(identity, knock.address)
        turn_s = self._pace.ask(identity.client_id)
        if turn_s > 0:
            raise refusal("try_later", turn_s * 1000)
        if not await self._uses.ask(once.Use(query.sig, now_ms())):
            raise await self._refused(who, "auth_replayed")
        if identity.is_tenant_off:
            raise await self._refused(who, "tenant_disabled", RETRY_OFF_MS)
        if identity.state in _REVOKED:
            raise await self._refused(who, "auth_revoked")
        if identity.state != "active":
            raise await self._refused(who, "auth_pending", RETRY_OFF_MS)
        return await self._certified(identity, who, knock)

    async def has_signature(self, query: str) -> bool:
        """Tell whether a query is signed by somebody we know; nothing is counted or used up."""
        try:
            parsed = parse_query(query)
            await self._verified(parsed)
        except AuthError:
            return False
        return True

    async def _certified(self, identity: Identity, who: Principal, knock: Knock) -> Identity:
        """Check the certificate where one is asked for, or the tenant enforces them."""
        shown = self._showing.read(knock.scope)
        if not shown.is_certified and not identity.enforces_mtls:
            return identity
        try:
            await self._database.write(None, identification.check_link, shown, identity.agent_id)
        except HubError as error:
            raise await self._refused(who, error.code) from error
        return identity._replace(is_certified=True)

    async def _check(self, knock: Knock, query: SignedQuery) -> Identity:
        try:
            return await self._verified(query)
        except AuthError as error:
            identity = await self._lookups.ask(query.client_id)
            who = NOBODY if identity is None else principal(identity, knock.address)
            if error.reason == "auth_expired":
                raise await self._refused(who, error.reason, detail=error.hint) from error
            raise await self._failed(knock, who, error.reason, error.hint, query) from error

    async def _verified(self, query: SignedQuery) -> Identity:
        identity = await self._lookups.ask(query.client_id)
        check(query, None if identity is None else self._secret(identity), now_ms())
        assert identity is not None
        return identity

    def _secret(self, identity: Identity) -> str:
        return self._keyring.unseal(identity.secret_sealed, f"agent:{identity.agent_id}")

    async def _failed(
        self,
        knock: Knock,
        who: Principal,
        reason: str,
        hint: str = "",
        query: SignedQuery | None = None,
    ) -> RefusalError:
        """Count a failure, and audit it while there are few."""
        wait_s = self._failures.wait_s(knock.address)
        self._failures.add(knock.address)
        if wait_s > 0:
            return refusal("rate_limited", wait_s * 1000)
        named = Principal("agent", who.id, who.name, who.tenant_id, None, None, knock.address)
        client_id = query.client_id if query is not None else ""
        await self._audit(named, reason, hint=hint, client_id=client_id)
        return refusal(reason)

    async def _refused(
        self, who: Principal, reason: str, retry_ms: float | None = None, detail: str = ""
    ) -> RefusalError:
        await self._audit(who, reason, hint=detail)
        return refusal(reason, retry_ms)

    async def _audit(self, who: Principal, reason: str, **detail: str) -> None:
        said = {name: value for name, value in detail.items() if value}
        of = ("agent", who.id) if who.id else None
        await self._database.write(
            None,
            lambda session: audit.record(
                session, who.tenant_id, who, ACTION, reason, of=of, **said
            ),
        )

    async def _look_up(self, client_ids: list[str]) -> list[Identity | None]:
        return await self._database.read(None, identities.find, client_ids)

    async def _use(self, uses: list[once.Use]) -> list[bool]:
        return await self._database.write(None, once.use, uses)


def principal(identity: Identity, address: str | None) -> Principal:
    """Return an agent as who acts."""
    return Principal(
        "agent", identity.agent_id, identity.client_id, identity.tenant_id, None, None, address
    )


def refusal(reason: str, retry_ms: float | None = None) -> RefusalError:
    """Return what a refused peer is told."""
    return RefusalError(Refusal(reason=reason, server_ts=float(now_ms()), retry_after_ms=retry_ms))
