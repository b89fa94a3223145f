"""The `/agents` namespace: admits agents, greets them, reads what they send.

Rules: `hello_ack` goes out behind the CONNECT reply, with our features and time; a ping is answered
at once with its own `ts`. What is no strict JSON closes the link; what has the wrong shape is
counted, answered `{error}` where an answer is wanted, and the link stays up. The newer link of an
agent replaces the older at once (`hub.agents.clones` tells the exception).

Source: contract 1.1, 1.2, 1.7; fault cases A, D.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hub.agents.admission import ACTION, Admission, Knock, principal, refusal
from hub.agents.clones import Clones
from hub.agents.identities import Identity
from hub.agents.inbox import Inbox
from hub.agents.links import REPLACED, Link, Links
from hub.agents.pings import Pings
from hub.agents.presence import Presence
from hub.audit import service as audit
from hub.clock import now_ms
from hub.db.database import Database
from hub.errors import ProtocolError
from hub.sockets.packets import Event
from hub.sockets.server import Peer
from wire import features
from wire.connect import ConnectAuth, read_auth
from wire.errors import WireError
from wire.events import Direction, ToServer, decode
from wire.features import agreed
from wire.link import HelloAck, Ping, Pong

NAME = "/agents"
FEATURES = tuple(name for name in features.FEATURES if name != features.TOOLS)


class AgentNamespace:
    """See the module; implements `hub.sockets.server.Namespace`."""

    name = NAME

    def __init__(
        self,
        database: Database,
        admission: Admission,
        links: Links,
        inbox: Inbox,
        pings: Pings,
        clones: Clones,
        presence: Presence,
    ) -> None:
        self._database = database
        self._admission = admission
        self._links = links
        self._inbox = inbox
        self._pings = pings
        self._clones = clones
        self._presence = presence
        self._of: dict[str, Link] = {}

    # -- Namespace -------------------------------------------------------------------------------

    async def admit(self, peer: Peer, environ: dict[str, Any], auth: object) -> None:
        try:
            ours = read_auth(auth)
        except WireError as error:
            raise refusal("auth_malformed") from error
        knock = Knock(environ["QUERY_STRING"], peer.address, environ["asgi.scope"])
        identity = await self._admission.admit(knock)
        await self._clones.check(identity, None if ours is None else ours.boot_id, peer.address)
        self._of[peer.sid] = _link(peer, identity, ours)

    async def greet(self, peer: Peer) -> None:
        link = self._of[peer.sid]
        while (older := self._links.of_agent(link.agent_id)) is not None:
            await older.peer.close(REPLACED)
        if peer.socket.closed:
            return
        self._links.add(link)
        self._links.send_nowait(link, HelloAck(features=FEATURES, server_ts=now_ms()))
        self._pings.add(link)
        self._presence.on_linked(link)
        self._inbox.on_linked(link)

    async def on_event(self, peer: Peer, event: Event, ack_id: int | None) -> None:
        link = self._of[peer.sid]
        try:
            message = decode(Direction.TO_SERVER, event.name, event.payload)
        except WireError as error:
            self._on_bad_event(peer, error, ack_id)
            return
        match message:
            case Ping():
                self._links.send_nowait(link, Pong(ts=message.ts))
            case Pong():
                self._pings.on_pong(link, message)
            case _:
                await self._hand_out(peer, link, message, ack_id)

    async def on_violation(self, peer: Peer, name: str) -> None:
        link = self._of[peer.sid]
        who = principal(_identity(link), peer.address)
        await self._database.write(
            None,
            lambda session: audit.record(
                session, link.tenant_id, who, ACTION, "protocol_violation",
                of=("agent", link.agent_id), event=name,
            ),
        )  # fmt: skip

    async def on_gone(self, peer: Peer, reason: str) -> None:
        link = self._of.pop(peer.sid, None)
        if link is None:
            return
        self._pings.remove(link)
        was_up = link.is_up
        self._links.remove(link)
        if was_up:
            self._presence.on_unlinked(link, reason)
            self._inbox.on_unlinked(link)

    # -- inside ----------------------------------------------------------------------------------

    async def _hand_out(
        self, peer: Peer, link: Link, message: ToServer, ack_id: int | None
    ) -> None:
        def acknowledge(argument: bytes | None) -> None:
            assert ack_id is not None
            peer.acknowledge(ack_id, argument)

        await self._inbox.on_message(link, message, None if ack_id is None else acknowledge)

    def _on_bad_event(self, peer: Peer, error: WireError, ack_id: int | None) -> None:
        if error.is_malformed:
            raise ProtocolError(error.detail)
        self._inbox.counts["bad_event"] += 1
        peer.socket.server.complaints.tell(
            peer.socket.sid,
            error.reason,
            detail=error.detail,
            address=peer.address,
            name=error.event[:64],
        )
        if ack_id is not None:
            peer.acknowledge(ack_id, msgspec.json.encode({"error": error.reason}))


def _link(peer: Peer, identity: Identity, ours: ConnectAuth | None) -> Link:
    return Link(
        agent_id=identity.agent_id,
        asset_id=identity.asset_id,
        tenant_id=identity.tenant_id,
        client_id=identity.client_id,
        features=agreed(FEATURES, None if ours is None else ours.features),
        boot_id=None if ours is None else ours.boot_id,
        version=None if ours is None else ours.agent_version,
        jobs=() if ours is None else ours.jobs,
        connected_ms=now_ms(),
        peer=peer,
        is_certified=identity.is_certified,
    )


def _identity(link: Link) -> Identity:
    return Identity(
        link.agent_id, link.asset_id, link.tenant_id, link.client_id, "active", False, ""
    )
