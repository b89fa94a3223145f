"""What `jackline status` shows, gathered from the parts of a running agent."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent import killswitch
from agent.clock import wall_ms
from wire import __version__
from workers.loop import now_s

if TYPE_CHECKING:
    from agent.main import Agent


def answer(agent: Agent) -> dict[str, Any]:
    """Return the whole status as JSON values."""
    settings = agent.settings
    state_dir = settings.dirs.state
    return {
        "version": __version__,
        "pid": os.getpid(),
        "zygote_pid": agent.nursery.pid,
        "up_s": now_s() - agent.started_s,
        "client_id": settings.client_id,
        "server_url": settings.server_url,
        "link": _link(agent),
        "heartbeat": _heartbeat(agent),
        "workers": agent.roster.rows(),
        "outbox": _outbox(agent),
        "paused": killswitch.why(state_dir) or True if killswitch.is_on(state_dir) else None,
        "degraded": _degraded(agent),
        "log": {"file": str(settings.logging.file), "dropped": agent.log.dropped},
        "bad_events": agent.router.bad_events,
        "files": dict(settings.files),
        "warnings": list(settings.warnings) + agent.policy.warnings(),
    }


def _heartbeat(agent: Agent) -> dict[str, Any] | None:
    if agent.heartbeat is None:
        return None
    from agent.heartbeat_start import status_of  # loaded already, where there is one

    return status_of(agent, agent.heartbeat)


def _link(agent: Agent) -> dict[str, Any]:
    link = agent.link.status()
    now_ms = wall_ms()
    refusal = None
    if link.last_end is not None:
        refusal = {
            "reason": link.last_end.reason,
            "detail": link.last_end.detail,
            "ago_s": max(0.0, (now_ms - link.last_end.at_ms) / 1000.0),
        }
    next_s = None if link.next_attempt_s is None else max(0.0, link.next_attempt_s - now_s())
    return {
        "state": link.state,
        "since": _iso(link.since_ms),
        "for_s": max(0.0, now_s() - link.since_s),
        "transport": link.transport,
        "sid": link.sid,
        "rtt_ms": link.rtt_ms,
        "reconnects": link.reconnects,
        "features": sorted(link.features or ()),
        "foreign": link.features is None,
        "last_refusal": refusal,
        "next_try_s": next_s,
        "clock_off_s": link.clock_offset_ms / 1000.0,
    }


def _outbox(agent: Agent) -> dict[str, Any]:
    held = agent.outbox.status()
    return {
        "count": held.waiting,
        "bytes": held.bytes,
        "oldest_s": held.oldest_s,
        "parked": held.parked,
        "full": held.is_full,
    }


def _degraded(agent: Agent) -> list[str]:
    told = [f"{kind} workers are FATAL" for kind in sorted(agent.pool.fatal)]
    if agent.nursery.is_failing:
        told.append("no worker can be started: the zygote ends at once")
    if agent.telemetry.is_failing:
        told.append("telemetry workers end at once")
    if agent.rules.is_disk_full:
        told.append("disk_full")
    told += [each for each in (agent.schedules.fault, agent.schedules.damage) if each is not None]
    told += [f"backup overdue: {plan}" for plan in agent.backup_clock.overdue]
    return told


def _iso(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000.0, UTC).isoformat(timespec="milliseconds")
