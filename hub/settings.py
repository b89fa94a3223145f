"""The hub's settings: default < `hub.yaml` in the state directory < `JACKLINE_HUB_<KEY>` < flag.

Rules: read here and nowhere else; all faults are reported together, each with its source; an
unknown key is a fault with a suggestion.
Source: docs/reference/hub.rst.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from hub.errors import SettingsError

FILE_NAME = "hub.yaml"
_PREFIX = "JACKLINE_HUB_"
Port = Annotated[int, Meta(ge=0, le=65535)]
Transport = Literal["websocket", "polling"]


class HubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `hub.yaml` may say. Units are in the names; None: off, or worked out."""

    state_dir: Path
    host: str = "127.0.0.1"
    port: Port = 8480
    public_url: str | None = None
    """How browsers and agents reach the hub: decides allowed hosts and origins."""
    database_url: str | None = None
    """None: SQLite, `hub.db` in the state directory."""
    transports: tuple[Transport, ...] = ("websocket",)
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_own_ca: bool = False
    """Serve https with a certificate of the hub's own authority, which enrolment tokens pin."""
    agents_port: Port | None = None
    """A listener of its own for agents with client certificates."""
    agents_url: str | None = None
    """How agents reach it; None: `agents_port` of the host of `public_url`."""
    certificate_hours: Annotated[float, Meta(gt=0, le=24 * 366)] = 24 * 14
    """How long an agent's certificate is good; renewed from two thirds on."""
    heartbeat_interval_s: Annotated[float, Meta(ge=1, le=3600)] = 60
    """How often agents beat."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-For and client-certificate header are believed."""
    proxy_secret_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    connects_per_s: Annotated[float, Meta(gt=0)] = 400.0
    """How fast links are admitted; who is over it is told when to come back."""
    ping_interval_s: Annotated[float, Meta(gt=0)] = 25.0
    """Engine.IO's ping; the other side is gone after it and 20 s more."""
    keys_base_url: str = "https://github.com"
    """Where the hub gets `<user>.keys` for a preview; a machine has its own `keys.baseUrl`."""
    telemetry_raw_hours: Annotated[int, Meta(gt=0)] = 48
    telemetry_rollup_days: Annotated[int, Meta(gt=0)] = 30
    presence_days: Annotated[int, Meta(gt=0)] = 90
    shell_idle_s: Annotated[int, Meta(gt=0)] = 4 * 3600
    """A shell in which nobody types ends after this."""
    shell_detached_s: Annotated[int, Meta(gt=0)] = 900
    """A shell at which nobody looks ends after this."""
    shell_max_s: Annotated[int, Meta(gt=0)] = 24 * 3600
    recordings_days: Annotated[int, Meta(gt=0)] = 90
    recording_max_bytes: Annotated[int, Meta(gt=0)] = 64 * 1024 * 1024
    artifacts_days: Annotated[int, Meta(gt=0)] = 30
    artifact_max_bytes: Annotated[int, Meta(gt=0)] = 64 * 1024 * 1024
    history_days: Annotated[int, Meta(gt=0)] = 90
    """How long ended jobs, commands and alerts stay, and log-ins that are good no more."""
    audit_days: Annotated[int, Meta(gt=0)] = 3650

    @property
    def url(self) -> str:
        """Return the database's URL."""
        return self.database_url or f"sqlite:///{self.state_dir / 'hub.db'}"


def load(
    state_dir: Path,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> HubSettings:
    """Read the settings of a hub.

    Args:
        state_dir: where its files are.
        flags: keys that the command line gave; None values are absent.

    Raises:
        SettingsError: every fault, one a line.
    """
    layers = [
        (FILE_NAME, _from_file(state_dir / FILE_NAME)),
        ("environment", _from_environment(environ)),
        ("command line", {k: v for k, v in (flags or {}).items() if v is not None}),
    ]
    faults: list[str] = []
    values: dict[str, Any] = {"state_dir": str(state_dir)}
    for source, layer in layers:
        for key, value in layer.items():
            fault = _fault(key, value)
            if fault:
                faults.append(f"{source}: {fault}")
            else:
                values[key] = value
    if faults:
        raise SettingsError("\n".join(faults))
    return _convert(values)


def state_dir_of(flag: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the hub's state directory: flag, `JACKLINE_HUB_STATE_DIR`, else the system's."""
    return Path(flag or environ.get(f"{_PREFIX}STATE_DIR") or "/var/lib/jackline-hub").absolute()


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise SettingsError(f"{path}: a mapping of keys is needed")
    return {key.removeprefix("hub."): value for key, value in found.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in environ.items():
        key = name.removeprefix(_PREFIX).lower()
        if name.startswith(_PREFIX) and text and key in HubSettings.__struct_fields__:
            many = key in ("transports", "trusted_proxies")
            found[key] = text.split(",") if many else text
    found.pop("state_dir", None)
    return found


def _fault(key: str, value: Any) -> str | None:
    fields = HubSettings.__struct_fields__
    if key not in fields or key == "state_dir":
        near = difflib.get_close_matches(key, fields, n=1)
        return f"unknown key `{key}`" + (f"; did you mean `{near[0]}`?" if near else "")
    try:
        _convert({"state_dir": "/", key: value})
    except msgspec.ValidationError as error:
        return f"{key}: {str(error).partition(' - at')[0]} (was {value!r})"
    return None


def _convert(values: Mapping[str, Any]) -> HubSettings:
    return msgspec.convert(values, HubSettings, strict=False, dec_hook=_path)


def _path(type_: type, value: Any) -> Any:
    if type_ is not Path or not isinstance(value, str):
        raise TypeError
    return Path(value)
