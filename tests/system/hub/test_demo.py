"""The main job in one command: every step holds, and nothing is left."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import vitals
from tests.doubles.agent_process import JACKLINE
from tests.doubles.hub_process import free_port

STEPS = 12


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Sockets have short names alone: pytest's own folder is too deep for them."""
    with tempfile.TemporaryDirectory(prefix="jld-", dir="/tmp") as folder:
        yield Path(folder)


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
    }


def test_demo_check_drives_the_whole_loop_and_leaves_nothing(short_folder: Path) -> None:
    done = subprocess.run(
        [*JACKLINE, "demo", "--check"],
        env=environment(short_folder),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(words) == STEPS
    assert set(words) <= {"ok", "skip"}
    assert list(short_folder.iterdir()) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_demo_ends_in_order_by_whatever_ends_a_terminal(
    short_folder: Path, sign: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*JACKLINE, "demo", "--port", str(free_port())],
        env=environment(short_folder),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: "Ctrl-C" not in line, process.stdout))
        assert any("jackline shell" in line for line in said)
        assert vitals.marked(str(short_folder))
        process.send_signal(sign)
        process.stdout.read()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert vitals.marked(str(short_folder)) == []
    assert list(short_folder.iterdir()) == []
