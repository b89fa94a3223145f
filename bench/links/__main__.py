"""`python -m bench.links [FIGURE ...]`: the hub's links beside two bare servers, in turned rounds.

Rules: one server at a time, its load from one process of its own; RSS is the server's after the
links are up and have rested; a hub starts with a fresh database, and admits as fast as it can save
where its pace is not the figure. Nothing outlives the bench.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from bench import table
from hub import keyring
from hub.agents.models import Agent, Asset
from hub.clock import now_ms
from hub.ids import new_id
from hub.operators import service
from tests.doubles.hub_process import HubProcess, free_port
from tests.doubles.node import fetched, node_program
from tests.doubles.postgres import PostgresServer
from tests.facilities import ROOT

TOKEN = "a secret that every link of the bench shares"
HUB, PYTHON, NODE = "Jackline hub", "python-socketio", "Node socket.io"
UNPACED = {"JACKLINE_HUB_CONNECTS_PER_S": "1000000"}
REST_S = 5.0
START_S = 60.0
Values = dict[str, float]


class Server:
    """One server under load; `pid` changes when it is started again."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], hub: HubProcess | None) -> None:
        self.port = port
        self.process = process
        self.hub = hub

    def rss_mib(self) -> float:
        pid = self.hub.pid if self.hub is not None else self.process.pid
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise ProcessLookupError(pid)


@contextmanager
def jackline(links: int, env: dict[str, str]) -> Iterator[Server]:
    hub = HubProcess(env=env)
    try:
        seed(hub, links)
        hub.start()
        assert hub.process is not None
        yield Server(hub.port, hub.process, hub)
    finally:
        hub.close()


@contextmanager
def bare(argv: list[str]) -> Iterator[Server]:
    port = free_port()
    process = subprocess.Popen([*argv, str(port), TOKEN], cwd=ROOT)
    try:
        _wait_for(port)
        yield Server(port, process, None)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def server(name: str, links: int, env: dict[str, str]) -> Iterator[Server]:
    if name == HUB:
        with jackline(links, env) as found:
            yield found
        return
    python = [sys.executable, "-m", "bench.links.bare_socketio"]
    script = ROOT / "bench" / "measuring_hub"
    with bare(
        python if name == PYTHON else [node_program(), str(fetched(script) / "bare.js")]
    ) as found:
        yield found


