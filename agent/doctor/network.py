"""Check the way to the server: name, connection, certificate, clock, WebSocket, signature.

Rules: the steps are taken with the link's own dialler, so that proxies and authorities are those of
the agent; a certificate that is refused ends it before anything is sent; while an agent is linked,
nothing connects under its name.
Source: contract 1.1.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from agent import connect_auth, proxies
from agent.config import Settings
from agent.connect_auth import NAMESPACE, ServerAddress
from agent.dial import Dialer, OwnTls, TlsSettings
from agent.doctor.finding import Finding, Scene
from agent.errors import DoctorError, LinkError

TIMEOUT_S = 8.0
DATE_TIMEOUT_S = 3.0
CLOCK_WINDOW_S = 300
CLOCK_WARNING_S = 30
CERTIFICATE_WARNING_DAYS = 14

# Which step a LinkError's reason belongs to, and what helps.
_STEPS = {
    "dns": "dns",
    "tcp": "tcp",
    "tcp_timeout": "tcp",
    "bad_proxy": "proxy",
    "proxy_auth": "proxy",
    "proxy_refused": "proxy",
    "ca_file": "tls",
    "tls_refused": "tls",
    "tls": "tls",
}
_CURES = {
    "dns": "check serverUrl and this machine's name servers (/etc/resolv.conf)",
    "tcp": "check serverUrl's port and the firewalls on the way",
    "tcp_timeout": "a firewall drops the packets; ask for outbound access to this host and port",
    "bad_proxy": "set HTTPS_PROXY to http://[user:password@]host[:port]",
    "proxy_auth": "put the proxy's user and password into HTTPS_PROXY",
    "proxy_refused": "ask the proxy's owner to let this host and port through, or set NO_PROXY",
    "ca_file": "transport.caFile must name a readable PEM file",
    "tls_refused": "renew or complete the server's certificate, or name its authority with "
    "transport.caFile",
    "tls": "serverUrl's port may not speak TLS, or something on the way breaks it",
}


def check(scene: Scene) -> Iterator[Finding]:
    """Walk to the server, one finding a step, up to the first that fails."""
    settings = scene.settings
    if settings is None:
        yield Finding("network", "skipped", "there is no usable configuration to try")
        return
    address = connect_auth.server_address(settings.server_url, settings.transport.path)
    try:
        yield from _steps(scene, settings, address)
    except LinkError as e:
        step = _STEPS.get(e.reason, "network")
        yield Finding(step, "failed", str(e), _CURES.get(e.reason, ""))


def _steps(scene: Scene, settings: Settings, address: ServerAddress) -> Iterator[Finding]:
    yield _name(settings, address)
    with closing(_dialer(settings, address)) as dialer:
        connection = dialer.dial()
        yield Finding("tcp", "ok", f"{address.host}:{address.port} answers")
        yield _certificate(settings, address, connection)
        yield _clock(connection, address)
    if scene.is_linked:
        yield Finding("websocket", "ok", "the running agent's link is up")
        yield Finding("auth", "ok", "the server has accepted the running agent")
    elif scene.may_connect:
        yield from _websocket(settings, address)
    else:
        yield Finding("websocket", "skipped", "the agent that does not answer may hold the link")


def _dialer(settings: Settings, address: ServerAddress) -> Dialer:
    ca_file = settings.transport.ca_file
    known = settings.identity
    is_shown = known is not None and known.mtls
    own = OwnTls(known.certificate, known.key, known.ca_chain) if known and is_shown else None
    tls = TlsSettings(
        Path(ca_file) if ca_file else None,
        settings.transport.skip_tls_verify,
        ca_data=None if known is None else known.server_ca,
        own=lambda: own,
    )
    return Dialer(address, tls, _proxies(settings), TIMEOUT_S)


def _proxies(settings: Settings) -> proxies.ProxySettings:
    return proxies.from_environment(
        {f"{scheme}_proxy": value for scheme, value in settings.proxies.items()}
    )


def _name(settings: Settings, address: ServerAddress) -> Finding:
    proxy = proxies.proxy_for(_proxies(settings), address.host, address.port, is_tls=address.is_tls)
    if proxy is not None:
        return Finding("dns", "ok", f"the proxy {proxy} resolves {address.host}")
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise LinkError("dns", f"the name {address.host} cannot be resolved: {e}") from e
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    return Finding("dns", "ok", f"{address.host} is {addresses}")


def _certificate(settings: Settings, address: ServerAddress, connection: socket.socket) -> Finding:
    if not address.is_tls:
        return Finding("tls", "warning", "the link is not encrypted", "use https:// in serverUrl")
    if settings.transport.skip_tls_verify:
        cure = "remove transport.skipTlsVerify, AGENT_SKIP_TLS_VERIFY and --insecure"
        return Finding("tls", "warning", "the certificate is not checked", cure)
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    until = (certificate or {}).get("notAfter")
    if not isinstance(until, str):
        return Finding("tls", "ok", "the certificate is good")
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC)
    days = (end - datetime.now(UTC)).days
    if days < CERTIFICATE_WARNING_DAYS:
        sentence = f"the certificate is good, for {days} more days"
        return Finding("tls", "warning", sentence, "renew the server's certificate")
    return Finding("tls", "ok", f"the certificate is good until {end:%Y-%m-%d}")


def _clock(connection: socket.socket, address: ServerAddress) -> Finding:
    """Compare our clock with the Date of the server's answer (or a proxy's before it)."""
    server = _date(connection, address)
    if server is None:
        return Finding("clock", "skipped", "the server does not tell its time")
    off = round((datetime.now(UTC) - server).total_seconds())
    cure = "set this machine's clock, and let NTP keep it"
    if abs(off) > CLOCK_WINDOW_S:
        sentence = f"our clock is off by {off} s; the server refuses more than {CLOCK_WINDOW_S}"
        return Finding("clock", "failed", sentence, cure)
    if abs(off) > CLOCK_WARNING_S:
        return Finding("clock", "warning", f"our clock is off by {off} s", cure)
    return Finding("clock", "ok", f"our clock is within {max(1, abs(off))} s of the server's")


def _date(connection: socket.socket, address: ServerAddress) -> datetime | None:
    # The engine answers an unknown transport at once, where some servers let any other path wait.
    target = f"{address.path}?EIO=4&transport=none"
    request = f"GET {target} HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n\r\n"
    received = b""
    try:
        connection.settimeout(DATE_TIMEOUT_S)
        connection.sendall(request.encode())
        while b"\r\n\r\n" not in received and len(received) < 16_384:
            if not (data := connection.recv(4096)):
                break
            received += data
    except OSError:
        return None
    for line in received.split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        if name.strip().lower() == "date":
            try:
                return parsedate_to_datetime(value.strip()).astimezone(UTC)
            except (ValueError, TypeError):
                return None
    return None


def _websocket(settings: Settings, address: ServerAddress) -> Iterator[Finding]:
    """Upgrade, then join the namespace as the agent does, and leave."""
    import websocket

    stamp_ms = int(datetime.now(UTC).timestamp() * 1000)
    query = connect_auth.signed_url(
        address, settings.client_id, settings.auth_token, stamp_ms
    ).partition("?")[2]
    scheme = "wss" if address.is_tls else "ws"
    host = address.origin.partition("://")[2]
    url = f"{scheme}://{host}{address.path}?EIO=4&transport=websocket&{query}"
    with closing(_dialer(settings, address)) as dialer:
        try:
            socket_ = websocket.create_connection(
                url, socket=dialer.dial(), timeout=TIMEOUT_S, redirect_limit=0, suppress_origin=True
            )
        except (websocket.WebSocketException, OSError) as e:
            status = getattr(e, "status_code", None)
            what = f"is answered with HTTP {status}" if status else "fails"
            sentence = f"the WebSocket upgrade of {address.path} {what}"
            cure = "check transport.path, and that proxies on the way pass WebSocket; the agent "
            yield Finding("websocket", "warning", sentence, cure + "tries HTTP polling, too")
            return
        yield Finding("websocket", "ok", "the connection is upgraded")
        try:
            yield _joined(socket_)
        except (websocket.WebSocketException, OSError, ValueError, DoctorError) as e:
            sentence = f"the server did not answer as a Socket.IO server does: {type(e).__name__}"
            yield Finding("auth", "failed", sentence, "check serverUrl and transport.path")
        finally:
            socket_.close()


def _joined(connection: Any) -> Finding:
    """Join the namespace; the server's answer is about our signature."""
    if not str(connection.recv()).startswith("0"):
        raise DoctorError("no open packet")
    connection.send(f"40{NAMESPACE},")
    for _ in range(10):
        packet = str(connection.recv())
        if packet == "2":
            connection.send("3")
        elif packet.startswith(f"40{NAMESPACE},"):
            return Finding("auth", "ok", "the server has accepted clientId and signature")
        elif packet.startswith("44"):
            return _refused(packet)
    raise DoctorError("no answer to CONNECT")


def _refused(packet: str) -> Finding:
    told = json.loads(packet[packet.index("{") :]) if "{" in packet else {}
    reason = str(told.get("message", "no reason"))[:200]
    cure = "compare clientId and authToken with the server's"
    if reason == "auth_expired":
        cure = "set this machine's clock"
    elif reason == "auth_revoked":
        cure = "enrol this machine again"
    return Finding("auth", "failed", f"the server refuses us: {reason}", cure)
