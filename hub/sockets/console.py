"""The `/console` namespace: browsers and the operators' command line, live.

Rules: whoever comes shows an API token or a session in `auth.token`, or the session's cookie
together with an Origin of ours. Each event declares its action and a schema, and goes through
`authorize`; refusals are audited. A client is sent what its topics publish in its own tenant; one
that does not read is dropped `slow_consumer`. One whose log-in, user or role has changed is dropped
`role_changed` within a second, whichever process changed it. Handlers run one after the other for
each client: what takes long goes on by `hub.later`.

Source: fault cases B, C ("slow console consumer"), D.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import structlog

from hub.audit import service as audit
from hub.authorize import ACTIONS, Principal, Role, authorize
from hub.db.database import Database
from hub.errors import BadRequestError, HubError, NotFoundError, ProtocolError, RefusalError
from hub.operators import credentials
from hub.sockets.packets import Event
from hub.sockets.server import Peer
from wire import __version__, strictjson
from wire.connect import Refusal

NAME = "/console"
MAX_BACKLOG_BYTES = 1024 * 1024
MAX_TOPICS = 256
CHECK_S = 0.7
SLOW_CONSUMER = "slow_consumer"
ROLE_CHANGED = "role_changed"
_log = structlog.get_logger()

P = TypeVar("P", bound=msgspec.Struct)
Reply = dict[str, Any] | None


class ConsoleClient:
    """One client; `id` is new with each connection."""

    def __init__(self, console: Console, peer: Peer, principal: Principal) -> None:
        self._console = console
        self._peer = peer
        self.id = peer.sid
        self.principal = principal
        self.topics: set[str] = set()

    @property
    def address(self) -> str:
        return self._peer.address

    def emit(self, event: str, payload: object) -> None:
        """Send an event; a client that does not read is dropped."""
        self.emit_json(event, msgspec.json.encode(payload))

    def emit_json(self, event: str, payload: bytes) -> None:
        """Send an event whose payload is JSON already."""
        if self._peer.socket.backlog_bytes + len(payload) > MAX_BACKLOG_BYTES:
            self._console.drop_soon(self, SLOW_CONSUMER)
            return
        self._peer.emit(event, payload)

    def join(self, topic: str) -> None:
        """Be sent what is published on a topic.

        Raises:
            BadRequestError: too many topics.
        """
        if len(self.topics) >= MAX_TOPICS:
            raise BadRequestError(f"at most {MAX_TOPICS} topics", code="too_many_topics")
        self.topics.add(topic)
        self._console.topics[topic].add(self)

    def leave(self, topic: str) -> None:
        """Be sent no more of a topic."""
        self.topics.discard(topic)
        self._console.topics[topic].discard(self)
        if not self._console.topics[topic]:
            del self._console.topics[topic]

    def answer(self, ack_id: int | None, reply: Reply) -> None:
        """Acknowledge one event, where that was asked for."""
        if ack_id is not None:
            self._peer.acknowledge(ack_id, msgspec.json.encode(reply if reply is not None else {}))

    async def close(self, reason: str) -> None:
        """Tell why, and end the connection."""
        self._peer.emit("dropped", msgspec.json.encode({"reason": reason}))
        await self._peer.close(reason)


class Watch(msgspec.Struct, kw_only=True):
    """A topic to join or leave."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class _Row(NamedTuple):
    action: str
    schema: type[Any]
    handler: Callable[[ConsoleClient, Any], Awaitable[Reply]]


