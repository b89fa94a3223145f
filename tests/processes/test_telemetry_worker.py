"""The telemetry kind: on a real loop, and confined in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.doubles.desk import DeskDouble
from tests.facilities import only_if
from wire.telemetry import Stats
from workers.messages import End, Sample, Sampled, Stopped, TelemetrySpec
from workers.telemetry.mounts import Mount, Space, Spaces
from workers.telemetry.worker import MIN_INTERVAL_S, TelemetryWorker

ROOT = Mount("/", "/dev/vda", "ext4")
NFS = Mount("/srv/nfs", "server:/export", "nfs4")


def start(interval_s: float = 3600.0, **options: Any) -> tuple[DeskDouble, TelemetryWorker]:
    desk = DeskDouble()
    confined: list[bool] = []
    worker = TelemetryWorker(desk, lambda _: confined.append(True), **options)
    worker.on_start(TelemetrySpec(interval_s=interval_s))
    assert confined == [True]
    return desk, worker


def samples(desk: DeskDouble) -> list[dict[str, Any]]:
    return [message.data for message in desk.sent if isinstance(message, Sampled)]


def wait_for(desk: DeskDouble, count: int) -> dict[str, Any]:
    desk.run_until(lambda: len(samples(desk)) >= count)
    return samples(desk)[-1]


def test_sample_has_every_field_of_the_contract() -> None:
    desk, worker = start()
    worker.on_message(Sample())
    data = wait_for(desk, 1)
    stats = msgspec.convert({"data": data}, Stats).data
    for field in stats.__struct_fields__:
        if field not in ("net_latency_ms", "truncated"):  # the agent's to know
            assert getattr(stats, field) is not None, field
    assert data["mem"]["used"] + data["mem"]["free"] == data["mem"]["total"]
    assert 0 <= data["cpu"] <= 100
    assert data["uptimeSec"] > 0
    assert data["hostname"] == socket.gethostname()
    taken = datetime.fromisoformat(data["ts"])
    assert abs(datetime.now(UTC) - taken) < timedelta(minutes=1)
    assert data["ts"].endswith("Z")
    assert "/" in [row["mount"] for row in data["disk"]]
    assert data["diskPercent"] == next(
        row["capacity"] for row in data["disk"] if row["mount"] == "/"
    )


def test_first_sample_covers_a_real_interval() -> None:
    """Asked for at once, it waits: counters read twice in a row would say nothing, or 0 or 100."""
    desk, worker = start()
    began = desk.loop.clock()
    worker.on_message(Sample())
    busy = threading.Event()

    def burn() -> None:
        while not busy.is_set():
            sum(range(1000))

    burner = threading.Thread(target=burn)
    burner.start()
    try:
        data = wait_for(desk, 1)
    finally:
        busy.set()
        burner.join()
    assert desk.loop.clock() - began >= MIN_INTERVAL_S
    assert 0 < data["cpu"] <= 100


def test_samples_come_by_themselves_every_interval() -> None:
    desk, _ = start(interval_s=0.6)
    began = desk.loop.clock()
    wait_for(desk, 3)
    assert desk.loop.clock() - began >= 1.8


def test_storm_of_requests_gives_one_sample_an_interval() -> None:
    desk, worker = start()
    began = desk.loop.clock()
    while len(samples(desk)) < 3:
        worker.on_message(Sample())
        desk.loop.turn(max_wait_s=0.01)
    assert desk.loop.clock() - began >= 3 * MIN_INTERVAL_S


def test_cpu_and_network_rates_move_with_the_machine() -> None:
    desk, worker = start()
    worker.on_message(Sample())
    wait_for(desk, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        for _ in range(500):
            sender.sendto(b"x" * 10_000, sender.getsockname())
    worker.on_message(Sample())
    data = wait_for(desk, 2)
    (loopback,) = [row for row in data["net"] if row["name"] == "lo"]
    assert loopback["rxBps"] > 100_000
    assert loopback["rxBytes"] > 5_000_000


def test_dead_mount_delays_a_sample_by_its_deadline_and_is_left_out() -> None:
    released = threading.Event()

    def ask(path: str) -> Space:
        if path == NFS.path:
            released.wait(60)
        return Space(1, 1)

    desk = DeskDouble()
    worker = TelemetryWorker(
        desk, lambda _: None, Spaces(desk.loop, desk.log, ask, deadline_s=0.2), lambda: [ROOT, NFS]
    )
    worker.on_start(TelemetrySpec(interval_s=3600))
    try:
        for count in (1, 2):
            worker.on_message(Sample())
            data = wait_for(desk, count)
            assert [row["mount"] for row in data["disk"]] == ["/"]
    finally:
        released.set()


def test_end_finishes_with_the_reason() -> None:
    desk, worker = start()
    worker.on_message(End(reason="agent_stopped"))
    assert desk.results == [Stopped(reason="agent_stopped")]


# -- confined ------------------------------------------------------------------------------------

CONFINED = """
import json, os, signal, socket, sys
sys.path[:] = json.loads(sys.argv[1])
from tests.doubles.desk import DeskDouble
from workers.messages import Sample, Sampled, TelemetrySpec
from workers.telemetry import worker

secret, parent = sys.argv[2], int(sys.argv[3])
desk = DeskDouble()
desk.secret_dirs = [os.path.dirname(secret)]
sampler = worker.make(desk)
sampler.on_start(TelemetrySpec(interval_s=3600))

def refused(act):
    try:
        act()
    except OSError as e:
        return e.errno in (1, 13)
    return False

said = {
    "secret": refused(lambda: open(secret)),
    "parent_memory": refused(lambda: open(f"/proc/{parent}/mem", "rb")),
    "parent_environment": refused(lambda: open(f"/proc/{parent}/environ", "rb").read()),
    "kill": refused(lambda: os.kill(parent, signal.SIGCONT)),
    "raw_socket": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "tcp": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
    "write": refused(lambda: open(secret + ".new", "w")),
    "exec": refused(lambda: os.execv("/bin/true", ["true"])),
}
sampler.on_message(Sample())
desk.run_until(lambda: any(isinstance(each, Sampled) for each in desk.sent))
said["sample"] = [each.data for each in desk.sent if isinstance(each, Sampled)][0]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    only_if(sys.platform == "linux", "confinement is Linux's")
    secret = tmp_path_factory.mktemp("secret") / "identity.json"
    secret.write_text("canary")
    ran = subprocess.run(
        [sys.executable, "-c", CONFINED, json.dumps(sys.path), secret, str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


@pytest.mark.parametrize(
    "right",
    [
        "secret",
        "parent_memory",
        "parent_environment",
        "kill",
        "raw_socket",
        "tcp",
        "write",
        "exec",
    ],
)
def test_confined_telemetry_has_lost(confined: dict[str, Any], right: str) -> None:
    assert confined[right] is True


def test_confined_telemetry_still_samples_everything(confined: dict[str, Any]) -> None:
    stats = msgspec.convert({"data": confined["sample"]}, Stats).data
    for field in stats.__struct_fields__:
        if field not in ("net_latency_ms", "truncated"):
            assert getattr(stats, field) is not None, field
    assert "/" in [disk.mount for disk in stats.disk or ()]
