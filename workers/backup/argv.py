"""The argument lists of rsync and ssh.

Pure. A plan's list is the run's and `--dry-run`: one function makes both. No text of an operator
becomes an option: sources are `./` in a directory that the worker has opened, what is remote
follows `--` and goes over rsync's protocol (`-s`), globs are in a file of ours, host, user and port
have been matched (`workers.backup_request`).
Source: rsync(1), ssh(1), ssh_config(5); cases H.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import msgspec

from workers.backup.itemize import OUT_FORMAT
from workers.backup.versions import Version
from workers.errors import BackupError
from workers.messages_backup import BackupJob

PARTIAL_DIR = ".jackline-partial"
_CONNECT_S = 20


class Features(msgspec.Struct, frozen=True):
    """What both ends of a transfer can do; `checksum` None: the old rsync's only one, md5."""

    acls: bool
    xattrs: bool
    hard_links: bool
    checksum: str | None

    @property
    def algorithm(self) -> str:
        return self.checksum or "md5"


NOTHING = Features(acls=False, xattrs=False, hard_links=False, checksum=None)


class Transfer(msgspec.Struct, frozen=True):
    """One rsync. What files are read from or written to is `./`, a directory that was opened.

    The other of `source` and `dest` is absolute, maybe remote; a look alone has no `./`.

    `link_dests`: absolute paths at the destination (relative ones a dry run would not find);
    `files_from`: a file of names, each ended by a NUL.
    """

    source: str
    dest: str
    filter_file: str | None = None
    files_from: str | None = None
    link_dests: tuple[str, ...] = ()
    delete: bool = False
    by_checksum: bool = False


def common(here: Version, there: Version | None) -> Features:
    """Return what two rsyncs (or one, twice) have in common."""
    both = [here] if there is None else [here, there]
    checksum = None
    if here.number >= (3, 2, 0):
        checksum = "xxh128" if all(each.xxh128 for each in both) else "md5"
    return Features(
        acls=all(each.acls for each in both),
        xattrs=all(each.xattrs for each in both),
        hard_links=all(each.hard_links for each in both),
        checksum=checksum,
    )


def rsync_argv(
    rsync: str,
    job: BackupJob,
    features: Features,
    transfer: Transfer,
    ssh: Sequence[str] = (),
    *,
    dry_run: bool,
) -> list[str]:
    """Return the whole argument list.

    Args:
        rsync: the absolute program.
        ssh: of `ssh_argv`, for a remote end.
        dry_run: the only difference between a plan and its run.
    """
    argv = [rsync, "-aSs8ii", "--no-D", "--no-human-readable", "--stats"]
    # Nanoseconds count: two contents of one size within a second are two.
    argv += ["--modify-window=-1"]
    argv += ["--info=progress2,nonreg1,mount1", f"--out-format={OUT_FORMAT}"]
    argv += [f"--partial-dir={PARTIAL_DIR}", f"--timeout={job.io_timeout_s}"]
    argv += ["-H"] * features.hard_links + ["-A"] * features.acls + ["-X"] * features.xattrs
    argv += ["-x"] * job.one_file_system
    if features.checksum:
        argv.append(f"--checksum-choice={features.checksum}")
    if job.limit_kib_s:
        argv.append(f"--bwlimit={job.limit_kib_s}")
    if transfer.filter_file:
        argv.append(f"--filter=merge {transfer.filter_file}")
    if transfer.files_from:
        argv += ["-r", "--from0", f"--files-from={transfer.files_from}"]
    if transfer.delete:
        argv.append("--delete-delay")
    if transfer.by_checksum:
        argv.append("--checksum")
    argv += [f"--link-dest={each}" for each in transfer.link_dests]
    if ssh:
        argv += ["-e", shlex.join(ssh)]
    if dry_run:
        argv.append("--dry-run")
    return [*argv, "--", transfer.source, transfer.dest]


def ssh_argv(
    ssh: str, job: BackupJob, known_hosts: Sequence[str], shared: Sequence[str] = ()
) -> list[str]:
    """Return ssh and its options, without the host.

    Args:
        shared: options that make it use a connection that is there (the first value counts).

    Raises:
        BackupError: `ssh_config`: a file's name cannot be handed over.
    """
    files = [each for each in (job.identity_file, job.config_file, *known_hosts) if each]
    for file in files:
        if re.search(r"[\s\"'\\%]", file) or not file.startswith("/"):
            raise BackupError("ssh_config", f"{file!r}: an absolute path without spaces, please")
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": " ".join(known_hosts),
        "UpdateHostKeys": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ControlPath": "none",
        "ConnectTimeout": str(_CONNECT_S),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "LogLevel": "ERROR",
    }
    argv = [ssh, "-T", *shared, "-F", job.config_file or "/dev/null"]
    argv += [f"-o{name}={value}" for name, value in options.items()]
    if job.identity_file:
        argv += ["-i", job.identity_file, "-oIdentitiesOnly=yes"]
    if job.port:
        argv += ["-p", str(job.port)]
    if job.user:
        argv += ["-l", job.user]
    return argv


def remote(host: str, path: str) -> str:
    """Return a remote place as rsync writes it."""
    return f"[{host}]:{path}" if ":" in host else f"{host}:{path}"
