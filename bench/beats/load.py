"""Simulated agents, one connection each, over plain HTTP/1.1: paced like agents, or flat out."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from hub.clock import iso, now_ms

SAMPLE = {
    "cpu": 12.5,
    "mem": {"used": 4_000_000_000, "free": 4_000_000_000, "total": 8_000_000_000},
    "load": {"1m": 0.5, "5m": 0.4, "15m": 0.3},
    "disk": [
        {"mount": "/", "fsname": "/dev/sda1", "fstype": "ext4", "used": 10**10, "avail": 10**11}
    ],
    "net": [{"name": "eth0", "rxBytes": 10**9, "txBytes": 10**9, "rxBps": 1000, "txBps": 2000}],
    "uptimeSec": 86_400,
    "platform": "linux",
    "agentVersion": "1.0",
}


@dataclass
class Outcome:
    """What came of a run; times in seconds."""

    sent: int = 0
    lost: int = 0
    latencies: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def quantile(self, part: float) -> float:
        found = sorted(self.latencies)
        return found[min(len(found) - 1, int(len(found) * part))] if found else float("nan")


class Agent:
    """One agent on one connection."""

    def __init__(self, port: int, agent_id: str, bearer: str) -> None:
        self._port = port
        self._id = agent_id
        self._head = (
            f"POST /api/v1/agents/heartbeat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {bearer}\r\nContent-Type: application/json\r\n"
        )
        self._seq = 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def beat(self, outcome: Outcome) -> None:
        """Beat once."""
        outcome.sent += 1
        began = time.perf_counter()
        try:
            status = await asyncio.wait_for(self._post(self._body()), 60)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._streams, status = None, 0
            outcome.faults[type(error).__name__] += 1
        if status == 200:
            outcome.latencies.append(time.perf_counter() - began)
        else:
            outcome.lost += 1

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()

    def _body(self) -> bytes:
        self._seq += 1
        return msgspec.json.encode(
            {
                "agent_id": self._id,
                "seq": self._seq,
                "sent_at": iso(now_ms()),
                "boot_id": "bench",
                "metrics": [{"ts": iso(now_ms()), **SAMPLE}],
            }
        )

    async def _post(self, body: bytes) -> int:
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
        await reader.readexactly(length)
        return int(head.split(" ", 2)[1])


async def paced(agents: list[Agent], every_s: float, seconds: float) -> Outcome:
    """Let each agent beat every so often, each at its own moment."""
    outcome = Outcome()
    ends = time.perf_counter() + seconds

    async def one(agent: Agent) -> None:
        await asyncio.sleep(random.uniform(0, every_s))
        while time.perf_counter() < ends:
            began = time.perf_counter()
            await agent.beat(outcome)
            await asyncio.sleep(max(0.0, every_s - (time.perf_counter() - began)))
        agent.close()

    await asyncio.gather(*map(one, agents))
    return outcome


async def flat_out(agents: list[Agent], seconds: float) -> Outcome:
    """Let each agent beat again as soon as it was answered."""
    outcome = Outcome()
    ends = time.perf_counter() + seconds

    async def one(agent: Agent) -> None:
        while time.perf_counter() < ends:
            await agent.beat(outcome)
        agent.close()

    await asyncio.gather(*map(one, agents))
    return outcome
