"""The endpoint's settings as objects: frozen, complete, read by `agent/config.py` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.configkeys import Key
from agent.dirs import Dirs
from agent.errors import Fault
from agent.identity import Identity
from agent.started_from import Mark
from workers.policy_sections import Sections


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says: stronger than everything else."""

    config: Path | None = None
    insecure: bool = False
    log_level: str | None = None


@dataclass(frozen=True)
class Value:
    """One key's value and where it came from: `default`, `file PATH`, `environment NAME` …"""

    key: Key
    value: Any
    origin: str


@dataclass(frozen=True, kw_only=True)
class Transport:
    """`transport`: how the server is reached. `path` starts with a slash and ends in none."""

    path: str
    skip_tls_verify: bool
    ca_file: str | None


@dataclass(frozen=True, kw_only=True)
class Logging:
    """`logging`: where the log goes, absolute, and from which level on."""

    file: Path
    level: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything an agent is told from outside.

    `proxies` has the keys http, https, all and no, as the environment gives them; `origins` says
    of each dotted key where it came from; `files` are the owner's files as they were then (see
    `agent.started_from`); `secrets` must not appear in anything we write.
    """

    client_id: str
    server_url: str
    auth_token: str = field(repr=False)
    stats_interval_s: float
    heartbeat_interval_s: float
    pong_timeout_s: float
    transport: Transport
    logging: Logging
    control_group: str | None
    sections: Sections
    dirs: Dirs
    identity: Identity | None
    config_file: Path | None
    policy_file: Path
    proxies: Mapping[str, str] = field(repr=False)
    origins: Mapping[str, str] = field(repr=False)
    files: Mapping[str, Mark] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        own = self.identity.secrets if self.identity is not None else ()
        held = (self.auth_token, self.sections.admin.command_token, *own)
        return tuple(secret for secret in held if secret)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found, good or bad; `settings` is None when there is a fault."""

    settings: Settings | None
    values: tuple[Value, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    config_file: Path | None
    log_file: Path
