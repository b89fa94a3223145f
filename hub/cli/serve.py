"""Run the hub until it is told to stop."""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn

from hub import app, listeners, log
from hub.assembly import Hub
from hub.cli import exits, options


def run(argv: list[str]) -> int:
    """Run `jackline hub serve`.

    Raises:
        SettingsError: the hub cannot start as it is configured.
    """
    chosen = _options(argv)
    with options.opened(chosen, host=chosen.host, port=chosen.port) as hub:
        log.configure(hub.settings.log_level)
        listener = listeners.bind(hub.settings.host, hub.settings.port)
        hub.bound(listener.getsockname()[1])
        print(f"jackline hub on {_url(hub, listener)}", file=sys.stderr, flush=True)
        uvicorn.Server(listeners.config(hub, app.build(hub))).run(sockets=[listener])
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("serve", "Run the hub.")
    parser.add_argument("--host", metavar="H", help="the address to listen on")
    parser.add_argument("--port", type=int, metavar="P", help="the port; 0 takes a free one")
    return parser.parse_args(argv)


def _url(hub: Hub, listener: socket.socket) -> str:
    is_tls = hub.settings.tls_cert_file or hub.settings.tls_own_ca
    scheme = "https" if is_tls else "http"
    host = f"[{hub.settings.host}]" if ":" in hub.settings.host else hub.settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
