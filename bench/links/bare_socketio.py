"""A bare python-socketio server: checks the signature, says hello, acknowledges. Nothing else.

python -m bench.links.bare_socketio PORT TOKEN
"""

from __future__ import annotations

import sys
import time
from typing import Any

import socketio
import uvicorn
from socketio.exceptions import ConnectionRefusedError as RefusedError

from wire.errors import AuthError
from wire.signature import check, parse_query

NAMESPACE = "/agents"


def build(token: str) -> Any:
    sio = socketio.AsyncServer(async_mode="asgi", namespaces=[NAMESPACE])

    async def connect(sid: str, environ: dict[str, Any], _auth: Any = None) -> None:
        try:
            check(parse_query(environ["QUERY_STRING"]), token, time.time_ns() // 1_000_000)
        except AuthError as error:
            raise RefusedError(error.reason) from error
        sio.start_background_task(sio.emit, "hello_ack", {}, to=sid, namespace=NAMESPACE)

    async def on_result(_sid: str, _payload: Any) -> None:
        return None

    sio.on("connect", connect, namespace=NAMESPACE)
    sio.on("agent_update_result", on_result, namespace=NAMESPACE)
    return socketio.ASGIApp(sio)


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        access_log=False,
        log_level="error",
        lifespan="off",
        backlog=4096,
    )
