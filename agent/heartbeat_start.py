"""Puts the heartbeat together for an agent, and tells `status` how it is.

Rules: there is one where there is an identity. With it, profile `reporter` opens no live link at
all. What the hub changes (credential, address, the tenant's policy) is carried on to the live link
and to the policy. Start-up only assembles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.collection import Collection
from agent.heartbeat import Heartbeat
from agent.heartbeat_caller import Caller
from agent.heartbeat_memory import Memory
from agent.heartbeat_store import HeartbeatStore
from agent.identity import Identity
from agent.identity_keeper import IdentityKeeper
from wire import __version__
from wire.commands import CommandError
from workers.messages_heartbeat import HeartbeatSpec
from workers.policy import Policy, PolicyError, tenant_document

if TYPE_CHECKING:
    from agent.main import Agent

STORE_FILE = "heartbeat.db"


def make_heartbeat(agent: Agent, known: Identity, boot_id: Callable[[], str]) -> Heartbeat:
    """Return the agent's heartbeat, not yet started."""
    state_dir = agent.settings.dirs.state
    keeper = IdentityKeeper(known, state_dir, agent.disk, agent.log)
    memory = Memory(agent.disk, HeartbeatStore(state_dir / STORE_FILE), agent.log)
    caller = Caller(agent.loop, agent.pool, lambda: _spec(agent, keeper.identity), agent.log)
    heartbeat = Heartbeat(
        agent.loop, memory, caller, keeper, boot_id, lambda said: _narrow(agent, said), agent.log
    )
    heartbeat.collection = Collection(
        agent.loop,
        agent.pool,
        heartbeat,
        lambda: _refusal(agent),
        lambda: _facts(agent.policy),
        heartbeat.is_expired,
        agent.log,
    )
    keeper.on_change.append(lambda before, now: _move_link(agent, before, now))
    return heartbeat


def status_of(agent: Agent, heartbeat: Heartbeat) -> dict[str, Any]:
    """Return the heartbeat's part of `status`."""
    condition, known = heartbeat.condition, heartbeat.identity
    now = agent.loop.clock()
    failure = None
    if condition.failure is not None:
        failure = {
            "reason": condition.failure.reason,
            "detail": condition.failure.sentence,
            "ago_s": now - condition.failed_s,
        }
    answered_s = condition.answered_s
    return {
        "state": condition.state,
        "url": known.http_url,
        "only_link": agent.link.status().state != "up",
        "mtls": known.mtls,
        "certificate_until": known.not_after,
        "interval_s": heartbeat.interval_s,
        "answered_ago_s": None if answered_s is None else now - answered_s,
        "next_beat_s": heartbeat.next_s(),
        "beats": condition.beats,
        "last_failure": failure,
        "samples_kept": condition.counts.samples,
        "commands_open": condition.counts.commands,
    }


def _spec(agent: Agent, known: Identity) -> HeartbeatSpec:
    """How the hub is called now: with the certificate alone once the bearer is retired."""
    transport = agent.settings.transport
    return HeartbeatSpec(
        base_url=known.http_url,
        bearer=None if known.mtls else known.service_account_token,
        certificate=known.certificate if known.mtls else None,
        key=known.key if known.mtls else None,
        ca_data=_ca_data(transport.ca_file) or known.server_ca,
        also_ca=known.own_ca,
        skip_verify=transport.skip_tls_verify,
        proxies=dict(agent.settings.proxies),
    )


def _ca_data(ca_file: str | None) -> str | None:
    """A file that cannot be read is the worker's to tell: it believes nobody then."""
    if ca_file is None:
        return None
    try:
        return Path(ca_file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return "transport.caFile cannot be read"


def _refusal(agent: Agent) -> str | None:
    if agent.rules.is_stopping:
        return CommandError.AGENT_STOPPED
    if agent.policy.locked() is not None:
        return CommandError.LOCKED_BY_HOST
    if not agent.policy.family("collection").allowed:
        return CommandError.POLICY_DENIED
    return CommandError.DISK_FULL if agent.rules.is_disk_full else None


def _facts(policy: Policy) -> dict[str, str]:
    rows = [[side, key, value] for side, key, value, _ in policy.rows()]
    return {
        "version": __version__,
        "profile": policy.sections.profile,
        "policy_digest": hashlib.sha256(msgspec.json.encode(rows, order="sorted")).hexdigest(),
    }


def _narrow(agent: Agent, said: dict[str, Any]) -> str | None:
    try:
        agent.policy.narrow(tenant_document(said))
    except PolicyError as e:
        return str(e)
    return None


def _move_link(agent: Agent, before: Identity, now: Identity) -> None:
    """The live link goes where the certificate is asked for, once it is."""
    if (before.link_url, before.mtls) != (now.link_url, now.mtls):
        agent.link.move(now.link_url)