class Swarm:
    """The load, in its own process."""

    def __init__(self, port: int, links: int, concurrency: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.links.swarm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell(port=port, links=links, concurrency=concurrency, token=TOKEN)
        self.began = self.hear()

    def tell(self, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self.tell(op=op, **fields)
        return self.hear()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def swarm(on: Server, links: int, concurrency: int) -> Iterator[Swarm]:
    made = Swarm(on.port, links, concurrency)
    try:
        yield made
    finally:
        made.close()


def held(name: str, size: argparse.Namespace) -> Values:
    with server(name, size.links, UNPACED) as one, swarm(one, size.links, 64) as load:
        time.sleep(max(size.hold, REST_S))
        count = load.ask("count")
        return {"rss": one.rss_mib(), "drops": count["drops"], "up": count["up"]}


def connects(name: str, size: argparse.Namespace) -> Values:
    with server(name, size.connects, UNPACED) as one, swarm(one, size.connects, 64) as load:
        return {"rate": size.connects / load.began["up_s"]}


def returning(name: str, size: argparse.Namespace) -> Values:
    if name != HUB:
        return {}
    with server(name, size.links, {}) as one, swarm(one, size.links, size.links) as load:
        assert one.hub is not None
        load.tell(op="return")
        one.hub.kill()
        load.hear()
        one.hub.start()
        back = load.hear()
        return {
            "last": back["last_s"],
            "median": back["median_s"],
            "long": back["long_backoffs"],
            "rss": one.rss_mib(),
        }


def events(name: str, size: argparse.Namespace) -> Values:
    links = min(size.links, 2000)
    with server(name, links, UNPACED) as one, swarm(one, links, 64) as load:
        time.sleep(REST_S)
        taken = load.ask("events", rate=size.rate, seconds=size.seconds)
        return {"lost": taken["lost"], "p50": taken["p50_ms"], "p99": taken["p99_ms"]}


LISTS = (
    "?q=box-1&sort=seen&order=desc",
    "?presence=online&sort=cpu&order=desc",
    "?tag=web&sort=name",
    "?platform=linux&sort=version&order=desc",
    "?q=no-such-machine&sort=disk",
    "?sort=mem&order=desc",
)


def lists(name: str, size: argparse.Namespace) -> Values:
    if name != HUB:
        return {}
    values = {"sqlite": _lists(None, size)}
    postgres = PostgresServer()
    try:
        values["postgresql"] = _lists(postgres.create(), size)
    finally:
        postgres.close()
    return values


def _lists(url: str | None, size: argparse.Namespace) -> float:
    hub = HubProcess(url)
    try:
        seed(hub, size.machines)
        hub.start()
        token, times = hub.token(), []
        for _ in range(size.requests // len(LISTS)):
            for query in LISTS:
                began = time.perf_counter()
                status, _ = hub.get(f"/api/v1/agents{query}", token)
                times.append((time.perf_counter() - began) * 1000)
                assert status == 200
        return sorted(times)[int(len(times) * 0.95)]
    finally:
        hub.close()


def seed(hub: HubProcess, count: int) -> None:
    """Make machines with credentials, in one statement each."""
    keys = keyring.load(hub.state_dir)

    def make(session: Session) -> None:
        tenant = service.find_tenant(session, service.DEFAULT_TENANT)
        assert tenant is not None
        machines, agents = [], []
        for n in range(count):
            asset_id, agent_id = new_id(), new_id()
            machines.append(_machine(tenant.id, asset_id, n))
            agents.append(
                {
                    "id": agent_id,
                    "tenant_id": tenant.id,
                    "asset_id": asset_id,
                    "client_id": f"a{n}",
                    "state": "active",
                    "secret_sealed": keys.seal(TOKEN, f"agent:{agent_id}"),
                    "created_ms": now_ms(),
                }
            )
        session.execute(insert(Asset), machines)
        session.execute(insert(Agent), agents)

    hub.write(make)


def _machine(tenant_id: str, asset_id: str, n: int) -> dict[str, Any]:
    return {
        "id": asset_id,
        "tenant_id": tenant_id,
        "name": f"box-{n}",
        "tags": ["web"] if n % 7 == 0 else ["db", "eu"],
        "platform": ("linux", "darwin", "win32")[n % 3],
        "agent_version": f"1.{n % 9}.0",
        "presence": ("online", "offline", "stale")[n % 3],
        "seen_ms": now_ms() - n * 1000,
        "cpu": n % 100 + n / 100_000,
        "mem_percent": n % 97 + n / 100_000,
        "disk_percent": float(n % 89),
        "sample": {"cpu": n % 100, "net": [{"name": "eth0", "rxBytes": n}] * 4},
        "created_ms": now_ms(),
    }


ROWS: dict[str, tuple[Callable[[str, argparse.Namespace], Values], dict[str, str]]] = {
    "held": (held, {"rss": "RSS with all links, MiB", "drops": "drops", "up": "links up"}),
    "connects": (connects, {"rate": "authenticated connects a second"}),
    "return": (
        returning,
        {
            "last": "last back after kill -9, s",
            "median": "median back, s",
            "long": "left in a long backoff",
            "rss": "RSS then, MiB",
        },
    ),
    "events": (
        events,
        {"lost": "events lost", "p50": "acknowledged, p50 ms", "p99": "acknowledged, p99 ms"},
    ),
    "lists": (lists, {"sqlite": "list, SQLite, p95 ms", "postgresql": "list, PostgreSQL, p95 ms"}),
}


def main(argv: list[str]) -> int:
    size = _arguments(argv)
    names = [HUB, PYTHON, NODE]
    taken: dict[tuple[str, str, str], list[float]] = {}
    for number in range(size.rounds):
        for figure in size.figures or ROWS:
            for name in names[number % 3 :] + names[: number % 3]:
                values = ROWS[figure][0](name, size)
                print(f"round {number + 1} {figure} {name}: {values}", file=sys.stderr, flush=True)
                for key, value in values.items():
                    taken.setdefault((figure, key, name), []).append(value)
    print("\n".join(_lines(size, taken, names)))
    return 0


def _lines(
    size: argparse.Namespace, taken: dict[tuple[str, str, str], list[float]], names: list[str]
) -> Iterator[str]:
    yield f"On {table.machine()}; {size.links} links held {size.hold} s; {size.rounds} rounds."
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for cells in [("figure", *names), *_cells(size, taken, names)]:
        for position, cell in enumerate(cells):
            yield f"   {'* -' if position == 0 else '  -'} {cell}"


def _cells(
    size: argparse.Namespace, taken: dict[tuple[str, str, str], list[float]], names: list[str]
) -> Iterator[tuple[str, ...]]:
    for figure in size.figures or ROWS:
        for key, title in ROWS[figure][1].items():
            found = [taken.get((figure, key, name), []) for name in names]
            yield (title, *(_cell(values) for values in found))


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    median = statistics.median(values)
    return f"{table.number(median)} ({table.number(min(values))}–{table.number(max(values))})"


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.links", description="Load the hub.")
    parser.add_argument("figures", nargs="*", choices=[*ROWS, []], metavar="FIGURE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--links", type=int, default=5000)
    parser.add_argument("--hold", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--connects", type=int, default=3000)
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of events")
    parser.add_argument("--machines", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=300)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
