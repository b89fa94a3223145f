"""What passes between the agent and a backup worker; part of `workers.messages`, whose rules hold.

Source: contract 1.5, 1.7 `backup2`, part 3 `backup`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class _Mail(msgspec.Struct, frozen=True, kw_only=True, tag_field="m", omit_defaults=True):
    pass


class BackupJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is backed up, where to, and what this machine's owner says of it.

    `folder` is the plan's own in the state directory: manifests and the state of its runs. The
    roots are as `policy_roots.holds` takes them. `search_path`: where rsync and ssh are looked for.
    """

    plan_id: str
    folder: str
    sources: list[str]
    dest_root: str
    host: str | None = None
    user: str | None = None
    port: int | None = None
    globs: list[str] = []
    layout: Literal["mirror", "snapshot"] = "mirror"
    delete: bool = False
    one_file_system: bool = True
    limit_kib_s: int = 0
    io_timeout_s: int = 300
    identity_file: str | None = None
    known_hosts_file: str | None = None
    config_file: str | None = None
    source_roots: list[list[str]] = []
    dest_roots: list[list[str]] = []
    restore_roots: list[list[str]] = []
    retention: dict[str, int] = {}
    hooks: dict[str, list[str]] = {}
    commands: list[dict[str, Any]] = []
    search_path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


BackupOp = Literal["plan", "run", "verify", "restore", "ls", "prune"]


class BackupSpec(_Mail, tag="backup", frozen=True, kw_only=True):
    """One step in a plan's life.

    Args of some: `total_files` and `total_bytes` as planned (run); `retry_s`, how long a lost
    connection is tried again without getting on (run); `full` (verify); `snapshot`, a name or none
    for the newest; `paths` below `<basename>`, none for all (restore, ls); `to`, none for the
    original place (restore); `failed`, what the last restore could not bring back, to where it
    was to go (restore); `dry_run` (restore, prune).
    """

    op: BackupOp
    job: BackupJob
    total_files: int = 0
    total_bytes: int = 0
    retry_s: float = 900.0
    full: bool = False
    snapshot: str | None = None
    paths: list[str] = []
    to: str | None = None
    failed: bool = False
    dry_run: bool = False


class BackupStep(_Mail, tag="backup_step", frozen=True, kw_only=True):
    """How far a backup job is; at most one a second, and no more than two seconds apart.

    `file` is below the destination root; `name` its bytes where they are not UTF-8.
    """

    op: str
    file: str | None = None
    name: bytes | None = None
    percent: float = 0.0
    done_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    bytes_per_s: float | None = None
    eta_s: float | None = None


class BackupEnded(_Mail, tag="backup_ended", frozen=True, kw_only=True):
    """The end of a backup job. `error` is a word, `detail` its sentence with the cure; `found` is
    what the operation gives, as its family tells it on the wire.
    """

    op: BackupOp
    ok: bool
    duration_ms: int
    error: str | None = None
    detail: str | None = None
    found: dict[str, Any] = {}
