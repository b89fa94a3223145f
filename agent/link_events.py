"""What the link's life means for the families.

Rules: core thread only. Output of sessions that an earlier link knew goes on once it is known who
the peer is: at its `hello_ack`, or 5 s after the CONNECT reply of one that says none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.ending import end_jobs
from agent.errors import LinkError
from agent.link_types import Hello, LinkSettings, LinkUp
from agent.live_link import LiveLink
from agent.proxies import from_environment
from wire import __version__, limits
from wire.connect import ConnectAuth
from wire.errors import WireError
from wire.events import ToAgent
from wire.reasons import Reason
from workers.loop import Timer

if TYPE_CHECKING:
    from agent.dial import OwnTls
    from agent.main import Agent


class LinkEvents:
    """See the module; implements `live_link.LinkHandlers`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._silence: Timer | None = None

    def on_event(self, message: ToAgent) -> None:
        """Something for a family."""
        self._agent.router.on_event(message)

    def on_bad_event(self, error: WireError) -> None:
        """Something that is no message."""
        self._agent.router.on_bad_event(error)

    def on_up(self, up: LinkUp) -> None:
        """Connected; nothing of 1.7 may be said yet."""
        uplink = self._agent.uplink
        uplink.is_up, uplink.features = True, frozenset()
        uplink.event_limit = limits.event_limit(up.max_payload)
        self._silence = self._agent.loop.call_later(limits.NO_HELLO_FLUSH_S, self._settle)

    def on_hello(self, hello: Hello) -> None:
        """The connection is good, and it is known who the peer is."""
        uplink = self._agent.uplink
        uplink.features = uplink.last_features = hello.features or frozenset()
        self._agent.telemetry.on_hello()
        self._stop_waiting()
        self._settle()

    def on_down(self, error: LinkError) -> None:
        """Gone."""
        self._stop_waiting()
        uplink = self._agent.uplink
        uplink.is_up, uplink.features = False, frozenset()
        self._agent.shells.on_link_down()
        self._agent.commands.on_link_down()
        self._agent.files.on_link_down()

    def on_revoked(self) -> None:
        """The server takes nothing from us any more: then nothing of its operators goes on here."""
        self._agent.log.warning("this agent was revoked; its jobs are ended")
        end_jobs(self._agent, Reason.OPERATOR_LOST)

    def on_drained(self, session: str, cost: int) -> None:
        """Output has left our send queue."""
        self._agent.shells.on_drained(session, cost)
        self._agent.commands.on_drained(session, cost)
        self._agent.files.on_drained(session, cost)

    def _settle(self) -> None:
        self._silence = None
        self._agent.shells.on_link_up()
        self._agent.commands.on_link_up()

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None


def _own_tls(agent: Agent) -> OwnTls | None:
    """Return what is shown of us now; called by the link's thread."""
    from agent.dial import OwnTls  # with the link's other imports

    known = None if agent.heartbeat is None else agent.heartbeat.identity
    if known is None or not known.mtls:
        return None
    return OwnTls(known.certificate, known.key, known.ca_chain)


def make_link(agent: Agent, features: tuple[str, ...], boot_id: Callable[[], str]) -> LiveLink:
    """Return the agent's link, not yet started."""
    from agent.dial import TlsSettings  # with the link's other imports

    settings = agent.settings
    transport = settings.transport
    environ = {f"{name}_proxy": value for name, value in settings.proxies.items()}

    def auth() -> ConnectAuth:
        jobs = [*agent.shells.states(), *agent.commands.states(), *agent.backups.states()]
        return ConnectAuth(
            agent_version=__version__,
            boot_id=boot_id(),
            features=features,
            jobs=tuple(jobs[: limits.MAX_JOBS]),
        )

    return LiveLink(
        LinkSettings(
            client_id=settings.client_id,
            server_url=settings.server_url,
            auth_token=settings.auth_token,
            engine_path=transport.path,
            tls=TlsSettings(
                ca_file=None if transport.ca_file is None else Path(transport.ca_file),
                skip_verify=transport.skip_tls_verify,
                ca_data=None if settings.identity is None else settings.identity.server_ca,
                own=lambda: _own_tls(agent),
            ),
            proxies=from_environment(environ),
            heartbeat_s=settings.heartbeat_interval_s,
            pong_timeout_s=settings.pong_timeout_s,
            features=features,
        ),
        agent.loop,
        agent.outgoing,
        agent.outbox,
        LinkEvents(agent),
        auth,
        agent.log,
    )
