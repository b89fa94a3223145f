"""The endpoint's settings: one frozen object, read here and nowhere else.

Order, weakest first: default, file, environment, flag; `JACKLINE_<KEY>` is stronger than the name
that a fielded agent reads, and a secret may stand in a file that `<VARIABLE>_FILE` names. An empty
variable counts as unset, save the list of allowed commands, where empty denies all. All faults are
found before anything is said, and none of them shows a secret.
Source: contract part 3; docs/reference/configuration.rst "Directories"; cases J "Config".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from agent import configfile, configvalues, dirs, identity, started_from
from agent.configkeys import (
    BRANCHES,
    BY_NAME,
    KEYS,
    POLICY_SECTIONS,
    Key,
    is_known_unused,
    suggestion,
)
from agent.errors import ConfigError, Fault, IdentityError
from agent.identity import Identity
from agent.settings import Logging, Options, Report, Settings, Transport, Value
from workers.policy_sections import Sections

FILE_NAME = "agent-config"
__all__ = [
    "FILE_NAME",
    "Logging",
    "Options",
    "Report",
    "Settings",
    "Transport",
    "Value",
    "inspect",
    "load",
]


def load(options: Options | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings.

    Args:
        options: what the command line says.
        environ: the variables; a test passes its own.

    Raises:
        ConfigError: with every fault that was found; print them and exit 78.
    """
    report = inspect(options, environ)
    if report.settings is None:
        raise ConfigError(list(report.faults))
    return report.settings


def inspect(options: Options | None = None, environ: Mapping[str, str] = os.environ) -> Report:
    """Like `load`, but tell what is wrong instead of raising."""
    return _Reader(options or Options(), environ).report()


