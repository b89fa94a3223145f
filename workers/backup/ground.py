"""What every step of a backup stands on: open sources, programs, the target, what both ends can do.

Rules: what was opened is closed (`close`); the sentences in `notes` are told with the result.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from workers import backup_request, backup_state
from workers.backup import argv, globs, sources, versions
from workers.backup.argv import NOTHING, Features, Transfer
from workers.backup.itemize import Batch, Lines
from workers.backup.outcomes import Words
from workers.backup.sources import Source
from workers.backup.steps import Job
from workers.backup.target import Look, Target
from workers.backup.target_local import LocalTarget
from workers.backup.target_remote import RemoteTarget
from workers.backup.tools import Tools
from workers.backup.versions import UNKNOWN, Version
from workers.backup_request import Request
from workers.messages_backup import BackupJob, BackupSpec

FILTERS = "filters"
BatchTaker = Callable[[Batch], object]
PLAIN = "no-attributes"  # there once the destination has refused ACLs or attributes


class Ground(msgspec.Struct):
    """See the module. `folder`: the plan's own in the state directory."""

    spec: BackupSpec
    tools: Tools
    folder: Path
    sources: list[Source] = []
    notes: list[str] = []
    version: Version = UNKNOWN
    features: Features = NOTHING
    _target: Target | None = None
    _look: Look | None = None

    @property
    def job(self) -> BackupJob:
        return self.spec.job

    @property
    def target(self) -> Target:
        assert self._target is not None
        return self._target

    @property
    def look(self) -> Look:
        assert self._look is not None
        return self._look

    @property
    def names(self) -> list[str]:
        return [backup_request.name_of(each) for each in self.job.sources]

    def check(self) -> None:
        """Refuse what can be refused by its text alone; raises BackupError."""
        backup_request.check(
            Request(
                sources=tuple(self.job.sources),
                dest_root=self.job.dest_root,
                host=self.job.host,
                user=self.job.user,
                port=self.job.port,
            )
        )

    def open_sources(self) -> None:
        """Open every source; raises BackupError."""
        for path in self.job.sources:
            opened = sources.open_directory(path, self.job.source_roots, "bad_source")
            self.sources.append(opened)

    def meet_target(self) -> None:
        """Know the target; nothing is looked up on another host yet."""
        if self.job.host is None:
            self._target = LocalTarget(self.job, self.sources, self.tools)
        else:
            self._target = RemoteTarget(self.job, self.folder.parent / "locks", self.tools)

    def survey(self, names: Sequence[str]) -> Job[None]:
        """Find out what both ends can do and what is at the target; raises BackupError."""
        self.version = yield from self.tools.local_version()
        self._look = yield from self.target.look(names)
        there = self.look.version
        self.features = argv.common(self.version, there)
        self.notes.extend(self.look.notes)
        warning = versions.warning(self.version, there)
        if warning:
            package = yield from self.tools.package_version()
            self.version = msgspec.structs.replace(self.version, package=package)
            self.notes.append(f"{warning} (package {package or 'unknown'})")
        self._drop_attributes()

    def learn_plain(self) -> None:
        """The destination refuses ACLs or attributes: leave them out from now on."""
        (self.folder / PLAIN).touch(mode=0o600)
        self._drop_attributes()

    def _drop_attributes(self) -> None:
        plain = (self.folder / PLAIN).exists()
        acls = self.features.acls and self.look.acls and not plain
        xattrs = self.features.xattrs and self.look.xattrs and not plain
        lost = [
            name
            for name, has, had in (
                ("ACLs", acls, self.features.acls),
                ("extended attributes", xattrs, self.features.xattrs),
            )
            if had and not has
        ]
        if lost:
            self.notes.append(f"the destination cannot keep {' and '.join(lost)}: left out")
        self.features = msgspec.structs.replace(self.features, acls=acls, xattrs=xattrs)

    def drop_unfinished(self) -> Job[None]:
        """Make room: the disk was full, so what was broken off is not worth its space."""
        known = self.look.snapshots
        places = [f"{n}/{s.name}" for n, found in known.items() for s in found if not s.is_finished]
        for name, found in known.items():
            known[name] = [each for each in found if each.is_finished]
        yield from self.target.remove(places)

    def may_delete(self) -> bool:
        """Deletions: only where the owner's configuration says so, below our marker."""
        if not self.job.delete or self.job.layout != "mirror":
            return False
        if not self.look.is_marked and not self.look.is_fresh:
            self.notes.append(
                "nothing is deleted: the destination root lacks our marker; make "
                f"{self.job.dest_root}/{backup_request.OWN_NAME}/marker to allow it"
            )
            return False
        return True

    def filter_file(self, name: str) -> str | None:
        """Write the filter file of a source; raises BackupError `bad_glob`."""
        content = globs.filter_file(self.job.globs, name)
        if not content:
            return None
        folder = self.folder / FILTERS
        folder.mkdir(mode=0o700, exist_ok=True)
        index = self.names.index(name) if name in self.names else len(self.names)
        path = folder / str(index)
        backup_state.write_private(path, content)
        return str(path)

    def rsync(
        self, transfer: Transfer, on_batch: BatchTaker, *, dry_run: bool, unsaid: str = ""
    ) -> Job[tuple[int, Words]]:
        """Run one rsync in the present working directory; return its code and last words.

        Args:
            unsaid: of `Words`.
        """
        words = argv.rsync_argv(
            self.tools.need_rsync(),
            self.job,
            self.features,
            transfer,
            self.tools.ssh(),
            dry_run=dry_run,
        )
        lines, said = Lines(), Words(unsaid=unsaid)

        def take(chunk: bytes) -> None:
            on_batch(lines.feed(chunk))

        code: int = yield self.tools.start(words, take, said.feed)
        on_batch(lines.end())
        said.end()
        return code, said

    def close(self) -> None:
        """Close what was opened."""
        self.tools.close()
        for source in self.sources:
            source.close()
