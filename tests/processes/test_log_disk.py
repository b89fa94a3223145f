"""The log on a real small disk: full, read-only, and well again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import log as module
from agent.log import Log
from agent.logfile import LogFile
from tests.facilities import only_if, require, require_root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """256 KiB, mounted."""
    require_root()
    path = tmp_path / "disk"
    path.mkdir()
    mount = [require("mount"), "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(path)]
    only_if(subprocess.run(mount, check=False).returncode == 0, "nothing can be mounted")
    yield path
    subprocess.run([require("umount"), str(path)], check=True)


@pytest.fixture(autouse=True)
def _try_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)


def messages(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["msg"] for line in lines if line.endswith("}")]


def test_log_on_a_full_disk_goes_to_stderr_and_comes_back(disk: Path) -> None:
    console: list[bytes] = []
    log = Log(LogFile(disk / "agent.log"), console=console.append)
    log.info("before")
    assert log.flush(10)
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    for _ in range(100):
        log.info("while full", text="y" * 200)
    assert log.flush(10)
    assert log.dropped > 0
    assert any(b"No space left" in line for line in console)
    ballast.unlink()
    log.info("after")
    log.close(10)
    found = messages(disk / "agent.log")
    assert found[0] == "before"
    assert found[-2:] == ["Records did not reach this file.", "after"]


def test_log_on_a_read_only_disk_goes_to_stderr_and_comes_back(disk: Path) -> None:
    console: list[bytes] = []
    mount = require("mount")
    subprocess.run([mount, "-o", "remount,ro", str(disk)], check=True)
    log = Log(LogFile(disk / "agent.log"), console=console.append)
    log.info("while read-only")
    assert log.flush(10)
    assert any(b"while read-only" in line for line in console)
    subprocess.run([mount, "-o", "remount,rw", str(disk)], check=True)
    log.info("after")
    log.close(10)
    assert messages(disk / "agent.log") == ["Records did not reach this file.", "after"]
