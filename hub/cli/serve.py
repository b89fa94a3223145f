"""Run the hub until it is told to stop."""

from __future__ import annotations

import argparse
import sys

from hub import app, listeners, log
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
        port = listener.getsockname()[1]
        hub.bound(port)
        print(f"jackline hub on {hub.addresses.at(port)}", file=sys.stderr, flush=True)
        listeners.Server(listeners.config(hub, app.build(hub))).run(sockets=[listener])
    return exits.OK


def _options(argv: list[str]) -> argparse.Namespace:
    parser = options.parser("serve", "Run the hub.")
    parser.add_argument("--host", metavar="H", help="the address to listen on")
    parser.add_argument("--port", type=int, metavar="P", help="the port; 0 takes a free one")
    return parser.parse_args(argv)
