"""Every key of the configuration: its name, type, default and the variables that set it.

The sections that decide what is allowed are taken from `workers/policy_sections.py`, so that a key
is described once. This table knows names and types; `agent/config.py` reads the values.
Source: contract part 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from workers.policy_sections import (
    AdminSection,
    BackupSection,
    DirBrowseSection,
    KeysSection,
    ShellSection,
)

POLICY_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "admin": AdminSection,
    "shell": ShellSection,
    "keys": KeysSection,
    "backup": BackupSection,
    "dirBrowse": DirBrowseSection,
}
# A fielded agent reads these and we do not: they earn no warning. `.*`: whatever is below.
NOT_USED = (
    "updateCheckEnabled",
    "updateCheckIntervalHours",
    "openHardwareMonitorPort",
    "connectivity.*",
    "dirBrowse.sshHostKeyPolicy",
    "dirBrowse.smbProfiles",
)
SECRETS = frozenset({"authToken", "admin.commandToken"})
Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Key:
    """One key: `name` is dotted as in the file; `type` is what msgspec converts a value to."""

    name: str
    type: Any
    default: Any = None
    fielded: str | None = None  # the variable that a fielded agent reads, too
    required: bool = False

    @property
    def is_secret(self) -> bool:
        return self.name in SECRETS

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that may set it, strongest first."""
        own = "JACKLINE_" + variable_name(self.name)
        names = (own, self.fielded) if self.fielded else (own,)
        if not self.is_secret:
            return names
        return tuple(twin for name in names for twin in (name, f"{name}_FILE"))


def variable_name(key: str) -> str:
    """Turn `admin.maxConcurrent` into `ADMIN_MAX_CONCURRENT`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace(".", "_").upper()


def policy_keys(prefix: str, section: type[msgspec.Struct]) -> list[Key]:
    """Return the keys of one policy section, nested sections included."""
    found: list[Key] = []
    for field in msgspec.structs.fields(section):
        name = f"{prefix}.{field.encode_name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += policy_keys(name, field.type)
        elif name not in NOT_USED:
            fielded = "ADMIN_ALLOWED_COMMANDS" if name == "admin.allowedCommands" else None
            found.append(Key(name, field.type, field.default, fielded))
    return found


KEYS: tuple[Key, ...] = (
    Key("clientId", str, fielded="CLIENT_ID", required=True),
    Key("serverUrl", str, fielded="SERVER_URL", required=True),
    Key("authToken", str, fielded="AUTH_TOKEN", required=True),
    Key("statsIntervalSec", float, 60.0, "STATS_INTERVAL_SEC"),
    Key("heartbeatIntervalSec", float, 20.0, "HEARTBEAT_INTERVAL_SEC"),
    Key("pongTimeoutSec", float, 90.0, "PONG_TIMEOUT_SEC"),
    Key("transport.path", str, "/socket.io"),
    Key("transport.skipTlsVerify", bool, False, "AGENT_SKIP_TLS_VERIFY"),
    Key("transport.caFile", str | None),
    Key("logging.file", str | None),
    Key("logging.level", str, "info"),
    Key("control.group", str | None),
    *(key for name, section in POLICY_SECTIONS.items() for key in policy_keys(name, section)),
)
BY_NAME = {key.name: key for key in KEYS}
# Every name that may have keys below it.
BRANCHES = frozenset(name.rpartition(".")[0] for name in BY_NAME if "." in name)


def is_known_unused(name: str) -> bool:
    """Is this a key that a fielded agent has and we do not need?"""
    return any(
        name == unused or (unused.endswith(".*") and f"{name}.".startswith(unused[:-1]))
        for unused in NOT_USED
    )


def suggestion(name: str) -> str | None:
    """Return the key that somebody who wrote `name` may have meant."""
    import difflib

    lower = {known.lower(): known for known in (*BY_NAME, *BRANCHES)}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.75)
    if near:
        return lower[near[0]]
    # The right word in the wrong place: `maxConcurrent` at the top.
    last = name.rpartition(".")[2].lower()
    return next((k for low, k in lower.items() if low.rpartition(".")[2] == last), None)
