"""`python -m bench.beats`: 2,000 agents beat every 10 s, then requests/s beside a bare insert.

Prints the list-table of docs/benchmarks.rst; what is on the way goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.orm import Session

from bench import table
from bench.beats.load import Agent, Outcome, flat_out, paced
from hub import tokens
from hub.agents import service as agents
from hub.clock import now_ms
from hub.heartbeat.identification import BEARER_PREFIX
from hub.heartbeat.models import Enrolment
from hub.operators import service as operators
from tests.doubles.hub_process import HubProcess, free_port, running_hub

CONNECTIONS = 64


def main(argv: list[str]) -> int:
    chosen = _arguments(argv)
    with running_hub(chosen.database_url) as hub:
        known = hub.write(lambda session: enrol(session, hub, chosen.agents))
        begun = [Agent(hub.port, *one) for one in known]
        steady = asyncio.run(paced(begun, chosen.every, chosen.seconds))
        _note(f"{steady.sent} beats, {steady.lost} lost {dict(steady.faults)}")
        ours, bare = [], []
        for number in range(chosen.rounds):
            some = [Agent(hub.port, *one) for one in known[:CONNECTIONS]]
            ours.append(_rate(asyncio.run(flat_out(some, chosen.burst)), chosen.burst))
            bare.append(_bare(known[:CONNECTIONS], chosen.burst))
            _note(f"round {number + 1}: hub {ours[-1]:.0f}/s, bare insert {bare[-1]:.0f}/s")
    print("\n".join(_lines(argv, chosen, steady, ours, bare)))
    return 0 if steady.lost == 0 else 1


def enrol(session: Session, hub: HubProcess, count: int) -> list[tuple[str, str]]:
    """Make agents as enrolment leaves them; return id and bearer token of each."""
    keys = hub.keyring()
    tenant = operators.find_tenant(session, operators.DEFAULT_TENANT)
    assert tenant is not None
    made = []
    for number in range(count):
        asset = agents.add_asset(session, tenant.id, f"bench-{number}")
        agent, _ = agents.add_agent(session, keys, asset)
        bearer = tokens.make(BEARER_PREFIX)
        session.add(
            Enrolment(
                agent_id=agent.id,
                tenant_id=tenant.id,
                source_id="bench",
                key_thumbprint=agent.id,
                bearer_digest=tokens.digest(bearer),
                enrolled_ms=now_ms(),
                boot_id="bench",
            )
        )
        made.append((agent.client_id, bearer))
    return made


def _bare(known: list[tuple[str, str]], seconds: float) -> float:
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        words = [sys.executable, "-m", "bench.beats.bare", str(port), str(Path(folder) / "db")]
        process = subprocess.Popen(words)
        try:
            _wait_for(port)
            some = [Agent(port, *one) for one in known]
            return _rate(asyncio.run(flat_out(some, seconds)), seconds)
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int) -> None:
    import socket

    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the bare server never listened")


def _rate(outcome: Outcome, seconds: float) -> float:
    return len(outcome.latencies) / seconds


def _lines(
    argv: list[str],
    chosen: argparse.Namespace,
    steady: Outcome,
    ours: list[float],
    bare: list[float],
) -> Iterator[str]:
    """Yield the table as rst, with the command and the machine above it."""
    yield f"``{' '.join(['python -m bench.beats', *argv])}`` on {table.machine()}."
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    title = f"{chosen.agents:,} agents, a beat every {chosen.every:g} s, {chosen.seconds:g} s"
    rows = [
        ("figure", "hub", "bare FastAPI + SQLite insert", "ratio", "goal"),
        (f"{title}: beats", f"{steady.sent:,}", "–", "", ""),
        ("lost", f"{steady.lost:,}", "–", "", f"0: {_met(steady.lost == 0)}"),
        *(
            (f"answered, {name}", f"{table.number(steady.quantile(part) * 1000)} ms", "–", "", "")
            for name, part in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))
        ),
    ]
    if ours:
        ratio = statistics.median(ours) / statistics.median(bare)
        rate = f"beats a second, {CONNECTIONS} connections, as fast as they go"
        said = f"≥ 0.5× bare insert: {_met(ratio >= 0.5)}"
        rows.append((rate, table.cell(ours, "/s"), table.cell(bare, "/s"), f"{ratio:.2f}×", said))
    for cells in rows:
        for position, cell in enumerate(cells):
            yield f"   {'* -' if position == 0 else '  -'} {cell}".rstrip()


def _met(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.beats", description=__doc__)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--every", type=float, default=10.0, metavar="S")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S")
    parser.add_argument("--burst", type=float, default=10.0, metavar="S")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database-url")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
