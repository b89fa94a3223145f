"""The main job in one command: every step holds, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.agent_process import JACKLINE

STEPS = 12


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Sockets have short names alone: pytest's own folder is too deep for them."""
    with tempfile.TemporaryDirectory(prefix="jld-", dir="/tmp") as folder:
        yield Path(folder)


def test_demo_check_drives_the_whole_loop_and_leaves_nothing(short_folder: Path) -> None:
    folder = str(short_folder)
    env = {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    done = subprocess.run(
        [*JACKLINE, "demo", "--check"],
        env=env,
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
