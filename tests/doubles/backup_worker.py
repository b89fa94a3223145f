"""A real backup worker process for each step, without an agent: for tests of the kind itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from agent import local_worker
from tests.doubles.ssh_server import SshServer
from workers.messages import ToAgent
from workers.messages_backup import BackupEnded, BackupJob, BackupOp, BackupSpec, BackupStep

APART = """
import sys, msgspec
from pathlib import Path
from agent import local_worker
from workers.messages_backup import BackupSpec
spec = msgspec.json.decode(sys.stdin.buffer.read(), type=BackupSpec)
root = Path(sys.argv[1])
made = local_worker.perform("backup", spec, root / "state", root / "run", lambda _: None)
sys.stdout.buffer.write(msgspec.json.encode(made))
"""


class BackupBench:
    """One plan, its state directory, and whatever it said on the way."""

    def __init__(self, source: Path, dest: Path, **job: Any) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="jb-", dir="/tmp"))
        (self.root / "state").mkdir(mode=0o700)
        (self.root / "run").mkdir(mode=0o700)
        self.steps: list[BackupStep] = []
        self.job = BackupJob(
            plan_id="p",
            folder=str(self.root / "state" / "backups" / "p"),
            sources=[str(source)],
            dest_root=str(dest),
            **job,
        )

    @property
    def folder(self) -> Path:
        return Path(self.job.folder)

    def over(self, server: SshServer) -> BackupBench:
        """Copy to that server from now on."""
        self.change(
            host="127.0.0.1",
            port=server.port,
            user=server.user,
            identity_file=str(server.identity),
            known_hosts_file=str(server.known_hosts),
        )
        return self

    def change(self, **job: Any) -> None:
        self.job = msgspec.structs.replace(self.job, **job)

    def do(self, op: BackupOp, **args: Any) -> BackupEnded:
        """Perform a step and return its result, good or not."""
        spec = BackupSpec(op=op, job=self.job, **args)
        result = local_worker.perform(
            "backup", spec, self.root / "state", self.root / "run", self._on_mail
        )
        assert isinstance(result, BackupEnded)
        return result

    def well(self, op: BackupOp, **args: Any) -> dict[str, Any]:
        """Perform a step that must succeed, and return what it found."""
        result = self.do(op, **args)
        assert result.ok, (result.error, result.detail)
        return result.found

    def apart(self, op: BackupOp, under: list[str]) -> dict[str, Any]:
        """Perform a step below a program that takes something away; return what it found."""
        done = subprocess.run(
            [*under, sys.executable, "-c", APART, str(self.root)],
            input=msgspec.json.encode(self.spec(op)),
            capture_output=True,
            check=True,
        )
        result = msgspec.json.decode(done.stdout, type=BackupEnded)
        assert result.ok, (result.error, result.detail)
        return result.found

    def spec(self, op: BackupOp, **args: Any) -> BackupSpec:
        return BackupSpec(op=op, job=self.job, **args)

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def _on_mail(self, message: ToAgent) -> None:
        if isinstance(message, BackupStep):
            self.steps.append(message)


def same(one: Path, other: Path) -> list[str]:
    """Return the names of all that differs in kind, mode, time, content, links or attributes."""
    a, b = _facts(one), _facts(other)
    return [repr(name) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]


def _facts(root: Path) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    inodes: dict[int, bytes] = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            rel = path[len(base) :]
            if os.path.islink(path):
                found[rel] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[rel] = ("dir", status.st_mode)
            elif os.path.isfile(path):
                leader = inodes.setdefault(status.st_ino, rel) if status.st_nlink > 1 else rel
                with open(path, "rb") as file:
                    content = file.read() if status.st_size < 50_000_000 else status.st_size
                attributes = {
                    each: os.getxattr(path, each)
                    for each in os.listxattr(path)
                    if not each.startswith("security.")
                }
                times = (status.st_mode, status.st_size, int(status.st_mtime))
                found[rel] = (*times, leader, content, attributes)
    return found
