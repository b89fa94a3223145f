"""How a machine becomes known, keeps its certificate, and goes.

Rules: the key never leaves the machine: the hub sees a CSR. A token or code is burnt by the first
request that is served. When its reply was lost, the same request gets 409 `token_used`, with a
`nonce` for whoever shows the same key; the request is repeated with that nonce and `proof`, the
key's signature over `proof_bytes`, and gets the same identity with fresh secrets. A captured
request is worth nothing without the key.

Keys are ECDSA P-256; a proof is its ASN.1 signature with SHA-256, in base64url without padding. A
key's thumbprint is the lower-case SHA-256 of its SubjectPublicKeyInfo.

Source: contract part 2; fault cases A.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from wire import limits
from wire.bodies import Body, Moment, Pem, Secret, Sha256, Url
from wire.fields import Id, Name

AgentId = Annotated[str, Meta(pattern=rf"^{limits.CLIENT_ID_PATTERN}(?![\s\S])")]
Nonce = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~-]{16,512}(?![\s\S])")]
Proof = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{16,512}(?![\s\S])")]
Profile = Literal["reporter", "operator", "full"]


class EnrollRequest(Body, frozen=True, kw_only=True):
    """Exactly one of `token` and `device_code`. `machine_id` finds the asset again.

    `machine_id` is a hash that says nothing but "the same machine". `tenant` need not be said;
    where it is, the token must be that tenant's. `nonce` and `proof` go together.
    """

    csr: Pem
    hostname: Name
    machine_id: Id
    platform: Name
    agent_version: Name
    boot_id: Id
    token: Secret | None = None
    device_code: Secret | None = None
    arch: Name | None = None
    tenant: Name | None = None
    profile: Profile | None = None
    nonce: Nonce | None = None
    proof: Proof | None = None

    def __post_init__(self) -> None:
        if (self.token is None) == (self.device_code is None):
            raise ValueError("exactly one of token and device_code is needed")
        if (self.nonce is None) != (self.proof is None):
            raise ValueError("nonce and proof go together")


class EnrollResponse(Body, frozen=True, kw_only=True):
    """The identity. `agent_id` is the live link's `clientId`, `auth_token` its secret.

    `certificate` is the leaf, `ca_chain` what signed it, both PEM. `server_url` is the live link's,
    `agents_url` the listener that asks for client certificates, where the hub has one. `state`
    `pending`: somebody must approve; until then beats are answered 403 `pending_approval`.
    """

    agent_id: AgentId
    asset_id: Id
    certificate: Pem
    ca_chain: Pem
    service_account_token: Secret
    auth_token: Secret
    server_url: Url
    policy: dict[str, Any] | None = None
    agents_url: Url | None = None
    state: Literal["active", "pending"] = "active"


class RenewRequest(Body, frozen=True, kw_only=True):
    """A CSR with a new key, shown under the present credential."""

    csr: Pem


class RenewResponse(Body, frozen=True, kw_only=True):
    """The next certificate. The present one stays valid for a day beside it."""

    certificate: Pem
    ca_chain: Pem


class UnenrollRequest(Body, frozen=True, kw_only=True):
    """Give the identity back; the answer is 204, and nothing of it is valid afterwards."""

    agent_id: AgentId


class TimeResponse(Body, frozen=True, kw_only=True):
    """The hub's clock, in milliseconds since the epoch."""

    server_ts: int


class CaResponse(Body, frozen=True, kw_only=True):
    """The hub's CA certificates, PEM; believed by whoever knows the fingerprint of one."""

    ca_chain: Pem


class DeviceCodeRequest(Body, frozen=True, kw_only=True):
    """Ask for a code that a person approves. An agent shows its key's thumbprint.

    `hostname` and `platform` are what the approver is shown, with address and thumbprint.
    """

    client_id: Literal["agent", "cli"]
    tenant: Name | None = None
    key_thumbprint: Sha256 | None = None
    hostname: Name | None = None
    platform: Name | None = None

    def __post_init__(self) -> None:
        if self.client_id == "agent" and self.key_thumbprint is None:
            raise ValueError("an agent shows its key's thumbprint")


class DeviceCodeResponse(Body, frozen=True, kw_only=True):
    """RFC 8628, section 3.2; both times in seconds."""

    device_code: Secret
    user_code: Name
    verification_uri: Url
    expires_in: Annotated[int, Meta(ge=1, le=86_400)]
    interval: Annotated[int, Meta(ge=1, le=3600)] = 5
    verification_uri_complete: Url | None = None


class DeviceTokenRequest(Body, frozen=True, kw_only=True):
    """RFC 8628, section 3.4."""

    grant_type: Name
    device_code: Secret
    client_id: Literal["agent", "cli"]


class DeviceTokenResponse(Body, frozen=True, kw_only=True):
    """The code is approved.

    `bearer`: an operator's `access_token`, for the client `cli` alone. `enrolment`: an agent's
    code; it brings no token: the code itself is now what `EnrollRequest.device_code` takes.
    """

    token_type: Literal["bearer", "enrolment"]
    access_token: Secret | None = None
    expires_in: int | None = None
    expires_at: Moment | None = None
    tenant: Name | None = None
    user: Name | None = None


def proof_bytes(nonce: str, thumbprint: str) -> bytes:
    """Give what the machine's key signs to have a lost reply again.

    Args:
        nonce: as the problem brought it.
        thumbprint: of the key that the CSR shows.
    """
    return f"jackline enrolment proof v1\n{nonce}\n{thumbprint}\n".encode()
