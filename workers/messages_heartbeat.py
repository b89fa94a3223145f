"""What passes between the agent and the heartbeat's workers; part of `workers.messages`.

Source: contract part 2; architecture "Privileges".
"""

from __future__ import annotations

import msgspec


class _Mail(msgspec.Struct, frozen=True, kw_only=True, tag_field="m", omit_defaults=True):
    pass


class HeartbeatSpec(_Mail, tag="heartbeat", frozen=True, kw_only=True):
    """Call one hub, with one credential: bearer token, or certificate and key (PEM).

    `ca_data`: the only certificates to believe, PEM, and `also_ca` beside them. `proxies` as the
    environment gives them.
    """

    base_url: str
    bearer: str | None = None
    certificate: str | None = None
    key: str | None = None
    ca_data: str | None = None
    also_ca: str | None = None
    skip_verify: bool = False
    proxies: dict[str, str] = {}


class HubCall(_Mail, tag="hub_call", frozen=True, kw_only=True):
    """POST what came as data since the last call. One call at a time."""

    call_id: int
    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}


class Renew(_Mail, tag="renew", frozen=True, kw_only=True):
    """Make a new key and have the hub certify it."""

    call_id: int


class HubAnswer(_Mail, tag="hub_answer", frozen=True, kw_only=True):
    """The hub answered."""

    call_id: int
    status: int
    body: bytes = b""
    retry_after_s: float | None = None


class HubSilence(_Mail, tag="hub_silence", frozen=True, kw_only=True):
    """There is no answer; the call may have arrived all the same."""

    call_id: int
    reason: str
    sentence: str


class Renewed(_Mail, tag="renewed", frozen=True, kw_only=True):
    """A new certificate with its key (PEM), and how long it is good (moments)."""

    call_id: int
    certificate: str
    ca_chain: str
    key: str
    not_before: str
    not_after: str


class InventorySpec(_Mail, tag="inventory", frozen=True, kw_only=True):
    """Take stock of this machine; `sections` empty: everything."""

    version: str
    profile: str
    policy_digest: str
    sections: list[str] = []


class Collected(_Mail, tag="collected", frozen=True, kw_only=True):
    """The inventory is complete: the data before this is its JSON, `bytes` long."""

    bytes: int = 0
    digest: str = ""
    counts: dict[str, int] = {}
    incomplete: list[str] = []
    error: str | None = None


HeartbeatJob = HeartbeatSpec | InventorySpec
ToHeartbeat = HubCall | Renew
FromHeartbeat = HubAnswer | HubSilence | Renewed
