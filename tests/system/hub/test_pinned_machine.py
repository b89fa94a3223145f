"""A machine that believes the hub by its token alone, and shows its certificate when it must."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from sqlalchemy import func, select, update

from hub.audit.models import AuditRow
from hub.heartbeat import authority
from hub.heartbeat.models import Certificate, Enrolment
from hub.operators.models import Tenant
from tests.doubles.enrolled import EnrolledAgent
from tests.doubles.hub_process import DEADLINE_S, HubProcess, free_port
from tests.facilities import require

LIFE_HOURS = "0.05"
"""Three minutes, and five that a certificate is backdated by: two thirds are over after 20 s."""


class TlsHub(HubProcess):
    """A hub whose certificate its own authority signed, with a port for agents."""

    def __init__(self) -> None:
        super().__init__()
        self.agents_port = free_port()
        self.env |= {
            "JACKLINE_HUB_PORT": str(self.port),
            "JACKLINE_HUB_TLS_OWN_CA": "true",
            "JACKLINE_HUB_AGENTS_PORT": str(self.agents_port),
            "JACKLINE_HUB_HEARTBEAT_INTERVAL_S": "1",
            "JACKLINE_HUB_CERTIFICATE_HOURS": LIFE_HOURS,
        }
        self.ca_file = self.state_dir / "ca.pem"
        self.ca_file.write_text(authority.load(self.state_dir, self.keyring()).chain_pem)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> tuple[int, Any]:
        try:
            reply = requests.request(
                method, f"{self.url}{path}", verify=str(self.ca_file), timeout=DEADLINE_S
            )
        except requests.ConnectionError:
            return 0, None
        return reply.status_code, reply.text

    def token_text(self) -> str:
        done = self.command("token", "create", "--quiet")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def hub() -> Iterator[TlsHub]:
    hub = TlsHub()
    try:
        hub.start()
        yield hub
    finally:
        hub.close()


def count(hub: TlsHub, *conditions: Any) -> int:
    query = select(func.count()).select_from(Certificate).where(*conditions)
    found: int = hub.read(lambda session: session.scalar(query))
    return found


def is_newest_shown(hub: TlsHub) -> bool:
    newest = select(Certificate.used_ms).order_by(Certificate.not_before_ms.desc()).limit(1)
    return hub.read(lambda session: session.scalar(newest)) is not None


def beat_ms(hub: TlsHub) -> int:
    found: int = hub.read(lambda session: session.scalar(select(func.max(Enrolment.beat_ms)))) or 0
    return found


def connections(port: int) -> int:
    """Return how many connections there are to a port of this machine."""
    done = subprocess.run(
        [require("ss"), "-Htn", "state", "established", f"dport = :{port}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return len(done.stdout.splitlines())


def test_pinned_machine_switches_to_its_certificate_by_itself_and_renews_it(hub: TlsHub) -> None:
    """Nothing is enrolled again, beats go on over renewals, link and heartbeat both move."""
    agent = EnrolledAgent(hub.token_text(), "--profile", "operator")
    try:
        agent.start()
        agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
        hub.write(lambda session: session.execute(update(Tenant).values(enforces_mtls=True)))
        hub.until(lambda: count(hub) >= 2 and is_newest_shown(hub))
        agent.until(lambda: agent.link == "up" and agent.heartbeat["state"] == "up")
        last = beat_ms(hub)
        hub.until(lambda: beat_ms(hub) > last)
        assert hub.read(lambda session: session.scalar(select(func.count(Enrolment.agent_id)))) == 1
        refused = select(AuditRow.outcome).where(AuditRow.action == "agent.beat")
        outcomes = set(hub.read(lambda session: list(session.scalars(refused))))
        assert outcomes == {"bearer_retired"}
        assert connections(hub.port) == 0, "the live link is not on the agents' port"
    finally:
        agent.close()