class Console:
    """See the module; implements `hub.sockets.server.Namespace`."""

    name = NAME

    def __init__(
        self,
        database: Database,
        origins: Callable[[], frozenset[str]],
        later: Callable[[Any], None],
    ) -> None:
        self._database = database
        self._origins = origins
        self._later = later
        self._clients: dict[str, ConsoleClient] = {}
        self._rows: dict[str, _Row] = {}
        self._closed: list[Callable[[ConsoleClient], None]] = []
        self.topics: dict[str, set[ConsoleClient]] = defaultdict(set)
        self.on("watch", "agents.read", Watch, _watch)
        self.on("unwatch", "agents.read", Watch, _unwatch)

    # -- for the families ------------------------------------------------------------------------

    @property
    def events(self) -> dict[str, str]:
        """Return every event with its action."""
        return {name: row.action for name, row in self._rows.items()}

    def on(
        self,
        event: str,
        action: str,
        schema: type[P],
        handler: Callable[[ConsoleClient, P], Awaitable[Reply]],
    ) -> None:
        """Declare an event: who may, what it carries, what it does. The reply acknowledges it."""
        assert action in ACTIONS and event not in self._rows, event
        self._rows[event] = _Row(action, schema, handler)

    def closed(self, handler: Callable[[ConsoleClient], None]) -> None:
        """Let `handler(client)` know of every client that is gone."""
        self._closed.append(handler)

    def clients(self) -> list[ConsoleClient]:
        """Return who is connected."""
        return list(self._clients.values())

    def has(self, client: ConsoleClient) -> bool:
        """Tell whether a client is still connected: it may be gone after any `await`."""
        return self._clients.get(client.id) is client

    def publish(self, tenant_id: str, topic: str, event: str, payload: object) -> None:
        """Send to the clients of a tenant (and the system's) that joined a topic."""
        found = [one for one in self.topics.get(topic, ()) if _may_see(one, tenant_id)]
        if not found:
            return
        data = msgspec.json.encode(payload)
        for client in found:
            client.emit_json(event, data)

    def drop(self, key: str, reason: str = ROLE_CHANGED) -> None:
        """Drop every client of a user or of a log-in, by its id."""
        for client in self.clients():
            if key in (client.principal.id, client.principal.credential_id):
                self.drop_soon(client, reason)

    def drop_soon(self, client: ConsoleClient, reason: str) -> None:
        """Drop one client, from wherever it was noticed."""
        if self._clients.pop(client.id, None) is not None:
            self._later(client.close(reason))
            self._forget(client)

    async def check_forever(self) -> None:
        """Drop whoever is not any more who they were."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self._check()
            except HubError as error:
                _log.warning("consoles could not be checked", code=error.code)

    async def _check(self) -> None:
        clients = self.clients()
        ids = {one.principal.credential_id or "" for one in clients}
        if not ids:
            return
        good = await self._database.read(None, credentials.roles, ids)
        for client in clients:
            if good.get(client.principal.credential_id or "") != client.principal.role:
                self.drop_soon(client, ROLE_CHANGED)

    # -- Namespace -------------------------------------------------------------------------------

    async def admit(self, peer: Peer, environ: dict[str, Any], auth: object) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str):
            token = self._cookie(environ)
        principal = None
        if token is not None:
            principal = await self._database.read(
                None, credentials.find_principal, token, peer.address
            )
        if principal is None:
            raise RefusalError(Refusal(reason="unauthorized"))
        self._clients[peer.sid] = ConsoleClient(self, peer, principal)

    async def greet(self, peer: Peer) -> None:
        client = self._clients.get(peer.sid)
        if client is None:
            return
        who = client.principal
        client.emit(
            "welcome",
            {"user": who.name, "role": who.role, "tenant_id": who.tenant_id, "hub": __version__},
        )

    async def on_event(self, peer: Peer, event: Event, ack_id: int | None) -> None:
        client = self._clients.get(peer.sid)
        if client is not None:
            client.answer(ack_id, await self._handle(client, event))

    async def on_violation(self, peer: Peer, name: str) -> None:
        client = self._clients.get(peer.sid)
        if client is not None:
            await self._refused(client.principal, "console", "protocol_violation", event=name)

    async def on_gone(self, peer: Peer, reason: str) -> None:
        client = self._clients.pop(peer.sid, None)
        if client is not None:
            self._forget(client)

    # -- inside ----------------------------------------------------------------------------------

    async def _handle(self, client: ConsoleClient, event: Event) -> Reply:
        row = self._rows.get(event.name)
        try:
            if row is None:
                raise NotFoundError(code="unknown_event")
            payload = _read(row.schema, event.payload)
            authorize(client.principal, row.action)
            return await row.handler(client, payload)
        except HubError as error:
            if row is not None and error.status in (403, 404):
                await self._refused(client.principal, row.action, error.code, event=event.name)
            return {"error": {"code": error.code, "detail": error.detail, **error.extra}}

    async def _refused(self, who: Principal, action: str, code: str, *, event: str) -> None:
        await self._database.write(
            None,
            lambda session: audit.record(session, who.tenant_id, who, action, code, event=event),
        )

    def _forget(self, client: ConsoleClient) -> None:
        for topic in list(client.topics):
            client.leave(topic)
        for handler in self._closed:
            try:
                handler(client)
            except Exception:  # noqa: BLE001  (a fault of one family is not another's)
                _log.exception("a handler failed", handler=handler.__qualname__)

    def _cookie(self, environ: dict[str, Any]) -> str | None:
        """Return the session of a cookie; it counts only with an Origin of ours."""
        if environ.get("HTTP_ORIGIN") not in self._origins():
            return None
        return cookie(environ.get("HTTP_COOKIE", ""))


def cookie(header: str) -> str | None:
    """Return our session's cookie out of a Cookie header."""
    try:
        found = SimpleCookie(header).get(credentials.COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _may_see(client: ConsoleClient, tenant_id: str) -> bool:
    who = client.principal
    return who.role is Role.SYSTEM_ADMIN or who.tenant_id == tenant_id


def _read(schema: type[P], payload: bytes) -> P:
    """Read a payload strictly.

    Raises:
        ProtocolError: no strict JSON; BadRequestError: not of the schema.
    """
    try:
        value = strictjson.parse(payload or b"{}")
    except (ValueError, RecursionError) as error:
        raise ProtocolError("no strict JSON") from error
    try:
        return msgspec.convert({} if value is None else value, schema)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(str(error)[:200]) from error


async def _watch(client: ConsoleClient, payload: Watch) -> Reply:
    client.join(payload.topic)
    return None


async def _unwatch(client: ConsoleClient, payload: Watch) -> Reply:
    client.leave(payload.topic)
    return None
