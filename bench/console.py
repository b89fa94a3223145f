"""`python -m bench.console [--rounds N]`: a key's echo console -> hub -> agent -> PTY and back.

Beside it the same agent at the measuring server, which types by itself: what the hub adds is the
difference. The goal is 1.5 ms at p50. The console is a bare WebSocket, so that no client
library is measured; rounds are interleaved; nothing outlives the bench.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import websocket

from bench.figures import KEY_GAP_MS, KEYS, Values, echo, percentile
from bench.peers import CAT
from bench.peers.jackline import JacklinePeer
from bench.setting import Setting
from tests.doubles.hub_site import hub_site

WARM_UP = 50
ROUNDS = 5
GOAL_MS = 1.5


class BareConsole:
    """A console that speaks packets; see Engine.IO 4 and Socket.IO 5."""

    def __init__(self, url: str, token: str) -> None:
        address = url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
        self._socket = websocket.create_connection(address, timeout=30, skip_utf8_validation=True)
        self._socket.recv()
        self._socket.send(f"40/console,{json.dumps({'token': token})}")
        self._acks = 0

    def send(self, event: str, payload: dict[str, Any]) -> None:
        self._socket.send(f"42/console,{json.dumps([event, payload])}")

    def call(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._acks += 1
        self._socket.send(f"42/console,{self._acks}{json.dumps([event, payload])}")
        head = f"43/console,{self._acks}"
        while not (text := self._next()).startswith(head):
            pass
        reply: dict[str, Any] = json.loads(text[len(head) :])[0]
        return reply

    def output(self) -> dict[str, Any]:
        """Return the next output's payload."""
        head = '42/console,["shell_output",'
        while not (text := self._next()).startswith(head):
            pass
        payload: dict[str, Any] = json.loads(text[len(head) : -1])
        return payload

    def close(self) -> None:
        self._socket.close()

    def _next(self) -> str:
        while (text := str(self._socket.recv())) == "2":
            self._socket.send("3")
        return text


def through_the_hub() -> Values:
    """Take the echo of single keys through a hub."""
    command, arguments = CAT
    with hub_site(config={"shell": {"command": command, "args": list(arguments)}}) as site:
        console = BareConsole(site.hub.url, site.token)
        reply = console.call("shell_open", {"asset_id": site.asset_id})
        taken = [_key(console, reply["session"]) for _ in range(WARM_UP + KEYS)][WARM_UP:]
        console.close()
    return {name: percentile(taken, at) * 1000 for name, at in (("p50", 50), ("p99", 99))}


def _key(console: BareConsole, session: str) -> float:
    time.sleep(KEY_GAP_MS / 1000)
    started = time.monotonic()
    console.send("shell_input", {"session": session, "data": "x"})
    payload = console.output()
    seconds = time.monotonic() - started
    end = payload["offset"] + len(payload["data"])
    if end % 256 == 0:
        console.send("shell_ack", {"session": session, "offset": end})
    return seconds


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.console")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args(argv).rounds
    taken: dict[str, list[Values]] = {"agent only": [], "through the hub": []}
    with Setting(Path("/tmp")) as setting:
        for _ in range(rounds):
            taken["agent only"].append(echo(setting, JacklinePeer()))
            taken["through the hub"].append(through_the_hub())
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in ("p50", "p99")}
        for name, rows in taken.items()
    }
    for name, row in medians.items():
        print(f"{name:<16} p50 {row['p50']:.2f} ms  p99 {row['p99']:.2f} ms")
    more = medians["through the hub"]["p50"] - medians["agent only"]["p50"]
    print(f"the hub adds {more:.2f} ms at p50; the goal is {GOAL_MS}")
    return 0 if more <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
