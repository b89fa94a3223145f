"""The watch over all sockets: who is given up, and what is kept of them."""

from __future__ import annotations

import time

from hub.sockets import engine
from hub.sockets.engine import Engine
from hub.sockets.engine_socket import EngineSocket
from tests.doubles.loop import run


async def _gone(_sid: str, _reason: str) -> None:
    return


def test_peer_that_asks_and_does_not_take_is_given_up_with_all_that_waits_for_it() -> None:
    async def main() -> None:
        server = Engine(async_mode="asgi")
        server.handlers["disconnect"] = _gone
        socket = EngineSocket(server, "s1", {"asgi.scope": {}})
        socket.joined()
        while socket.backlog_bytes <= engine.MAX_BACKLOG_BYTES:
            await server._look_at(socket, time.monotonic())
            assert not socket.closed
            socket.put_text("x" * (1 << 20))
        await server._look_at(socket, time.monotonic())
        assert (socket.closed, socket.end_reason) == (True, "slow_consumer")
        assert socket.queue.qsize() == 1  # the word that ends the writer
        socket.put_text("more")
        assert socket.backlog_bytes == 0

    run(main())
