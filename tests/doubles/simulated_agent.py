"""An agent as the heartbeat link sees it: a key, requests, proofs, beats. Speaks `wire` alone.

Rules: pure; whoever has a client posts what it makes. The real endpoint is tests/doubles/
agent_process.py.
"""

from __future__ import annotations

import base64
import secrets
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.clock import iso, now_ms
from wire.enrolment import EnrollResponse, proof_bytes
from wire.inventory import (
    AgentFacts,
    Hardware,
    Inventory,
    OperatingSystem,
    Package,
    Service,
    digest,
)


class SimulatedAgent:
    """A machine that is, or wants to be, enrolled."""

    def __init__(self, name: str = "web-1", machine_id: str | None = None) -> None:
        self.name = name
        self.machine_id = machine_id or secrets.token_hex(16)
        self.boot_id = secrets.token_hex(8)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.seq = 0
        self.sent_ms = now_ms()
        self.identity: EnrollResponse | None = None

    def csr(self, key: ec.EllipticCurvePrivateKey | None = None) -> str:
        key = key or self.key
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ignored")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        signed = request.sign(key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def thumbprint(self) -> str:
        from hub.heartbeat.proofs import thumbprint

        return thumbprint(self.key.public_key())

    def request(self, token: str | None = None, **more: Any) -> dict[str, Any]:
        """Return the body of an enrolment."""
        body = {
            "csr": self.csr(),
            "hostname": self.name,
            "machine_id": self.machine_id,
            "platform": "linux",
            "agent_version": "1.0",
            "boot_id": self.boot_id,
            "arch": "x86_64",
        }
        return body | ({"token": token} if token is not None else {}) | more

    def proof(self, nonce: str) -> dict[str, str]:
        """Return `nonce` and `proof` for an enrolment whose reply was lost."""
        signature = self.key.sign(proof_bytes(nonce, self.thumbprint()), ec.ECDSA(hashes.SHA256()))
        return {
            "nonce": nonce,
            "proof": base64.urlsafe_b64encode(signature).decode().rstrip("="),
        }

    def believe(self, body: bytes) -> EnrollResponse:
        """Take what an enrolment was answered with as who we are."""
        self.identity = msgspec.json.decode(body, type=EnrollResponse)
        return self.identity

    @property
    def me(self) -> EnrollResponse:
        assert self.identity is not None
        return self.identity

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.me.service_account_token}"}

    def beat(self, **more: Any) -> dict[str, Any]:
        """Return the body of the next beat."""
        self.seq += 1
        self.sent_ms = max(self.sent_ms + 1, now_ms())
        return {
            "agent_id": self.me.agent_id,
            "seq": self.seq,
            "sent_at": iso(self.sent_ms),
            "boot_id": self.boot_id,
            **more,
        }

    def restart(self) -> None:
        """A new agent on the same boot counts from the beginning."""
        self.seq = 0


def inventory(*packages: str, **services: str) -> tuple[dict[str, Any], str]:
    """Return an inventory of packages (`name=version`) and services' states, and its digest."""
    made = Inventory(
        agent=AgentFacts(version="1.0", profile="reporter"),
        os=OperatingSystem(name="Debian GNU/Linux 12"),
        hardware=Hardware(cpus=2),
        packages=tuple(
            Package(name=name, version=version)
            for name, _, version in (text.partition("=") for text in packages)
        ),
        services=tuple(Service(name=name, state=state) for name, state in services.items()),
    )
    return msgspec.to_builtins(made), digest(made)


def result(command_id: str, state: str, **more: Any) -> dict[str, Any]:
    """Return how far a command is."""
    return {"command_id": command_id, "state": state, **more}
