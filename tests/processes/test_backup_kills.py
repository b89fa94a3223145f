"""A backup killed at random moments: what was there stays, and the next run completes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.backup_worker import BackupBench
from tests.doubles.ssh_server import SshServer
from tests.facilities import require

CODE = """
import sys, msgspec
from pathlib import Path
from agent import local_worker
from workers.messages_backup import BackupSpec
spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=BackupSpec)
local_worker.perform("backup", spec, Path(sys.argv[2]), Path(sys.argv[3]), lambda _: None, 1.0)
"""


def family(pid: int) -> list[int]:
    """Return a process and everything below it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            text = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue
        waiting += [int(each) for each in text.split()]
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def strike(
    bench: BackupBench, rng: random.Random, tmp_path: Path, server: SshServer | None
) -> None:
    """Start a run, and kill one process of it, or all, at a random moment."""
    import msgspec

    spec = tmp_path / "spec.json"
    spec.write_bytes(msgspec.json.encode(bench.spec("run")))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(spec), str(bench.root / "state"), str(bench.root / "run")],
        stderr=subprocess.DEVNULL,
    )
    time.sleep(rng.uniform(0.2, 1.2))
    pids = family(process.pid)
    if server is not None:
        pids += server.sessions()
    rng.shuffle(pids)
    for pid in pids if rng.random() < 0.5 else pids[:1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(60)
    # Whoever is left ends by itself: its lease is a second.
    end = time.monotonic() + 60
    for pid in pids:
        while is_alive(pid):
            assert time.monotonic() < end, pid
            time.sleep(0.02)


def completes(bench: BackupBench, home: Path) -> None:
    """Run once more: everything is there, and nothing is left beside it."""
    bench.well("run")
    verified = bench.well("verify", full=True)
    assert verified["different"] == 0, verified["differences"]
    left = [p for p in home.rglob("*") if p.name.startswith(".") or "unfinished" in p.name]
    assert left == []


@pytest.mark.family("backup")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("place", ["here", "there"])
@pytest.mark.parametrize("layout", ["snapshot", "mirror"])
def test_next_run_completes_after_random_kills(
    tmp_path: Path, layout: Any, place: str, soak: bool
) -> None:
    """50 kills in full size, of one process or of all; at another host its rsync may be the one."""
    require("rsync")
    rng = random.Random()
    server = SshServer(tmp_path / "sshd") if place == "there" else None
    source = tmp_path / "src"
    for number in range(400):
        path = source / f"d{number % 20}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(8_000))
    (source / "big").write_bytes(rng.randbytes(20_000_000))
    bench = BackupBench(source, tmp_path / "dest", layout=layout, limit_kib_s=20_000)
    if server is not None:
        bench.over(server)
    try:
        first = bench.well("run")["snapshot"]
        for _ in range(50 if soak else 3):
            changed = source / f"d{rng.randrange(20)}" / f"new{rng.randrange(1000)}"
            changed.write_bytes(rng.randbytes(500_000))
            (source / "big").write_bytes(rng.randbytes(20_000_000))
            strike(bench, rng, tmp_path, server)
            if first:
                assert bench.well("verify", full=True, snapshot=first)["different"] == 0
            if rng.random() < 0.3:
                completes(bench, tmp_path / "dest" / "src")
        completes(bench, tmp_path / "dest" / "src")
    finally:
        if server is not None:
            server.stop()
        bench.close()
