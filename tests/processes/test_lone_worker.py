"""A worker without a zygote (`jackline _worker`): same job, same end, its tree held together."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("POSIX worker", allow_module_level=True)

from agent.local_worker import perform
from workers import processes
from workers.messages import AdminSpec, CommandEnded, Running, ToAgent


@pytest.fixture
def dirs(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The state directory, and one whose socket paths are short enough."""
    state = tmp_path / "state"
    (state / "jobs").mkdir(parents=True, mode=0o700)
    run = Path(f"/tmp/jl-lone-{os.getpid()}")
    run.mkdir(mode=0o700, exist_ok=True)
    yield state, run
    shutil.rmtree(run)


def spec(script: str, timeout_s: float = 30.0) -> AdminSpec:
    argv = ["/bin/sh", "-c", script]
    return AdminSpec(argv=argv, env={"PATH": os.defpath}, cwd="", timeout_s=timeout_s)


def test_lone_worker_gives_its_result(dirs: tuple[Path, Path]) -> None:
    mail: list[ToAgent] = []
    result = perform("admin", spec("echo out; exit 3"), *dirs, mail.append)
    assert isinstance(result, CommandEnded)
    assert (result.code, result.stdout.head) == (3, b"out\n")
    assert [type(each) for each in mail if isinstance(each, Running)] == [Running]


def test_lone_worker_ends_daemons_of_its_job_at_its_timeout(dirs: tuple[Path, Path]) -> None:
    """They come back to it, because it is a subreaper like a worker of the zygote's."""
    script = "setsid sh -c 'env -i sleep 3600 & echo $!'; sleep 3600"
    result = perform("admin", spec(script, 1.0), *dirs, lambda _: None)
    assert isinstance(result, CommandEnded) and result.code == 124
    daemon = int(result.stdout.head)
    assert processes.living(daemon) is None