def find_file(options: Options, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """Return the configuration file to use, and whether it was named (and so must exist)."""
    named = named_file(options, environ)
    if named is not None:
        return named, True
    for folder in search_path(environ):
        for suffix in configfile.SUFFIXES:
            # lexists: a broken link is a fault to be told, not a file to be skipped.
            if os.path.lexists(path := folder / f"{FILE_NAME}{suffix}"):
                return path, False
    return None, False


def named_file(options: Options, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file that somebody has named, there or not."""
    named = options.config or _first(environ, "JACKLINE_CLIENT_CONFIG_PATH", "CLIENT_CONFIG_PATH")
    return Path(named).absolute() if named else None


def search_path(environ: Mapping[str, str]) -> list[Path]:
    """Return the directories in which a configuration is looked for, first one wins."""
    here = [Path.cwd(), dirs.find(environ).config]
    if not environ.get("JACKLINE_CONFIG_DIR"):
        here.append(dirs.system_dirs(environ).config)
    return list(dict.fromkeys(here))


class _Reader:
    """One reading; collects values, faults and warnings on the way."""

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._faults: list[Fault] = []
        self._warnings: list[str] = []
        self._values: dict[str, Value] = {}
        self._file, self._named = find_file(options, environ)
        self._dirs = dirs.find(environ)
        folder = self._file.parent if self._file else self._dirs.config
        self._policy_file = folder / "policy.yaml"
        self._seen = started_from.marks((self._file, self._policy_file))
        self._identity: Identity | None = None
        self._is_identity_broken = False

    def report(self) -> Report:
        raw = self._read_file()
        written = self._flatten(raw)
        for key in KEYS:
            self._values[key.name] = self._read_key(key, written)
        self._take_identity()
        self._require()
        self._warn()
        settings = None if self._faults else self._settings()
        return Report(
            settings=settings,
            values=tuple(map(self._filled_in, self._values.values())),
            faults=tuple(self._faults),
            warnings=tuple(self._warnings),
            config_file=self._file,
            log_file=self._log_file(),
        )

    # -- the file ------------------------------------------------------------------------------

    def _read_file(self) -> dict[str, Any]:
        if self._file is None:
            return {}
        try:
            return configfile.read(self._file)
        except ConfigError as e:
            self._faults += e.faults
            return {}

    def _flatten(self, raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Return the known keys by dotted name; warn of the others."""
        found: dict[str, Any] = {}
        for word, value in raw.items():
            name = f"{prefix}{word}"
            if is_known_unused(name):
                continue
            if name in BY_NAME:
                found[name] = value
            elif name not in BRANCHES:
                self._warn_unknown(name)
            elif isinstance(value, Mapping):
                found |= self._flatten(value, f"{name}.")
            elif value is not None:
                reason = "must be a mapping of keys to values"
                self._faults.append(Fault(name, reason, source=str(self._file)))
        return found

    def _warn_unknown(self, name: str) -> None:
        meant = suggestion(name)
        hint = f"; did you mean {meant}?" if meant else ""
        self._warnings.append(f"{name}: unknown key in {self._file}{hint}")

    # -- one key -------------------------------------------------------------------------------

    def _read_key(self, key: Key, written: Mapping[str, Any]) -> Value:
        """Take the strongest source that says something."""
        value, origin = self._strongest(key, written)
        if value is None:
            return Value(key, key.default, "default")
        try:
            if isinstance(value, _Text):
                value = configvalues.from_text(key, value)
            converted = configvalues.convert(key, value)
        except ValueError as e:
            text = configvalues.shown(key, value)
            self._faults.append(Fault(key.name, str(e), text, origin))
            return Value(key, key.default, "default")
        is_kept = converted is not key.default or value == key.default
        return Value(key, converted, origin if is_kept else f"default ({origin} says {value})")

    def _strongest(self, key: Key, written: Mapping[str, Any]) -> tuple[Any, str]:
        flag = self._flag(key)
        if flag is not None:
            return flag
        for name in key.variables:
            text = self._environ.get(name)
            if not text and not (text == "" and name.endswith("ADMIN_ALLOWED_COMMANDS")):
                continue
            if key.is_secret and name.endswith("_FILE"):
                return self._secret_file(key, name, text), f"environment {name}"
            return _Text(text), f"environment {name}"
        if key.name in written:
            return written[key.name], f"file {self._file}"
        return None, "default"

    def _flag(self, key: Key) -> tuple[Any, str] | None:
        if key.name == "transport.skipTlsVerify" and self._options.insecure:
            return True, "flag --insecure"
        if key.name == "logging.level" and self._options.log_level:
            return self._options.log_level, "flag --log-level"
        return None

    def _secret_file(self, key: Key, name: str, path: str) -> Any:
        try:
            text = configfile.read_bytes(Path(path)).decode("utf-8").strip()
            self._warn_if_readable(Path(path))
            return _Text(text)
        except ConfigError as e:
            reason = f"{e.faults[0].key} {e.faults[0].reason}"
        except UnicodeDecodeError:
            reason = f"{path} is not UTF-8"
        self._faults.append(Fault(key.name, reason, source=f"environment {name}"))
        return None

    # -- the whole -----------------------------------------------------------------------------

    def _take_identity(self) -> None:
        """Who is enrolled is who the hub says, whatever else was written down."""
        try:
            self._identity = identity.read(self._dirs.state)
        except IdentityError as e:
            self._faults.append(Fault("identity", str(e)))
            self._is_identity_broken = True
            return
        if self._identity is None:
            return
        told = {
            "clientId": self._identity.agent_id,
            "serverUrl": self._identity.link_url,
            "authToken": self._identity.auth_token,
        }
        for name, value in told.items():
            found = self._values[name]
            if found.value not in (None, value):
                self._warnings.append(f"{name}: the identity decides, not {found.origin}")
            self._values[name] = Value(found.key, value, "identity")

    def _require(self) -> None:
        """Say what is missing, unless the file itself could not be read: that says enough."""
        at_fault = {fault.key for fault in self._faults}
        if self._is_identity_broken or str(self._file) in at_fault:
            return
        where = str(self._file or f"no {FILE_NAME}.json in {self._searched()}")
        for key in KEYS:
            if key.required and self._values[key.name].value is None and key.name not in at_fault:
                variable = key.fielded or key.variables[0]
                reason = f"is required, in the file or as {variable}"
                self._faults.append(Fault(key.name, reason, source=where))

    def _searched(self) -> str:
        return ", ".join(map(str, search_path(self._environ)))

    def _warn(self) -> None:
        if self._values["transport.skipTlsVerify"].value:
            self._warnings.append(
                "transport.skipTlsVerify: the server's certificate is not checked; "
                "anybody on the way can read and change everything"
            )
        url = self._values["serverUrl"].value
        if url and url.startswith(("http:", "ws:")) and not _is_loopback(url):
            self._warnings.append("serverUrl: without TLS anybody on the way can read everything")
        if sys.platform != "win32" and self._file is not None:
            self._warn_of_readers(self._file)

    def _warn_of_readers(self, path: Path) -> None:
        if self._values["authToken"].origin.startswith("file"):
            self._warn_if_readable(path)
        try:
            owner = path.stat().st_uid
        except OSError:
            return
        if sys.platform != "win32" and owner not in (0, os.geteuid()):
            self._warnings.append(f"{path}: belongs to uid {owner}, who decides with it")

    def _warn_if_readable(self, path: Path) -> None:
        """A container's secrets are readable by all of its processes: no need to say so."""
        if sys.platform == "win32" or str(path).startswith("/run/secrets/"):
            return
        try:
            is_readable = path.stat().st_mode & 0o004
        except OSError:
            return
        if is_readable:
            self._warnings.append(f"{path}: everybody may read the token in it; `chmod 600 {path}`")

    def _settings(self) -> Settings:
        value = {name: found.value for name, found in self._values.items()}
        return Settings(
            client_id=value["clientId"],
            server_url=value["serverUrl"],
            auth_token=value["authToken"],
            stats_interval_s=value["statsIntervalSec"],
            heartbeat_interval_s=value["heartbeatIntervalSec"],
            pong_timeout_s=value["pongTimeoutSec"],
            transport=Transport(
                path=value["transport.path"],
                skip_tls_verify=value["transport.skipTlsVerify"],
                ca_file=self._beside(value["transport.caFile"]),
            ),
            logging=Logging(file=self._log_file(), level=value["logging.level"]),
            control_group=value["control.group"],
            sections=_sections(value),
            dirs=self._dirs,
            identity=self._identity,
            config_file=self._file,
            policy_file=self._policy_file,
            proxies=proxies(self._environ),
            origins={name: found.origin for name, found in self._values.items()},
            files=self._seen,
            warnings=tuple(self._warnings),
        )

    def _beside(self, path: str | None) -> str | None:
        """A relative path in the configuration is relative to it, never to where we started."""
        if path is None or os.path.isabs(path) or self._file is None:
            return path
        return str(self._file.parent / path)

    def _log_file(self) -> Path:
        """LOG_FILE is weaker than the file's key, as with a fielded agent."""
        if named := self._beside(self._values["logging.file"].value):
            return Path(named).absolute()
        if variable := _first(self._environ, "JACKLINE_LOG_FILE", "LOG_FILE"):
            return Path(variable).absolute()
        if self._environ.get("JACKLINE_LOG_DIR") or self._file is None:
            return self._dirs.log / "agent.log"
        for known in (dirs.defaults(self._environ), dirs.system_dirs(self._environ)):
            if self._file.parent == known.config:
                return known.log / "agent.log"
        return self._file.parent / "agent.log"

    def _filled_in(self, value: Value) -> Value:
        """Show the one default that depends on other things."""
        if value.key.name == "logging.file" and value.value is None:
            return Value(value.key, str(self._log_file()), value.origin)
        return value


class _Text(str):
    """A variable's value: text that still has to be read as its key's type."""

    __slots__ = ()


def _sections(value: Mapping[str, Any]) -> Sections:
    """Build the policy sections from converted values."""
    return Sections(
        **{
            _attribute(name): _section(name, struct, value)
            for name, struct in POLICY_SECTIONS.items()
        }
    )


def _section(prefix: str, struct: type[msgspec.Struct], value: Mapping[str, Any]) -> Any:
    attributes: dict[str, Any] = {}
    for one in msgspec.structs.fields(struct):
        name = f"{prefix}.{one.encode_name}"
        if name in value:
            attributes[one.name] = value[name]
        elif isinstance(one.type, type) and issubclass(one.type, msgspec.Struct):
            attributes[one.name] = _section(name, one.type, value)
    return struct(**attributes)


def _attribute(name: str) -> str:
    return next(f.name for f in msgspec.structs.fields(Sections) if f.encode_name == name)


def _first(environ: Mapping[str, str], *names: str) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies of the environment by scheme: http, https, all and no."""
    found: dict[str, str] = {}
    for scheme in ("http", "https", "all", "no"):
        if value := _first(environ, f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            found[scheme] = value
    return found


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
