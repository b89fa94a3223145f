"""Run the hub until it is told to stop."""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn

from hub import app, log
from hub.assembly import Hub
from hub.cli import exits, options
from hub.errors import SettingsError

GRACE_S = 5
UNTAKEN_MS = 60_000


def run(argv: list[str]) -> int:
    """Run `jackline hub serve`.

    Raises:
        SettingsError: the hub cannot start as it is configured.
    """
    chosen = _options(argv)
    with options.opened(chosen, host=chosen.host, port=chosen.port) as hub:
        log.configure(hub.settings.log_level)
        listener = _bind(hub.settings.host, hub.settings.port)
        hub.bound(listener.getsockname()[1])
        print(f"jackline hub on {_url(hub, listener)}", file=sys.stderr, flush=True)
        uvicorn.Server(server_config(hub)).run(sockets=[listener])
    return exits.OK


def server_config(hub: Hub) -> uvicorn.Config:
    """Return how uvicorn runs a hub: no access log (it prints signed queries), no deflate."""
    found = hub.settings
    return uvicorn.Config(
        app.build(hub),
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="websockets-sansio",
        ws_max_size=4 * 1024 * 1024,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # Engine.IO has its own
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(found.trusted_proxies),
        forwarded_allow_ips=list(found.trusted_proxies),
        ssl_certfile=found.tls_cert_file,
        ssl_keyfile=found.tls_key_file,
        timeout_graceful_shutdown=GRACE_S,
    )


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("serve", "Run the hub.")
    parser.add_argument("--host", metavar="H", help="the address to listen on")
    parser.add_argument("--port", type=int, metavar="P", help="the port; 0 takes a free one")
    return parser.parse_args(argv)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":  # what a peer never takes is given up: accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MS)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise SettingsError(f"{host} port {port}: {error.strerror}; choose another") from error
    listener.listen(4096)
    return listener


def _url(hub: Hub, listener: socket.socket) -> str:
    scheme = "https" if hub.settings.tls_cert_file else "http"
    host = f"[{hub.settings.host}]" if ":" in hub.settings.host else hub.settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
