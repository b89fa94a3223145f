"""What a beat costs at least: FastAPI, one strict parse, one row in SQLite, on the disk."""

from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response

from wire import bodies, limits
from wire.heartbeat import HeartbeatRequest

ANSWER = b'{"server_ts":0,"next_interval_sec":10.0}'


def build(path: Path) -> FastAPI:
    app = FastAPI()
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE beats (agent TEXT, seq INTEGER, body BLOB)")
    lock = threading.Lock()

    def insert(beat: HeartbeatRequest, raw: bytes) -> None:
        with lock:
            database.execute("INSERT INTO beats VALUES (?, ?, ?)", (beat.agent_id, beat.seq, raw))

    @app.post("/api/v1/agents/heartbeat")
    async def beat(request: Request) -> Response:
        raw = await request.body()
        insert(bodies.decode(HeartbeatRequest, raw, limits.MAX_BEAT_BYTES), raw)
        return Response(ANSWER, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        build(Path(sys.argv[2])), port=int(sys.argv[1]), access_log=False, log_level="warning"
    )
