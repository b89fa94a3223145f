"""Certificates enforced, on the hub's own listener and behind a real nginx: who gets in."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import socketio
from sqlalchemy import select, update

from hub.audit import service as audit
from hub.audit.models import AuditRow
from hub.heartbeat import authority, enrolment_tokens
from hub.heartbeat.enrolment_tokens import Wanted
from hub.heartbeat.models import Certificate
from hub.operators import service as operators
from hub.operators.models import Tenant
from tests.doubles.hub_process import HubProcess, free_port
from tests.doubles.nginx import Nginx
from tests.doubles.simulated_agent import SimulatedAgent
from tests.doubles.tls import Authority
from wire.signature import signed_query

BEAT = "/api/v1/agents/heartbeat"
DEADLINE_S = 30


@dataclass
class Front:
    """Where agents show certificates, where people are, and what both are believed by."""

    hub: HubProcess
    agents_url: str
    people_url: str
    ca_file: str
    secret: str
    folder: Path

    def enrol(self, name: str) -> SimulatedAgent:
        def make(session: Any) -> str:
            tenant = operators.find_tenant(session, "default")
            assert tenant is not None
            return enrolment_tokens.make(session, audit.SYSTEM, tenant.id, Wanted())[1]

        agent = SimulatedAgent(name)
        reply = requests.post(
            f"{self.hub.url}/api/v1/agents/enroll",
            json=agent.request(self.hub.write(make)),
            timeout=DEADLINE_S,
        )
        agent.believe(reply.content)
        assert agent.me.agents_url == self.agents_url
        return agent

    def enforce(self, does_enforce: bool = True) -> None:
        change = update(Tenant).values(enforces_mtls=does_enforce)
        self.hub.write(lambda session: session.execute(change))

    def files(self, certificate: str, key: SimulatedAgent) -> tuple[str, str]:
        """Lay a certificate and its key down as `requests` wants them."""
        name = secrets.token_hex(8)
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_text(certificate)
        key_file.write_text(key.key_pem())
        return str(cert_file), str(key_file)

    def own(self, agent: SimulatedAgent) -> tuple[str, str]:
        return self.files(agent.me.certificate, agent)

    def beat(
        self,
        agent: SimulatedAgent,
        cert: tuple[str, str] | None = None,
        url: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str | None]:
        """Beat; return status and code. The bearer token is shown unless `headers` are given."""
        reply = requests.post(
            f"{url or self.agents_url}{BEAT}",
            json=agent.beat(),
            headers=agent.headers if headers is None else headers,
            cert=cert,
            verify=self.ca_file,
            timeout=DEADLINE_S,
        )
        return reply.status_code, reply.json().get("code")

    def outcomes(self, action: str) -> list[str]:
        query = select(AuditRow.outcome).where(AuditRow.action == action).order_by(AuditRow.seq)
        return self.hub.read(lambda session: list(session.scalars(query)))

    def link(
        self, agent: SimulatedAgent, cert: tuple[str, str] | None, url: str | None = None
    ) -> str:
        """Open the live link; return `linked`, or why it was refused."""
        session = requests.Session()
        session.verify = self.ca_file
        session.cert = cert
        client = socketio.Client(reconnection=False, handle_sigint=False, http_session=session)
        said: list[Any] = []
        done = threading.Event()

        def tell(what: Any) -> None:
            said.append(what)
            done.set()

        client.on("hello_ack", lambda *_: tell("linked"), namespace="/agents")
        client.on("connect_error", tell, namespace="/agents")
        query = signed_query(agent.me.agent_id, agent.me.auth_token, agent_ms())
        text = "&".join(f"{key}={value}" for key, value in query.items())
        try:
            client.connect(
                f"{url or self.agents_url}?{text}", namespaces=["/agents"], transports=["websocket"]
            )
        except socketio.exceptions.ConnectionError:
            pass
        try:
            assert done.wait(DEADLINE_S)
        finally:
            client.disconnect()
        return said[0] if isinstance(said[0], str) else said[0]["message"]


def agent_ms() -> int:
    from hub.clock import now_ms

    return now_ms()


@pytest.fixture(scope="module", params=["embedded", "nginx"])
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp(request.param)
    secret = secrets.token_hex(32)
    if request.param == "embedded":
        port = free_port()
        hub = HubProcess(env={"JACKLINE_HUB_AGENTS_PORT": str(port)})
        try:
            hub.start()
            ca_file = folder / "ca.pem"
            ca_file.write_text(hub.get("/api/v1/ca")[1]["ca_chain"])
            yield Front(hub, f"https://127.0.0.1:{port}", hub.url, str(ca_file), secret, folder)
        finally:
            hub.close()
        return
    secret_file = folder / "secret"
    secret_file.touch(0o600)
    secret_file.write_text(secret)
    hub = HubProcess(
        env={
            "JACKLINE_HUB_PROXY_SECRET_FILE": str(secret_file),
            "JACKLINE_HUB_TRUSTED_PROXIES": "127.0.0.1",
        }
    )
    trust = Authority(folder)
    nginx = Nginx(folder, trust.issue(), hub.port, secret)
    agents_url = f"https://127.0.0.1:{nginx.agents_port}"
    hub.env["JACKLINE_HUB_AGENTS_URL"] = agents_url
    try:
        hub.start()
        nginx.start()
        people = f"https://127.0.0.1:{nginx.port}"
        yield Front(hub, agents_url, people, str(trust.ca_file), secret, folder)
    finally:
        nginx.close()
        hub.close()


def test_beats_without_the_right_certificate_are_refused_each_with_its_reason(
    front: Front,
) -> None:
    agent, other = front.enrol("agent"), front.enrol("other")
    front.enforce(False)
    assert front.beat(agent, url=front.people_url) == (200, None)
    front.enforce()
    ours = authority.load(front.hub.state_dir, front.hub.keyring())
    key = agent.key.public_key()
    tenant_id = front.hub.read(lambda session: operators.find_tenant(session, "default").id)
    expired = ours.sign_client(key, agent.me.agent_id, tenant_id, hours=-0.05).pem
    never_given = ours.sign_client(key, agent.me.agent_id, tenant_id, hours=1).pem
    foreign = Authority(front.folder, "Foreign CA").sign(agent.csr(), agent.me.agent_id)

    before = len(front.outcomes("agent.beat"))
    assert front.beat(agent) == (403, "cert_required")
    assert front.beat(agent, front.files(foreign, agent)) == (403, "cert_unknown")
    assert front.beat(agent, front.files(expired, agent)) == (403, "cert_expired")
    assert front.beat(agent, front.files(never_given, agent)) == (403, "cert_unknown")
    assert front.beat(agent, front.own(other)) == (403, "cert_mismatch")
    assert front.beat(agent, front.own(other), headers={}) == (403, "identity_mismatch")
    assert front.beat(agent, url=front.people_url) == (401, "bearer_retired")
    assert front.outcomes("agent.beat")[before:] == [
        "cert_required",
        "cert_unknown",
        "cert_expired",
        "cert_unknown",
        "cert_mismatch",
        "identity_mismatch",
        "bearer_retired",
    ]
    assert front.beat(agent, front.own(agent), headers={}) == (200, None)
    assert front.beat(agent, front.own(agent)) == (200, None)
    front.hub.write(
        lambda session: session.execute(
            update(Certificate)
            .where(Certificate.key_thumbprint == other.thumbprint())
            .values(revoked_ms=1)
        )
    )
    assert front.beat(other, front.own(other)) == (403, "cert_revoked")


def test_forged_headers_are_worth_nothing(front: Front) -> None:
    agent = front.enrol("forger")
    front.enforce()
    escaped = quote(agent.me.certificate)
    names = ("X-Jackline-Client-Certificate", "x_jackline_client_certificate")
    for name in names:
        forged = agent.headers | {name: escaped, "X-Jackline-Proxy-Secret": "0" * 64}
        assert front.beat(agent, headers=forged) == (403, "cert_required")
        assert front.beat(agent, url=front.people_url, headers=forged) == (401, "bearer_retired")
        known = forged | {"X-Jackline-Proxy-Secret": front.secret}
        if front.people_url != front.hub.url:  # nginx puts its own in the place of both
            assert front.beat(agent, headers=known) == (403, "cert_required")
            assert front.beat(agent, url=front.people_url, headers=known)[0] == 401


def test_live_link_shows_the_certificate_too(front: Front) -> None:
    agent, other = front.enrol("linked"), front.enrol("unlinked")
    front.enforce()
    before = len(front.outcomes("agent.link"))
    assert front.link(agent, None, front.people_url) == "bearer_retired"
    assert front.link(agent, None) == "cert_required"
    assert front.link(agent, front.own(other)) == "cert_mismatch"
    foreign = Authority(front.folder, "Foreign CA 2").sign(agent.csr(), agent.me.agent_id)
    assert front.link(agent, front.files(foreign, agent)) == "cert_unknown"
    assert front.link(agent, front.own(agent)) == "linked"
    assert front.outcomes("agent.link")[before:] == [
        "bearer_retired",
        "cert_required",
        "cert_mismatch",
        "cert_unknown",
    ]


def test_renewal_under_load_drops_nothing_and_the_certificate_before_stays_good(
    front: Front,
) -> None:
    agent = front.enrol("renewing")
    front.enforce()
    old = front.own(agent)
    answers: list[tuple[int, str | None]] = []
    certs = [old]
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(front.beat(agent, certs[-1], headers={}))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(3):
            fresh = SimulatedAgent()
            reply = requests.post(
                f"{front.agents_url}/api/v1/agents/renew",
                json={"csr": fresh.csr()},
                cert=certs[-1],
                verify=front.ca_file,
                timeout=DEADLINE_S,
            )
            assert reply.status_code == 200, reply.text
            certs.append(front.files(reply.json()["certificate"], fresh))
            wanted = len(answers) + 3
            front.hub.until(lambda: len(answers) >= wanted)  # noqa: B023  (waited for here)
    finally:
        stop.set()
        thread.join()
    assert set(answers) == {(200, None)}
    assert front.beat(agent, old, headers={}) == (200, None)
    front.hub.write(
        lambda session: session.execute(
            update(Certificate).where(Certificate.retired_ms.is_not(None)).values(retired_ms=1)
        )
    )
    assert front.beat(agent, old, headers={}) == (403, "cert_revoked")
    assert front.beat(agent, certs[-1], headers={}) == (200, None)


def test_agents_port_has_nothing_for_people(front: Front) -> None:
    for path in ("/", "/openapi.json", "/api/v1/commands", "/api/v1/enrolment/tokens"):
        reply = requests.get(f"{front.agents_url}{path}", verify=front.ca_file, timeout=DEADLINE_S)
        assert reply.status_code == 404, path
    reply = requests.get(
        f"{front.agents_url}/api/v1/time", verify=front.ca_file, timeout=DEADLINE_S
    )
    assert reply.status_code == 200
