"""Which proxy, if any, an outgoing connection takes. Pure.

Rules: the configuration's proxy before the environment's; `NO_PROXY` names exceptions to both.
Only `http://` proxies are spoken (by CONNECT), with a user and a password or without.

Source: contract 1.1 "Proxies, with authentication, honoured".
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from agent.errors import LinkError


@dataclass(frozen=True)
class Proxy:
    """One HTTP proxy; its `repr` has no secret."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ProxySettings:
    """Proxy URLs by the scheme of what is reached, and what is reached without one."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()


def from_environment(environ: Mapping[str, str], configured: str | None = None) -> ProxySettings:
    """Read `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, lower-case spellings first.

    Args:
        environ: the process's environment.
        configured: the configuration's own proxy, for everything; "" for none at all.
    """

    def value(name: str) -> str:
        return (environ.get(name) or environ.get(name.upper()) or "").strip()

    every = value("all_proxy")
    exceptions = tuple(part for part in value("no_proxy").replace(" ", ",").split(",") if part)
    if configured is not None:
        return ProxySettings(http=configured, https=configured, no_proxy=exceptions)
    return ProxySettings(
        http=value("http_proxy") or every,
        https=value("https_proxy") or every,
        no_proxy=exceptions,
    )


def proxy_for(settings: ProxySettings, host: str, port: int, *, is_tls: bool) -> Proxy | None:
    """Give the proxy for one address, or None to go directly.

    Raises:
        LinkError: `bad_proxy`; the address cannot be used.
    """
    url = settings.https if is_tls else settings.http
    if not url or _is_exempt(settings.no_proxy, host.lower().rstrip("."), port):
        return None
    return _parse(url)


def _parse(url: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError as error:
        raise LinkError("bad_proxy", "the proxy's address is not a URL") from error
    if parts.scheme.lower() != "http" or not parts.hostname:
        raise LinkError("bad_proxy", "the proxy must be http://[user:password@]host[:port]")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, port, authorization)


def _is_exempt(exceptions: tuple[str, ...], host: str, port: int) -> bool:
    return any(_matches(entry.lower(), host, port) for entry in exceptions)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if (network := _network(entry)) is not None:
        address = _network(host)
        return (
            address is not None and address.version == network.version and _within(address, network)
        )
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        return int(number) == port and _matches(name.strip("[]"), host, port)
    bare = entry.removeprefix("*").removeprefix(".")
    return host == bare or host.endswith("." + bare)


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _within(address: _Network, network: _Network) -> bool:
    return network.network_address <= address.network_address <= network.broadcast_address  # type: ignore[operator]
