"""The figures: how each is taken, in which unit, and its goal.

Rules: a figure returns the same keys for every peer; every wait has an end; typing and timing
happen in the measuring server, except for ssh, which is timed at its client's pipe.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import processes
from bench.hub import MeasuringHub
from bench.peers import CAT, SH, Peer
from bench.setting import BULK_BYTES, Setting

Values = dict[str, float]
SSH = "ssh -tt"

KEYS = 500
KEY_GAP_MS = 4
FLOODED_KEYS = 60
FLOODED_GAP_MS = 25
SLOW_LINK = 2_000_000
FLOOD_S = 1.0
FLOOD_LIMIT_S = 15
OPENS = 20
SSH_OPENS = 4
KILLS = 20
SETTLE_S = 5.0
IDLE_S = 60.0
# Synced writes of one command: its record, its result, the outbox.
FSYNCS = 3
MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    title: str
    unit: str
    # Each goal: ("<=" or ">=", factor, peer's name, or None where the factor is the figure).
    goals: tuple[tuple[str, float, str | None], ...] = ()
    # The key of a figure of the same peer that the goal's right side grows by, and how often.
    plus: tuple[str, float] | None = None


@dataclass(frozen=True)
class Figure:
    """Several rows that one measurement gives."""

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Setting, Peer], Values]
    measure_ssh: Callable[[Setting], Values] | None = None
    rounds: int | None = None
    # Idle peers do not disturb one another: all are measured at once.
    is_joint: bool = False


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _ms(seconds: list[float]) -> Values:
    return {"p50": percentile(seconds, 50) * 1000, "p99": percentile(seconds, 99) * 1000}


# --- keystrokes ---


def echo(setting: Setting, peer: Peer) -> Values:
    with setting.linked(peer, shell=CAT) as hub:
        hub.measure("open", session="keys")
        _echo(hub, 50)
        return _ms(_echo(hub, KEYS))


def _echo(hub: MeasuringHub, count: int) -> list[float]:
    report = hub.measure("echo", session="keys", count=count, gapMs=KEY_GAP_MS, limitS=30)
    return list(report["seconds"])


def echo_ssh(setting: Setting) -> Values:
    session = setting.ssh.session("echo ready; exec cat")
    try:
        session.read_bytes(len("ready"))
        session.drain()
        taken = []
        for _ in range(50 + KEYS):
            started = time.monotonic()
            session.type("x")
            taken.append(session.read_bytes(1) - started)
            time.sleep(KEY_GAP_MS / 1000)
        return _ms(taken[50:])
    finally:
        session.close()


def _flooded(setting: Setting, peer: Peer, *, credit: bool, bytes_per_s: int | None) -> Values:
    with setting.linked(peer, shell=SH, credit=credit, bytes_per_s=bytes_per_s) as hub:
        for session, command in (("keys", "exec cat\n"), ("flood", "exec yes\n")):
            hub.measure("open", session=session)
            hub.measure("type", session=session, data=command)
            time.sleep(FLOOD_S)
        report = hub.measure(
            "echo", session="keys", count=FLOODED_KEYS, gapMs=FLOODED_GAP_MS, limitS=FLOOD_LIMIT_S
        )
        return _ms(list(report["seconds"]))


def echo_slow_link(setting: Setting, peer: Peer) -> Values:
    return _flooded(setting, peer, credit=True, bytes_per_s=SLOW_LINK)


def echo_slow_link_without_credit(setting: Setting, peer: Peer) -> Values:
    return _flooded(setting, peer, credit=False, bytes_per_s=SLOW_LINK)


def echo_flooded_loopback(setting: Setting, peer: Peer) -> Values:
    return _flooded(setting, peer, credit=True, bytes_per_s=None)


# --- bulk ---


def _bulk(setting: Setting, peer: Peer, *, credit: bool) -> Values:
    with setting.linked(peer, shell=SH, credit=credit) as hub:
        hub.measure("open", session="bulk")
        report = hub.measure(
            "bulk", session="bulk", data=f"cat {setting.bulk_file}\n", bytes=BULK_BYTES
        )
        return {"rate": BULK_BYTES / 1e6 / float(report["seconds"])}


def bulk(setting: Setting, peer: Peer) -> Values:
    return _bulk(setting, peer, credit=True)


def bulk_without_credit(setting: Setting, peer: Peer) -> Values:
    return _bulk(setting, peer, credit=False)


def bulk_ssh(setting: Setting) -> Values:
    session = setting.ssh.session("exec sh")
    try:
        session.drain()
        started = time.monotonic()
        session.type(f"cat {setting.bulk_file}\n")
        return {"rate": BULK_BYTES / 1e6 / (session.read_bytes(BULK_BYTES) - started)}
    finally:
        session.close()


# --- at rest ---


def idle(setting: Setting, peer: Peer) -> Values:
    with setting.linked(peer) as hub:
        time.sleep(SETTLE_S)
        before = processes.cpu_seconds(peer.pids())
        time.sleep(IDLE_S)
        used = processes.cpu_seconds(peer.pids()) - before
        resting = processes.pss_bytes(peer.pids())
        for number in range(4):
            hub.measure("open", session=f"shell-{number}")
        time.sleep(SETTLE_S)
        return {
            "cpu": used / IDLE_S * 100,
            "pss": resting / MIB,
            "pss4": processes.pss_bytes(peer.pids()) / MIB,
        }


# --- sessions that begin and end ---


def start(setting: Setting, peer: Peer) -> Values:
    with setting.linked(peer, shell=CAT) as hub:
        taken = []
        for number in range(OPENS):
            session = f"open-{number}"
            taken.append(float(hub.measure("open", session=session)["seconds"]))
            hub.measure("close", session=session)
        return _ms(taken)


def start_ssh(setting: Setting) -> Values:
    taken = []
    for _ in range(SSH_OPENS):
        session = setting.ssh.session("echo ready; exec cat")
        try:
            taken.append(session.read_bytes(1) - session.started)
        finally:
            session.close()
    return _ms(taken)


def kill(setting: Setting, peer: Peer) -> Values:
    with setting.linked(peer, shell=CAT) as hub:
        taken = []
        for number in range(KILLS):
            session = f"kill-{number:03}"
            hub.measure("open", session=session)
            victim = peer.victim(session)
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            taken.append(hub.wait_closed(session) - killed)
        return _ms(taken)


# --- commands ---


def admin(setting: Setting, peer: Peer) -> Values:
    with setting.linked(peer) as hub:
        hub.measure("admin", command="true", count=5, parallel=1)
        alone = hub.measure("admin", command="true", count=60, parallel=1)
        together = hub.measure("admin", command="true", count=200, parallel=8)
        for report in (alone, together):
            assert set(report["codes"]) == {"0"}, report["codes"]
        fsync = _ms(setting.fsync_seconds())
        return {
            "p50": percentile(alone["seconds"], 50) * 1000,
            "rate": 200 / float(together["total"]),
            "fsync50": fsync["p50"],
            "fsync99": fsync["p99"],
        }


NODE = "Node agent"

FIGURES = (
    Figure(
        "echo",
        (
            Row("p50", "keystroke echo, p50", "ms", (("<=", 1.4, NODE),)),
            Row("p99", "keystroke echo, p99", "ms", (("<=", 1.2, NODE),)),
        ),
        echo,
        echo_ssh,
    ),
    Figure(
        "slow-link",
        (
            Row("p50", "echo, 2 MB/s link flooded, credit, p50", "ms", (("<=", 1.2, NODE),)),
            Row("p99", "echo, 2 MB/s link flooded, credit, p99", "ms"),
        ),
        echo_slow_link,
    ),
    Figure(
        "slow-link-no-credit",
        (Row("p50", "echo, 2 MB/s link flooded, no credit, p50", "ms"),),
        echo_slow_link_without_credit,
        rounds=1,
    ),
    Figure(
        "flood",
        (
            Row("p50", "echo, loopback flooded, credit, p50", "ms", (("<=", 1.5, NODE),)),
            Row("p99", "echo, loopback flooded, credit, p99", "ms"),
        ),
        echo_flooded_loopback,
    ),
    Figure(
        "cat",
        (Row("rate", "cat of 100 MB, credit", "MB/s", ((">=", 1.1, NODE), (">=", 0.8, SSH))),),
        bulk,
        bulk_ssh,
    ),
    Figure(
        "cat-no-credit",
        (Row("rate", "cat of 100 MB, no credit", "MB/s", ((">=", 1.1, NODE),)),),
        bulk_without_credit,
    ),
    Figure(
        "idle",
        (
            Row("pss", "idle PSS, link up", "MiB", (("<=", 34, None),)),
            Row("pss4", "PSS with 4 open shells", "MiB", (("<=", 44, None),)),
            Row("cpu", "idle CPU of one core", "%", (("<=", 0.3, None),)),
        ),
        idle,
        is_joint=True,
    ),
    Figure(
        "start",
        (Row("p50", "shell_start to first byte, p50", "ms", (("<=", 10, None),)),),
        start,
        start_ssh,
    ),
    Figure(
        "kill",
        (
            Row("p50", "killed worker to shell_closed, p50", "ms"),
            Row("p99", "killed worker to shell_closed, p99", "ms", (("<=", 25, None),)),
        ),
        kill,
    ),
    Figure(
        "admin",
        (
            Row("p50", "admin_run true, p50", "ms", (("<=", 1.5, NODE),), ("fsync50", FSYNCS)),
            Row("rate", "commands per second, 8 at once", "1/s"),
            Row("fsync50", "fsync of this disk, p50", "ms"),
            Row("fsync99", "fsync of this disk, p99", "ms"),
        ),
        admin,
    ),
)
