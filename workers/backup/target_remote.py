"""A destination root on another host, reached by ssh. See `workers.backup.target`.

Its shell is given scripts of ours in which every path is quoted. An account that runs nothing but
rsync is used without: then nothing is known of the other end, and snapshots are refused there.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from workers import policy_roots
from workers.backup import argv, layout, outcomes, versions
from workers.backup.layout import LATEST
from workers.backup.outcomes import Words
from workers.backup.steps import Job
from workers.backup.target import MARKER, TEMPORARY, Look, own
from workers.backup.tools import Tools
from workers.errors import BackupError
from workers.messages_backup import BackupJob

_LOOK = """\
d={root}
rsync --version 2>/dev/null | head -n 30
printf '\\n@facts\\n'
echo "clock=$(date +%s)"
if [ -d "$d" ]; then echo exists
[ -e "$d/{own}/{marker}" ] && echo marked
[ -z "$(ls -A "$d" 2>/dev/null | head -n 1)" ] && echo empty
elif [ -e "$d" ]; then echo blocked
elif [ ! -d {parent} ]; then echo orphan
fi
"""
_NAMES_AT_ONCE = 100
_SSH_FAILED = 255  # also told when the program at the other end was killed
_LIST = "printf '@list\\n'; ls -1 {place} 2>/dev/null\n"


class RemoteTarget:
    """See the module."""

    def __init__(self, job: BackupJob, locks: Path, tools: Tools) -> None:
        assert job.host is not None
        self._job = job
        self._host = job.host
        self._locks = locks
        self._tools = tools
        self.root = job.dest_root
        self._has_shell = False
        # By text: where a link leads there is the other host's own affair.
        is_held = (
            any(policy_roots.is_under(self.root, root) for root in side) for side in job.dest_roots
        )
        if not all(is_held):
            raise BackupError("policy_denied", f"{self.root} is outside backup.allowedDestRoots")

    def look(self, names: Sequence[str]) -> Job[Look]:
        script = _LOOK.format(
            root=shlex.quote(self.root),
            own=os.path.basename(own(self.root)),
            marker=MARKER,
            parent=shlex.quote(os.path.dirname(self.root)),
        )
        script += "".join(_LIST.format(place=self._quoted(name)) for name in names) + "exit 0\n"
        code, output, words = yield from self._tools.remote(script)
        text = output.decode("utf-8", "replace")
        if code == _SSH_FAILED or code < 0:
            raise _refusal(code, words)
        if code != 0 or "\n@facts\n" not in text:
            return _unknown(self._job.layout)
        self._has_shell = True
        version, _, rest = text.partition("\n@facts\n")
        facts, *lists = rest.split("@list\n")
        found = set(facts.split())
        if versions.parse(version) == versions.UNKNOWN:
            raise BackupError("no_rsync", f"{self._host} has no rsync: install it there")
        if "blocked" in found:
            raise BackupError("bad_dest", f"{self.root} is no directory on {self._host}")
        if "orphan" in found:
            raise BackupError("bad_dest", f"{os.path.dirname(self.root)} does not exist there")
        return Look(
            exists="exists" in found,
            is_fresh="exists" not in found or "empty" in found,
            is_marked="marked" in found,
            version=versions.parse(version),
            clock_s=_clock_s(found),
            snapshots={
                name: layout.snapshots(listed.splitlines())
                for name, listed in zip(names, lists, strict=False)
            },
        )

    def prepare(self, look: Look, places: Sequence[str]) -> Job[None]:
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What is there needs no second connection: rsync makes a mirror's directory itself.
        is_there = look.exists and not look.is_fresh and self._job.layout == "mirror"
        if look.version is versions.UNKNOWN or is_there:
            return
        paths = [shlex.quote(own(self.root)), *map(self._quoted, places)]
        script = f"umask 077; mkdir -p {paths[0]} || exit 3; umask 022\n"
        if look.is_fresh:
            script += f": > {paths[0]}/{MARKER}\n"
        if places:
            script += f"mkdir -p {' '.join(paths[1:])}\n"
        yield from self._do(script)

    def publish(self, name: str, old: str, new: str) -> Job[None]:
        home = self._quoted(name)
        made, final = shlex.quote(old), shlex.quote(new)
        script = (
            f"cd {home} && {{ [ -d {final} ] || mv {made} {final}; }} && rm -f .{LATEST} && "
            f"ln -s {final} .{LATEST} && {{ mv -fT .{LATEST} {LATEST} 2>/dev/null || "
            f"{{ rm -f {LATEST}; mv -f .{LATEST} {LATEST}; }}; }}\n"
        )
        yield from self._do(script)

    def remove(self, places: Sequence[str]) -> Job[None]:
        if places:
            yield from self._do(f"rm -rf -- {' '.join(map(self._quoted, places))}\n")

    def temporaries(self, place: str, since_s: float) -> Job[list[bytes]]:
        if not self._has_shell:
            return []
        script = (
            f"cd {self._quoted(place)} && "
            f"find . -type f -name {shlex.quote(TEMPORARY)} -newerct @{int(since_s)} -print0\n"
        )
        code, output, _ = yield from self._tools.remote(script)
        return [each[2:] for each in output.split(b"\0")[:-1]] if code == 0 else []

    def unlink(self, place: str, names: Sequence[bytes]) -> Job[None]:
        for at in range(0, len(names), _NAMES_AT_ONCE):
            listed = " ".join(
                shlex.quote("./" + os.fsdecode(name)) for name in names[at : at + _NAMES_AT_ONCE]
            )
            yield from self._do(f"cd {self._quoted(place)} && rm -f -- {listed}\n")

    def argument(self, place: str) -> str:
        return argv.remote(self._host, f"{self.root}/{place}/")

    def path(self, place: str) -> str:
        return f"{self.root}/{place}"

    def lock_file(self) -> Path:
        import hashlib  # it brings OpenSSL; a local copy does without

        target = f"{self._job.user or ''}@{self._host}:{self._job.port or 22}:{self.root}"
        return self._locks / hashlib.sha256(target.encode()).hexdigest()[:32]

    def _quoted(self, place: str) -> str:
        return shlex.quote(f"{self.root}/{place}")

    def _do(self, script: str) -> Job[None]:
        code, _, words = yield from self._tools.remote(script)
        if code == 0:
            return
        if code == _SSH_FAILED or code < 0 or re.search("No space left|Disk quota", words.text):
            raise _refusal(code, words)
        raise BackupError("bad_dest", f"{self._host}: {words.text[:200] or f'code {code}'}")


def _refusal(code: int, words: Words) -> BackupError:
    outcome = outcomes.judge(code, words)
    return BackupError(outcome.error or "ssh", outcome.sentence)


def _clock_s(facts: set[str]) -> float:
    said = next((each[6:] for each in facts if each.startswith("clock=")), "")
    return float(said) if said.isdecimal() else 0.0


def _unknown(wanted: str) -> Look:
    if wanted == "snapshot":
        raise BackupError(
            "bad_dest", "that account runs no commands of ours, which snapshots need: use mirror"
        )
    note = "that account runs rsync alone: ACLs, attributes and hard links are not copied"
    return Look(
        exists=True, is_fresh=False, is_marked=False, version=versions.UNKNOWN, notes=(note,)
    )
