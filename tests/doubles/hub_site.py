"""A real hub with a real agent linked to it, and operators' consoles.

Rules: both are processes of their own; `close` leaves nothing of either.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from hub.agents.models import Agent
from hub.authorize import Role
from tests.doubles.agent_process import AgentProcess
from tests.doubles.console_socket import ConsoleSocket, console
from tests.doubles.hub_process import HubProcess

_NAMES = itertools.count(1)


class HubSite:
    """See the module.

    Args:
        env: more variables of the hub.
        config: more keys of the agent's configuration.
        database_url: None for SQLite.
    """

    def __init__(
        self,
        env: dict[str, str] | None = None,
        config: dict[str, Any] | None = None,
        database_url: str | None = None,
    ) -> None:
        self.hub = HubProcess(database_url, env)
        client_id = "box-1"
        secret = self.hub.add_agent(client_id)
        self.token = self.hub.add_user("ann", Role.OPERATOR)
        self.asset_id = self.hub.read(
            lambda session: str(
                session.scalar(select(Agent.asset_id).where(Agent.client_id == client_id))
            )
        )
        keys = {"clientId": client_id, "authToken": secret, **(config or {})}
        self.agent = AgentProcess(self.hub.url, keys)

    def start(self) -> HubSite:
        """Start both, and wait for the link."""
        self.hub.start()
        self.agent.start()
        self.await_link()
        return self

    def await_link(self) -> None:
        self.agent.until(lambda: self.agent.ask("status")["link"]["state"] == "up")

    def user(self, role: Role, tenant: str = "default") -> str:
        """Make a user with a role; return a token."""
        return self.hub.add_user(f"user-{next(_NAMES)}", role, tenant)

    @contextlib.contextmanager
    def console(self, token: str | None = None) -> Iterator[ConsoleSocket]:
        """A console of the operator `ann`, or of whose token it is."""
        with console(self.hub.url, token or self.token) as made:
            yield made

    def session(self, session_id: str) -> dict[str, Any]:
        """Ask the API for a session."""
        status, body = self.hub.get(f"/api/v1/shells/{session_id}", self.token)
        assert status == 200, body
        return dict(body)

    def until_ended(self, session_id: str) -> dict[str, Any]:
        """Wait until the API says that a session has ended, and its recording is complete."""

        def ended() -> dict[str, Any] | None:
            found = self.session(session_id)
            return found if found["state"] == "ended" and found["recording"] != "open" else None

        return dict(self.hub.until(ended))

    def fresh_agent(self) -> AgentProcess:
        """Start an agent with the same credential and empty directories, as on a new disk."""
        return AgentProcess(self.hub.url, self.agent.config).start()

    def close(self) -> None:
        self.agent.close()
        self.hub.close()


@contextlib.contextmanager
def hub_site(
    env: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    database_url: str | None = None,
) -> Iterator[HubSite]:
    """Start a hub and an agent, and end both afterwards."""
    site = HubSite(env, config, database_url)
    try:
        yield site.start()
    finally:
        site.close()
