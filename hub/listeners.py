"""Where the hub listens: the port of people and agents, and one of agents with certificates.

Rules: both serve the same application on one loop; on the agents' port only what agents call. Its
TLS asks for a certificate and takes any, so that a refusal is a problem with its reason and not a
broken handshake: who signed it, its dates, its row and whose it is are checked behind
(hub.heartbeat.identification). uvicorn hands no client certificate on: a protocol class does, as
the ASGI TLS extension has it, one for HTTP and one for WebSocket.

Source: ASGI TLS extension 1.0; uvicorn 0.54, tested by
tests/system/hub/test_client_certificates.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from hub import openssl
from hub.errors import SettingsError
from wire import paths

if TYPE_CHECKING:
    from hub.assembly import Hub

GRACE_S = 5
KEEP_ALIVE_S = 75
"""Longer than the time between two beats: an agent's connection is used again."""
UNTAKEN_MS = 60_000
BACKLOG = 4096
AGENTS_PATHS = (
    paths.ENROLL, paths.RENEW, paths.UNENROLL, paths.HEARTBEAT, paths.ARTIFACTS, paths.DEVICE_CODE,
    paths.DEVICE_TOKEN, paths.TIME, paths.CA, "/healthz",
)  # fmt: skip
SOCKETS_PATH = "/socket.io/"
_log = structlog.get_logger()


def config(hub: Hub, app: Any, **more: Any) -> uvicorn.Config:
    """Return how uvicorn runs a hub: no access log (it prints signed queries), no deflate."""
    found = hub.settings
    options: dict[str, Any] = {
        "loop": "uvloop" if sys.platform != "win32" else "asyncio",
        "ws": "websockets-sansio",
        "ws_max_size": 4 * 1024 * 1024,
        "ws_per_message_deflate": False,
        "ws_ping_interval": None,  # Engine.IO has its own
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": bool(found.trusted_proxies),
        "forwarded_allow_ips": list(found.trusted_proxies),
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": GRACE_S,
    }
    if found.tls_cert_file or found.tls_own_ca:
        options["ssl_context_factory"] = lambda *_: server_context(hub)
    return uvicorn.Config(app, **options | more)


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        SettingsError: it is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":  # what a peer never takes is given up: accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"{host} port {port}: {error.strerror}; choose another") from error
    listener.listen(BACKLOG)
    return listener


def server_context(hub: Hub) -> ssl.SSLContext:
    """Return the TLS of a listener: the files of the settings, else a leaf of our own authority.

    Raises:
        SettingsError: the files are no certificate and key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files = hub.settings
    try:
        if files.tls_cert_file is not None:
            context.load_cert_chain(files.tls_cert_file, files.tls_key_file)
        else:
            with _own_files(hub) as path:
                context.load_cert_chain(path)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"tls_cert_file, tls_key_file: {error}") from error
    return context


def agents_context(hub: Hub) -> ssl.SSLContext:
    """Return the TLS of the agents' port: asks for a certificate, takes any or none."""
    context = server_context(hub)
    context.load_verify_locations(cadata=hub.authority.chain_pem)
    if not openssl.ask_for_any_certificate(context):
        _log.warning("this Python's TLS judges certificates itself: refusals are broken handshakes")
    return context


@contextlib.asynccontextmanager
async def serving_agents(hub: Hub, app: Any) -> AsyncIterator[None]:
    """Serve the agents' port, where there is one, for as long as the hub serves."""
    if hub.settings.agents_port is None:
        yield
        return
    listener = bind(hub.settings.host, hub.settings.agents_port)
    server = _Beside(
        config(
            hub,
            AgentsOnly(app),
            http=TlsHttp,
            ws=TlsWebSocket,
            lifespan="off",
            ssl_context_factory=lambda *_: agents_context(hub),
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


class AgentsOnly:
    """Lets through what agents call; all else is not there."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        is_ours = path in AGENTS_PATHS or path.startswith(SOCKETS_PATH)
        if not is_ours:
            scope = {**scope, "path": "/-", "raw_path": b"/-"}
        await self._app(scope, receive, send)


class WithTls:
    """Adds the TLS extension to every scope of one connection."""

    def __init__(self, app: Any, transport: asyncio.BaseTransport) -> None:
        self._app = app
        self._tls = _extension(transport)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        scope["extensions"] = {**(scope.get("extensions") or {}), "tls": self._tls}
        return await self._app(scope, receive, send)


class TlsHttp(HttpToolsProtocol):
    """uvicorn's HTTP, telling which certificate was shown."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = WithTls(self.app, transport)


class TlsWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, telling which certificate was shown."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app = WithTls(self.app, transport)


class Server(uvicorn.Server):
    """A server whose orderly end is an end: uvicorn would raise the signal again and die of it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; whoever presses Ctrl-C twice does not wait."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


class _Beside(uvicorn.Server):
    """A second server on the loop of the first, which keeps the signals to itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _extension(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """Return what ASGI's TLS extension says, and that this listener asks for certificates."""
    session: ssl.SSLObject = transport.get_extra_info("ssl_object")
    der = session.getpeercert(binary_form=True)
    return {
        "asks_for_certificate": True,
        "client_cert_chain": [] if der is None else [ssl.DER_cert_to_PEM_cert(der)],
        "client_cert_error": None,
    }


@contextlib.contextmanager
def _own_files(hub: Hub) -> Iterator[Path]:
    """Lay a fresh leaf and its key down for as long as OpenSSL needs to read them."""
    chain, key = hub.authority.sign_server(hub.addresses.names())
    with tempfile.NamedTemporaryFile("w", dir=hub.settings.state_dir, prefix=".tls-") as file:
        file.write(chain + key)
        file.flush()
        yield Path(file.name)
