"""Thousands of agents in one process: as little work for each as the protocol allows.

Told by one JSON line on stdin, reports one on stdout. Rules: one asyncio loop, no library between
the socket and the frames, mask keys of zero, so that most of the processor is the server's; backoff
and `retryAfterMs` are honoured as the real agent does.
Source: RFC 6455; Engine.IO 4; Socket.IO 5; contract 1.1.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from typing import Any, cast
from urllib.parse import urlencode

import uvloop

from wire.limits import BACKOFF_JITTER, BACKOFF_STEPS_S
from wire.signature import signed_query

AUTH = {"agentVersion": "1", "features": ["ack"], "jobs": []}
UP_S = 120.0
_HEAD = (
    "GET /socket.io/?EIO=4&transport=websocket&{query} HTTP/1.1",
    "Host: 127.0.0.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
    "\r\n",
)
_UPGRADE = "\r\n".join(_HEAD)


class Wire(asyncio.Protocol):
    """One WebSocket: text in, text out."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._buffer = b""
        self._is_open = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        query = urlencode(signed_query(self._member.name, self._member.token, _now_ms()))
        self.transport.write(_UPGRADE.format(query=query).encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head[:20]:
                self.close()
                return
            self._is_open, self._buffer = True, rest
        while (frame := self._frame()) is not None:
            opcode, text = frame
            if opcode == 1:
                self._member.on_text(text)
            elif opcode == 8:
                self.close()

    def _frame(self) -> tuple[int, str] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[0] & 0x0F, buffer[start : start + size].decode()

    def send(self, text: str) -> None:
        body = text.encode()
        size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2)
        if self.transport is not None:
            self.transport.write(b"\x81" + size + b"\0\0\0\0" + body)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._member.on_lost()


class Member:
    """One agent of the swarm."""

    def __init__(self, swarm: Swarm, name: str, token: str) -> None:
        self._swarm = swarm
        self.name = name
        self.token = token
        self.is_up = False
        self.wire: Wire | None = None
        self._ended: asyncio.Future[float | None] | None = None
        self._failures = 0
        self.longest_wait_s = 0.0

    async def live(self) -> None:
        """Stay linked."""
        while True:
            asked_ms = await self._once()
            step = BACKOFF_STEPS_S[min(self._failures, len(BACKOFF_STEPS_S) - 1)]
            self._failures += 1
            wait_s = random.uniform(BACKOFF_JITTER * step, step)
            if asked_ms is not None:
                wait_s = asked_ms / 1000
            self.longest_wait_s = max(self.longest_wait_s, wait_s)
            await asyncio.sleep(wait_s)

    async def _once(self) -> float | None:
        """Connect and stay until it ends; return what the server asked to wait."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        try:
            async with self._swarm.gate:
                await loop.create_connection(self._made, "127.0.0.1", self._swarm.port)
                up: asyncio.Future[Any] = self._up()
                ended: asyncio.Future[Any] = self._ended
                await asyncio.wait([ended, up], return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return None
        return await self._ended

    def _up(self) -> asyncio.Future[None]:
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return self._greeted

    def _made(self) -> Wire:
        self.wire = Wire(self)
        return self.wire

    def on_text(self, text: str) -> None:
        assert self.wire is not None
        if text == "2":
            self.wire.send("3")
        elif text.startswith("43/agents,"):
            self._swarm.on_ack(int(text[10 : text.index("[")]))
        elif text.startswith('42/agents,["ping"'):
            ts = json.loads(text[10:])[1]["ts"]
            self.wire.send(f'42/agents,["pong",{{"ts":{ts}}}]')
        elif text.startswith('42/agents,["hello_ack"'):
            self.is_up, self._failures = True, 0
            self._swarm.on_up(self)
            if not self._greeted.done():
                self._greeted.set_result(None)
        elif text.startswith("0{"):
            auth = json.dumps({**AUTH, "bootId": self.name})
            self.wire.send(f"40/agents,{auth}")
        elif text.startswith("44/agents,"):
            refusal = json.loads(text[10:])
            self._swarm.refusals += 1
            self._end(refusal.get("data", {}).get("retryAfterMs"))
            self.wire.close()

    def on_lost(self) -> None:
        if self.is_up:
            self.is_up = False
            self._swarm.on_down()
        self._end(None)

    def _end(self, asked_ms: float | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(asked_ms)


class Swarm:
    """All of them, and what they saw."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.port: int = told["port"]
        self.gate = asyncio.Semaphore(told["concurrency"])
        self.members = [Member(self, f"a{n}", told["token"]) for n in range(told["links"])]
        self.up = 0
        self.drops = 0
        self.refusals = 0
        self.up_at: list[float] = []
        self._sent: dict[int, float] = {}
        self._acks = 0
        self.delays: list[float] = []

    def on_up(self, member: Member) -> None:
        self.up += 1
        self.up_at.append(time.monotonic())

    def on_down(self) -> None:
        self.up -= 1
        self.drops += 1

    def on_ack(self, number: int) -> None:
        sent = self._sent.pop(number, None)
        if sent is not None:
            self.delays.append(time.monotonic() - sent)

    async def all_up(self) -> None:
        deadline_s = time.monotonic() + UP_S
        while self.up < len(self.members):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{self.up} of {len(self.members)} links")
            await asyncio.sleep(0.01)

    async def events(self, rate: int, seconds: float) -> None:
        """Send acknowledged events at a rate, over all links in turn."""
        began, count = time.monotonic(), int(rate * seconds)
        for number in range(count):
            while time.monotonic() - began < number / rate:
                await asyncio.sleep(0.001)
            member = self.members[number % len(self.members)]
            self._sent[number] = time.monotonic()
            body = f'{{"ok":false,"error":"unsupported","ts":1,"id":"e{began:.0f}-{number}"}}'
            assert member.wire is not None
            member.wire.send(f'42/agents,{number}["agent_update_result",{body}]')
        deadline_s = time.monotonic() + 30
        while self._sent and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    def lost(self) -> int:
        return len(self._sent)


async def come_back(swarm: Swarm) -> None:
    """Wait until all are gone, then until all are back."""
    while swarm.up:
        await asyncio.sleep(0.01)
    swarm.up_at.clear()
    for member in swarm.members:
        member.longest_wait_s = 0.0
    report(gone=True)
    began = time.monotonic()
    await swarm.all_up()
    times = sorted(at - began for at in swarm.up_at)
    waits = [member.longest_wait_s for member in swarm.members]
    report(
        last_s=times[-1],
        median_s=times[len(times) // 2],
        long_backoffs=sum(wait > BACKOFF_STEPS_S[-2] for wait in waits),
    )


def report(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


async def main() -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    swarm = Swarm(json.loads(await commands.readline()))
    began = time.monotonic()
    tasks = [asyncio.ensure_future(member.live()) for member in swarm.members]
    await swarm.all_up()
    report(up_s=time.monotonic() - began, refusals=swarm.refusals)
    while line := await commands.readline():
        told = json.loads(line)
        match told["op"]:
            case "events":
                await swarm.events(told["rate"], told["seconds"])
                delays = sorted(swarm.delays)
                report(
                    lost=swarm.lost(),
                    p50_ms=1000 * delays[len(delays) // 2],
                    p99_ms=1000 * delays[int(len(delays) * 0.99)],
                )
            case "count":
                report(up=swarm.up, drops=swarm.drops)
            case "return":
                await come_back(swarm)
            case unknown:
                raise ValueError(unknown)
    for task in tasks:
        task.cancel()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(main())
