"""The extended hub as a process: python-socketio, contract parts 1.1-1.9 with every feature of 1.7.

It decides nothing by itself save what its modes say (tests/doubles/hubs.py lists them); all else is
a command of the test. JSON lines: options, then commands on stdin; reports on stdout.

Rules: one asyncio thread; a final event is reported, kept on disk, then acknowledged, in this
order; nothing of an event is dispatched by name, so one called `connect` is a report like another.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import socketio
import uvicorn
from socketio.exceptions import ConnectionRefusedError as RefusedError

from tests.doubles.grants import Grants
from tests.doubles.ledger import FINAL_EVENTS, FinalsFile, Tally, raw_data

Json = dict[str, Any]
Job = Callable[[], Awaitable[None]]
NAMESPACE = "/agents"
WINDOW_MS = 300_000
TICK_S = 0.1


def report(kind: str, **fields: Any) -> None:
    line = json.dumps({"report": kind, "at": time.monotonic(), **fields}, default=_plain)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _plain(value: object) -> Json:
    if isinstance(value, bytes):
        return {"$binary": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


def check_query(query_string: str, tokens: dict[str, str]) -> str | None:
    """Return the reason to refuse a connect query (contract 1.1), or None."""
    query = dict(urllib.parse.parse_qsl(query_string))
    client_id, ts, sig = (query.get(name, "") for name in ("clientId", "ts", "sig"))
    if not (
        re.fullmatch(r"[A-Za-z0-9._-]{1,128}", client_id)
        and re.fullmatch(r"[0-9]{13}", ts)
        and re.fullmatch(r"[0-9a-f]{64}", sig)
    ):
        return "auth_malformed"
    signed = f'{{"clientId":"{client_id}","ts":{ts}}}'.encode()
    expected = hmac.new(tokens.get(client_id, "").encode(), signed, hashlib.sha256).hexdigest()
    if client_id not in tokens or not hmac.compare_digest(expected, sig):
        return "auth_failed"
    return "auth_expired" if abs(now_ms() - int(ts)) > WINDOW_MS else None


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Server(socketio.AsyncServer):  # type: ignore[misc]
    """python-socketio with each event handed over whole, its acknowledgement id included."""

    def __init__(self, hub: ScriptedHub, **options: Any) -> None:
        super().__init__(async_mode="asgi", namespaces=[NAMESPACE], async_handlers=False, **options)
        self._hub = hub

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        if self._hub.modes["silent"]:
            report("ignored", sid=eio_sid)
            return
        await super()._handle_connect(eio_sid, namespace, data)
        sid = self.manager.sid_from_eio_sid(eio_sid, NAMESPACE)
        if sid is not None:
            await self._hub.greet(sid)

    async def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:  # noqa: A002  (the library's name)
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None:
            return

        async def acknowledge() -> None:
            packet = self.packet_class(3, namespace=namespace, id=id, data=[])
            await self._send_packet(eio_sid, packet)

        await self._hub.on_event(sid, data[0], data[1:], acknowledge if id is not None else None)


class ScriptedHub:
    """The modes, the links and what has come in."""

    def __init__(self, options: Json) -> None:
        self.options = options
        self.modes: Json = {
            "refuse": None,
            "silent": False,
            "http": None,
            "websocketStatus": None,
            "ack": "now",
            "die": None,
            "credit": "auto",
            "shellAck": True,
            **options["modes"],
        }
        self.tally = Tally()
        self.grants = Grants()
        self.finals = FinalsFile(options["finalsFile"])
        self.latest: str | None = None
        self.held: list[Job] = []
        self.sio = Server(
            self,
            transports=options["transports"],
            max_http_buffer_size=options["maxPayload"],
            ping_interval=options["pingIntervalMs"] / 1000,
            ping_timeout=options["pingTimeoutMs"] / 1000,
        )
        self.sio.on("connect", self._admit, namespace=NAMESPACE)
        self.sio.on("disconnect", self._disconnected, namespace=NAMESPACE)
        self._inner = socketio.ASGIApp(self.sio, socketio_path=options["path"])
        self.uvicorn = uvicorn.Server(
            uvicorn.Config(
                self.app,
                host=options["host"],
                port=options["port"],
                ws="wsproto",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                log_level="error",
                ws_max_size=options["maxPayload"] + 4096,
                ssl_certfile=options["certFile"],
                ssl_keyfile=options["keyFile"],
                timeout_graceful_shutdown=1,
            )
        )
        self._tasks: set[asyncio.Task[None]] = set()

    # --- HTTP, before Engine.IO ---

    async def app(self, scope: Json, receive: Any, send: Any) -> None:
        query = scope.get("query_string", b"").decode()
        is_upgrade = scope["type"] == "websocket"
        if is_upgrade or "sid=" not in query:
            report("request", url=f"{scope['path']}?{query}", upgrade=is_upgrade)
        answer = self.modes["http"]
        if is_upgrade and self.modes["websocketStatus"]:
            answer = {"status": self.modes["websocketStatus"]}
        if answer:
            kind = "websocket.http.response" if is_upgrade else "http.response"
            await _answer(answer, kind, send)
        else:
            await self._inner(scope, receive, send)

    # --- links ---

    async def _admit(self, sid: str, environ: Json, auth: Any) -> None:
        query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
        reason = check_query(environ["QUERY_STRING"], self.options["tokens"])
        refusal = self.modes["refuse"] or (
            reason and {"message": reason, "data": {"serverTs": now_ms()}}
        )
        if refusal:
            report("refused", sid=sid, message=refusal["message"], query=query)
            data = [refusal["data"]] if refusal.get("data") else []
            raise RefusedError(refusal["message"], *data)
        self.latest = sid
        transport = self.sio.transport(sid, NAMESPACE)
        report("connection", sid=sid, transport=transport, query=query, auth=auth)
        if self.modes["helloAck"] == "early":
            await self._hello(sid)

    async def greet(self, sid: str) -> None:
        """What follows the CONNECT reply."""
        when = self.modes["helloAck"]
        if when == "now":
            await self._hello(sid)
        elif isinstance(when, (int, float)):
            self.later(self._after(when / 1000, lambda: self._hello(sid)))
        if self.options["pingEveryMs"] > 0:
            self.later(self._ping(sid, self.options["pingEveryMs"] / 1000))

    async def _hello(self, sid: str) -> None:
        hello = {"features": self.options["features"], "serverTs": now_ms()}
        eio_sid = self.sio.manager.eio_sid_from_sid(sid, NAMESPACE)
        packet = self.sio.packet_class(2, namespace=NAMESPACE, data=["hello_ack", hello])
        await self.sio._send_packet(eio_sid, packet)
        report("hello", sid=sid)  # what the test sends from here on comes after it

    async def _ping(self, sid: str, every_s: float) -> None:
        while self.sio.manager.is_connected(sid, NAMESPACE):
            await self.emit(sid, "ping", {"ts": now_ms()})
            await asyncio.sleep(every_s)

    async def _disconnected(self, sid: str, reason: str) -> None:
        report("disconnect", sid=sid, reason=reason)

    async def emit(self, sid: str | None, event: str, *args: Any) -> None:
        target = sid or self.latest
        if target is not None:
            await self.sio.emit(event, tuple(args), to=target, namespace=NAMESPACE)

    # --- what comes in ---

    async def on_event(
        self, sid: str, event: str, args: list[Any], acknowledge: Job | None
    ) -> None:
        payload = args[0] if args else None
        if event == "ping" and self.modes["answerPing"]:
            await self.emit(sid, "pong", payload)
        if event in self.modes["tally"]:
            self.tally.add(event, payload)
        else:
            report("event", sid=sid, event=event, args=args, wantsAck=acknowledge is not None)
        if event in FINAL_EVENTS:
            await self._final(event, payload, acknowledge)
        if isinstance(payload, dict):
            await self._flow(sid, event, payload)

    async def _final(self, event: str, payload: Any, acknowledge: Job | None) -> None:
        if self.modes["die"] == "before_record":
            os.kill(os.getpid(), signal.SIGKILL)
        self.finals.keep(event, payload)
        if self.modes["die"] == "before_ack":
            os.kill(os.getpid(), signal.SIGKILL)
        when = self.modes["ack"]
        if acknowledge is None or when == "never":
            return
        if when == "hold":
            self.held.append(acknowledge)
        elif when == "now":
            await acknowledge()
        else:
            self.later(self._after(when / 1000, acknowledge))

    async def _flow(self, sid: str, event: str, payload: Json) -> None:
        """Credit and offsets for what streams."""
        features = self.options["features"]
        if event == "shell_output":
            key = ("shell_credit", payload["session"])
            if self.modes["shellAck"] and "resume" in features and "offset" in payload:
                end = payload["offset"] + len(raw_data(payload))
                await self.emit(sid, "shell_ack", {"session": payload["session"], "offset": end})
        elif event == "admin_output":
            key = ("admin_credit", payload["jobId"])
        else:
            if event == "shell_closed":
                self.grants.forget(payload.get("session", ""))
            elif event == "admin_result":
                self.grants.forget(payload.get("jobId", ""))
            return
        if "credit" in features:
            granted = self.grants.took(key, len(raw_data(payload)), self.modes["credit"])
            if granted:
                await self._grant(key, granted)

    async def _grant(self, key: tuple[str, str], count: int) -> None:
        event, identity = key
        name = "session" if event == "shell_credit" else "jobId"
        await self.emit(None, event, {name: identity, "bytes": count})

    async def tick(self) -> None:
        """Grant, ten times a second, what is owed or what the rate allows."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for key, count in self.grants.tick(now - last, self.modes["credit"]):
                await self._grant(key, count)
            last = now

    # --- commands ---

    async def command(self, line: Json) -> None:
        """Carry out one command line of the test."""
        sid = line.get("sid") or self.latest
        match line["op"]:
            case "emit":
                await self.emit(sid, line["event"], *line["args"])
            case "raw":
                data = base64.b64decode(line["base64"]) if "base64" in line else line["text"]
                await self.sio.eio.send(self.sio.manager.eio_sid_from_sid(sid, NAMESPACE), data)
            case "drop":
                await self._drop(sid, line["how"])
            case "set":
                self.modes.update(line["modes"])
            case "release":
                held, self.held = self.held, []
                for acknowledge in held:
                    await acknowledge()
            case "tally":
                report("tally", sessions=self.tally.read())
            case "stop":
                self.uvicorn.should_exit = True
                self.uvicorn.force_exit = True
            case unknown:
                raise ValueError(unknown)
        if "id" in line:
            report("done", id=line["id"])

    async def _drop(self, sid: str | None, how: str) -> None:
        if sid is None:
            return
        if how == "namespace":
            await self.sio.disconnect(sid, namespace=NAMESPACE)
            return
        eio_sid = self.sio.manager.eio_sid_from_sid(sid, NAMESPACE)
        client = tuple(self.sio.environ[eio_sid]["asgi.scope"]["client"][:2])
        transports = [
            protocol.transport for protocol in list(self.uvicorn.server_state.connections)
        ]
        if how == "close":  # the library sends its CLOSE packet and leaves the WebSocket open
            await self.sio.eio.disconnect(eio_sid)
        for transport in transports:
            if transport.get_extra_info("peername")[:2] == client:
                transport.close() if how == "close" else transport.abort()

    # --- its tasks ---

    def later(self, job: Any) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after(self, delay_s: float, job: Job) -> None:
        await asyncio.sleep(delay_s)
        await job()

    async def run(self, commands: asyncio.StreamReader) -> None:
        self.later(self._serve_commands(commands))
        self.later(self._announce())
        self.later(self.tick())
        await self.uvicorn.serve()

    async def _announce(self) -> None:
        while not self.uvicorn.started:
            await asyncio.sleep(0.005)
        report("listening", port=self.uvicorn.servers[0].sockets[0].getsockname()[1])

    async def _serve_commands(self, commands: asyncio.StreamReader) -> None:
        while line := await commands.readline():
            await self.command(json.loads(line))
        os._exit(0)  # the test is gone


async def _answer(answer: Json, kind: str, send: Any) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.get("headers", {}).items()]
    await send({"type": f"{kind}.start", "status": answer["status"], "headers": headers})
    await send({"type": f"{kind}.body", "body": answer.get("body", "").encode()})


async def main() -> None:
    commands = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    options = json.loads(await commands.readline())
    await ScriptedHub(options).run(commands)


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)
