"""What the link is told, and what it tells: settings, events of its life, status.

Source: contract 1.1, 1.9, part 3; product "status".
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Literal

from agent.dial import TlsSettings
from agent.proxies import ProxySettings
from wire.features import FEATURES
from workers.loop import now_s

LinkState = Literal["connecting", "up", "waiting", "clock_unset", "stopped", "off"]
TransportName = Literal["websocket", "polling"]


@dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """What is fixed for the agent's life. `features` is what this side lists (contract 1.7)."""

    client_id: str
    server_url: str
    auth_token: str = field(repr=False)
    engine_path: str = "/socket.io"
    tls: TlsSettings = field(default_factory=TlsSettings)
    proxies: ProxySettings = field(default_factory=ProxySettings)
    heartbeat_s: float = 20.0
    pong_timeout_s: float = 90.0
    connect_timeout_s: float = 10.0
    features: tuple[str, ...] = FEATURES


@dataclass(frozen=True)
class LinkUp:
    """The namespace is connected; the features are not known before the `hello_ack`."""

    sid: str
    transport: TransportName
    max_payload: int | None


@dataclass(frozen=True)
class Hello:
    """The server's `hello_ack`; `features` is None for a foreign server."""

    features: frozenset[str] | None
    server_ts: float | None


@dataclass(frozen=True)
class LastEnd:
    """Why the last attempt or link ended; `at_ms` is wall time, for people."""

    reason: str
    detail: str
    at_ms: int


@dataclass(frozen=True, kw_only=True)
class LinkStatus:
    """For `status`. Seconds are of `workers.loop.now_s`, milliseconds of the wall clock."""

    state: LinkState = "stopped"
    since_s: float = 0.0
    since_ms: int = 0
    transport: TransportName | None = None
    sid: str | None = None
    features: frozenset[str] | None = None
    rtt_ms: float | None = None
    connects: int = 0
    next_attempt_s: float | None = None
    clock_offset_ms: int = 0
    last_end: LastEnd | None = None

    @property
    def reconnects(self) -> int:
        return max(0, self.connects - 1)


class StatusBoard:
    """The newest status: the link's thread writes, anybody reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._status = LinkStatus()

    def read(self) -> LinkStatus:
        return self._status

    def enter(self, state: LinkState, now_ms: int, next_attempt_s: float | None = None) -> None:
        """Note a state and since when."""
        self.write(state=state, since_s=now_s(), since_ms=now_ms, next_attempt_s=next_attempt_s)

    def write(self, **changes: object) -> None:
        """Change some fields of LinkStatus."""
        with self._lock:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
