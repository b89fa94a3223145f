"""The programs of this machine that a backup uses, and how each is started.

Rules: an absolute program found once; a built environment without anything of ours but the job's
mark; output is bounded; one child at a time.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from workers import accounts
from workers.backup import argv, versions
from workers.backup.child import Child, Output
from workers.backup.connection import KEEP_BYTES, Connection
from workers.backup.outcomes import Words
from workers.backup.steps import Job
from workers.backup.versions import Version
from workers.errors import BackupError
from workers.loop import Loop
from workers.messages_backup import BackupJob
from workers.reaper import Reaper

KNOWN_HOSTS = "known_hosts"
_PACKAGE_ASKS = (
    ("dpkg-query", ("-W", "-f", "${Version}", "rsync")),
    ("rpm", ("-q", "--qf", "%{VERSION}-%{RELEASE}", "rsync")),
    ("apk", ("info", "-ve", "rsync")),
)


class Tools:
    """See the module.

    Args:
        folder: of all backups in the state directory; pinned host keys are there.
        job_id: the mark by which children that outlive us are found.
    """

    def __init__(
        self, loop: Loop, reaper: Reaper, job: BackupJob, folder: Path, job_id: str
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._job = job
        account = accounts.own()
        self._home = account.home
        self._known_hosts = folder / KNOWN_HOSTS
        self.child: Child | None = None
        self._connection = Connection(folder, self._start_talk)
        self.rsync = self._find("rsync")
        self.env = {
            "PATH": job.search_path,
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "LC_ALL": "C",
            "TZ": "UTC",
            "JACKLINE_JOB": job_id,
        }

    def need_rsync(self) -> str:
        """Return rsync, or raise BackupError `no_rsync` with the cure."""
        if self.rsync is None:
            raise BackupError("no_rsync", "this machine has no rsync: install it")
        return self.rsync

    def start(
        self,
        words: Sequence[str],
        on_output: Output,
        on_error: Output,
        stdout: int | None = None,
    ) -> Child:
        """Start a program in the present working directory."""
        self.child = Child(self._loop, self._reaper, words, self.env, on_output, on_error, stdout)
        return self.child

    def capture(self, words: Sequence[str]) -> Job[tuple[int, bytes, Words]]:
        """Run a program; return its exit code, its output (4 MiB at most), its last words."""
        output, said = bytearray(), Words()

        def keep(data: bytes) -> None:
            if len(output) < KEEP_BYTES:
                output.extend(data)

        code: int = yield self.start(words, keep, said.feed)
        said.end()
        return code, bytes(output), said

    def local_version(self) -> Job[Version]:
        """Return what this machine's rsync can do."""
        code, output, _ = yield from self.capture([self.need_rsync(), "--version"])
        found = versions.parse(output.decode("utf-8", "replace")) if code == 0 else versions.UNKNOWN
        if not found.is_usable:
            raise BackupError(
                "no_rsync", "rsync is missing or older than 3.1.3: install a newer one"
            )
        return found

    def package_version(self) -> Job[str]:
        """Return the version that the distributor gave its rsync package, or ""."""
        for name, words in _PACKAGE_ASKS:
            program = self._find(name)
            if program is not None:
                code, output, _ = yield from self.capture([program, *words])
                return output.decode("utf-8", "replace").strip()[:80] if code == 0 else ""
        return ""

    def ssh(self) -> list[str]:
        """Return ssh and its options for the job's host; nothing for a local copy."""
        if self._job.host is None:
            return []
        program = self._find("ssh")
        if program is None:
            raise BackupError("no_ssh", "this machine has no ssh: install its client")
        return argv.ssh_argv(program, self._job, self.known_hosts(), self._connection.options)

    def known_hosts(self) -> list[str]:
        """Return the files of host keys: the owner's, else the pinned ones and the account's."""
        if self._job.known_hosts_file:
            return [self._job.known_hosts_file]
        return [str(self._known_hosts), os.path.join(self._home, ".ssh", "known_hosts")]

    def remote(self, script: str) -> Job[tuple[int, bytes, Words]]:
        """Run a script of ours in the other host's shell."""
        assert self._job.host is not None
        ssh = self.ssh()
        if self._connection.options:
            return (yield from self.capture([*ssh, "--", self._job.host, script]))
        return (yield from self._connection.open(ssh, self._job.host, script))

    def kill(self) -> None:
        """End what was started last, if it still runs."""
        if self.child is not None and self.child.is_running:
            self.child.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the other host go."""
        self._connection.close()

    def _start_talk(
        self, words: Sequence[str], on_output: Output, on_error: Output, *, stdin: int
    ) -> Child:
        return Child(self._loop, self._reaper, words, self.env, on_output, on_error, stdin=stdin)

    def _find(self, program: str) -> str | None:
        return find_program(program, self._job.search_path)


def find_program(name: str, search_path: str) -> str | None:
    """Return an absolute program; `shutil.which` would load every compressor into each worker."""
    for folder in search_path.split(os.pathsep):
        path = os.path.abspath(os.path.join(folder, name))
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None
