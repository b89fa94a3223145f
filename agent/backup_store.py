"""The plans that were made, in the state directory's `backups/`, one folder each.

A plan is what was asked for, normalised, and what was found; its folder also holds the manifests
and the state of its runs, which the worker writes. Ids are hashed for file names. A plan that was
neither run nor used for 30 days is dropped; one that has a copy is kept, for the copy's sake.
Rules: `save` is fsynced and replaces by rename; every call touches the disk.
Source: contract 1.5; docs/reference/backup.rst.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from agent.clock import wall_ms
from agent.errors import BackupPlanError
from workers.backup_request import Request

FOLDER = "backups"
PLAN = "plan.json"
KEEP_MS = 30 * 24 * 3600 * 1000
MAX_PLAN_BYTES = 8 << 20
HASH_CHARS = 32

Layout = Literal["mirror", "snapshot"]


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One plan. `found` is what the worker counted."""

    plan_id: str
    source_dirs: list[str]
    dest_root: str
    host: str | None = None
    user: str | None = None
    port: int | None = None
    ignore_globs: list[str] = []
    layout: Layout = "mirror"
    made_ms: int = 0
    found: dict[str, Any] = {}

    def request(self) -> Request:
        """Return what it was asked for."""
        return Request(
            sources=tuple(self.source_dirs),
            dest_root=self.dest_root,
            host=self.host,
            user=self.user,
            port=self.port,
            globs=tuple(self.ignore_globs),
        )


def plan_of(plan_id: str, request: Request, layout: Layout) -> Plan:
    """Return a plan that was asked for and not made yet."""
    return Plan(
        plan_id=plan_id,
        source_dirs=list(request.sources),
        dest_root=request.dest_root,
        host=request.host,
        user=request.user,
        port=request.port,
        ignore_globs=list(request.globs),
        layout=layout,
        made_ms=wall_ms(),
    )


class Store:
    """See the module."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir / FOLDER

    def folder(self, plan_id: str) -> Path:
        """Return a plan's own folder; it need not exist."""
        return (
            self.root
            / hashlib.sha256(plan_id.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARS]
        )

    def save(self, plan: Plan) -> None:
        """Keep a plan for good.

        Raises:
            OSError: the disk refuses.
        """
        folder = self.folder(plan.plan_id)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / PLAN, msgspec.json.encode(plan))
        _sync(folder)
        _sync(self.root)

    def load(self, plan_id: str) -> Plan:
        """Return a plan.

        Raises:
            BackupPlanError: there is none, or it cannot be read.
        """
        try:
            fd = os.open(self.folder(plan_id) / PLAN, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError as e:
            raise BackupPlanError(f"there is no plan {plan_id!r}: make it again") from e
        with os.fdopen(fd, "rb") as file:
            plan = _decoded(file.read(MAX_PLAN_BYTES))
        if plan is None or plan.plan_id != plan_id:
            raise BackupPlanError(f"the plan {plan_id!r} cannot be read: make it again")
        return plan

    def plans(self) -> list[Plan]:
        """Return every plan that can be read, oldest first."""
        found = []
        for path in self.root.glob(f"*/{PLAN}"):
            with contextlib.suppress(OSError):
                plan = _decoded(path.read_bytes())
                if plan is not None:
                    found.append(plan)
        return sorted(found, key=lambda plan: plan.made_ms)

    def drop_old(self, keep: set[str], now_ms: int) -> int:
        """Drop plans that nobody has used for 30 days; return how many.

        Args:
            keep: ids of plans that are in use (a schedule's, a running one's).
        """
        old = [
            self.folder(plan.plan_id)
            for plan in self.plans()
            if plan.plan_id not in keep and now_ms - plan.made_ms >= KEEP_MS
        ]
        old += [each for each in self._without_plan() if now_ms - _changed_ms(each) >= KEEP_MS]
        unused = [folder for folder in old if not _has_copy(folder)]
        for folder in unused:
            import shutil  # it brings every compressor; seldom needed

            shutil.rmtree(folder, ignore_errors=True)
        return len(unused)

    def _without_plan(self) -> list[Path]:
        """Return the folders of plans that could not be made."""
        folders = [each for each in self.root.glob("?" * HASH_CHARS) if each.is_dir()]
        return [each for each in folders if not (each / PLAN).exists()]


def _changed_ms(folder: Path) -> float:
    try:
        return folder.stat().st_mtime * 1000
    except OSError:
        return math.inf


def _has_copy(folder: Path) -> bool:
    manifests = folder / "manifests"
    return manifests.is_dir() and any(manifests.iterdir())


def _decoded(data: bytes) -> Plan | None:
    try:
        return msgspec.json.decode(data, type=Plan)
    except msgspec.MsgspecError:
        return None


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(fresh, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, path)


def _sync(folder: Path) -> None:
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
