"""`python -m bench.backup`: a backup beside rsync with the same flags, and beside other tools.

Interleaved rounds, medians; ours is the whole of a step, from starting its worker to its result.
Bare rsync gets the very argument list that a plan or a run uses, output to a file. Rules: nothing
outlives the bench; what is not installed is left out of the table (Debian: `apt-get install restic
borgbackup`); `--write` puts the table into docs/benchmarks.rst.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench import table
from tests.doubles.backup_worker import BackupBench
from tests.doubles.ssh_server import SshServer
from workers.backup import argv, versions
from workers.backup.argv import Transfer
from workers.messages import ToAgent
from workers.messages_backup import BackupStep

PLAN_FILES = 200_000
SMALL_FILES = 20_000
LARGE_BYTES = 1 << 30
NAMES = ("plan", "plan-ssh", "copy", "copy-ssh", "gap", "memory")
BEGIN = ".. the table of the last backups: python -m bench.backup --write writes it"
END = ".. end of the table of backups"
STALL_S = 10.0
ENV = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}

Measure = Callable[[], float]
Figure = dict[str, list[float]]  # seconds of each round, by who took them
BARE, JACKLINE = "rsync, same flags", "Jackline"


def make_tree(root: Path, files: int, size: int, large_bytes: int = 0) -> None:
    """Fill a directory, 100 files to a folder."""
    block = os.urandom(size + files)
    for number in range(files):
        folder = root / f"d{number // 10_000}" / f"e{number // 100}"
        if number % 100 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(block[number : number + size])
    for number in range(4 if large_bytes else 0):
        with (root / f"large{number}").open("wb") as file:
            for _ in range(large_bytes // 4 >> 20):
                file.write(os.urandom(1 << 20))


def bare(bench: BackupBench, dest: str, *, dry_run: bool) -> list[str]:
    """Return the argument list of a plan or a run, for rsync alone."""
    features = argv.common(versions.parse(_rsync_said()), None)
    ssh: list[str] = []
    if bench.job.host:
        ssh = argv.ssh_argv("/usr/bin/ssh", bench.job, [bench.job.known_hosts_file or ""])
        dest = argv.remote(bench.job.host, dest)
    transfer = Transfer("./", dest)
    return argv.rsync_argv("rsync", bench.job, features, transfer, ssh, dry_run=dry_run)


def timed(words: list[str], cwd: Path, env: dict[str, str] = ENV) -> float:
    """Run a program with its output in a file and a worker's priority; return its seconds."""
    with tempfile.TemporaryFile() as out:
        started = time.monotonic()
        subprocess.run(
            ["ionice", "-c2", "-n7", "nice", "-n", "5", *words],
            cwd=cwd,
            env=env,
            stdout=out,
            check=True,
        )
        return time.monotonic() - started


def ours(bench: BackupBench, op: Any) -> float:
    """Perform a step; return its seconds."""
    started = time.monotonic()
    bench.well(op)
    return time.monotonic() - started


def rounds(count: int, measures: dict[str, Measure]) -> Figure:
    """Return what interleaved rounds took."""
    taken: Figure = {name: [] for name in measures}
    order = list(measures)
    for number in range(count):
        turned = order[number % len(order) :] + order[: number % len(order)]
        for name in turned:
            taken[name].append(measures[name]())
    for name, values in taken.items():
        spread = f"{min(values):.2f}–{max(values):.2f}"
        print(f"  {name:<28} {statistics.median(values):7.2f} s  ({spread})", flush=True)
    return taken


def plan_figure(place: Path, count: int, files: int, server: SshServer | None) -> Figure:
    """A plan beside its bare dry run."""
    source, dest = place / "plan-src", place / "plan-dest"
    if not source.exists():
        make_tree(source, files, 64)
    bench = BackupBench(source, dest)
    if server is not None:
        bench.over(server)
    print(f"plan of {files} files, {'over ssh' if server else 'local'}")
    found = rounds(
        count,
        {
            BARE: lambda: timed(bare(bench, f"{dest}/plan-src/", dry_run=True), source),
            JACKLINE: lambda: ours(bench, "plan"),
        },
    )
    bench.close()
    return found


def copy_figure(
    place: Path, count: int, small: int, large: int, server: SshServer | None
) -> tuple[Figure, Figure]:
    """A first backup and one with nothing changed, beside rsync and others."""
    source = place / "copy-src"
    if not source.exists():
        make_tree(source, small, 4_096, large)
    dest = place / "copy-dest"
    benches: list[BackupBench] = []

    def fresh() -> BackupBench:
        shutil.rmtree(dest, ignore_errors=True)
        dest.mkdir()
        bench = BackupBench(source, dest)
        benches.append(bench)
        return bench if server is None else bench.over(server)

    def first_bare() -> float:
        return timed(bare(fresh(), f"{dest}/copy-src/", dry_run=False), source)

    def first_other(*words: str) -> Measure:
        def measure() -> float:
            fresh()
            return timed([word.format(dest=dest) for word in words], source)

        return measure

    others = {} if server else _others(place)
    measures: dict[str, Measure] = {
        BARE: first_bare,
        JACKLINE: lambda: ours(fresh(), "run"),
    }
    if server is None:
        measures["rsync -a"] = first_other("rsync", "-a", "./", "{dest}/x/")
        measures["cp -a"] = first_other("cp", "-a", ".", "{dest}/x")
        measures["tar"] = first_other("tar", "-cf", "{dest}/x.tar", ".")
        for name, other in others.items():
            measures[name] = partial(other.first, source)
    print(f"first backup, {small} small files + {large >> 20} MiB, {'ssh' if server else 'local'}")
    first = rounds(count, measures)
    bench = fresh()
    bench.well("run")
    print("the same again")
    again_measures: dict[str, Measure] = {
        BARE: lambda: timed(bare(bench, f"{dest}/copy-src/", dry_run=False), source),
        JACKLINE: lambda: ours(bench, "run"),
    }
    for name, other in others.items():
        other.first(source)
        again_measures[name] = partial(other.again, source)
    again = rounds(count, again_measures)
    for each in benches:
        each.close()
    return first, again


class Other:
    """Another backup program with a repository of its own; its files stay in `home`."""

    def __init__(self, home: Path, make: list[str], back_up: list[str]) -> None:
        self._home, self._make, self._back_up = home, make, back_up
        self._number = itertools.count()

    def first(self, source: Path) -> float:
        """Back up to a new repository, made beforehand."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir()
        subprocess.run(self._words(self._make), env=self._env(), check=True, capture_output=True)
        return self.again(source)

    def again(self, source: Path) -> float:
        """Back up once more."""
        return timed(self._words(self._back_up), source, self._env())

    def _words(self, words: list[str]) -> list[str]:
        number = next(self._number)
        return [word.format(repo=self._home / "repo", number=number) for word in words]

    def _env(self) -> dict[str, str]:
        keys = {"RESTIC_PASSWORD": "x", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        return {**ENV, **keys, "HOME": str(self._home), "BORG_BASE_DIR": str(self._home)}


def _others(place: Path) -> dict[str, Other]:
    known = {
        "restic": (["init", "-q"], ["backup", "-q", "."]),
        "borg": (["init", "-e", "none", "{repo}"], ["create", "{repo}::{number}", "."]),
    }
    found = {}
    for name, (make, back_up) in known.items():
        program = shutil.which(name)
        if program:
            repo = ["-r", "{repo}"] if name == "restic" else []
            argv = ([program, *repo, *make], [program, *repo, *back_up])
            found[name] = Other(place / name, *argv)
    return found


def gap_figure(place: Path) -> float:
    """Return the largest gap between progress events while a read stands still for ten seconds."""
    source = place / "gap-src"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(8 << 20))
    bench = BackupBench(source, place / "gap-dest", limit_kib_s=2_000)
    times: list[float] = []

    def note(message: ToAgent) -> None:
        if isinstance(message, BackupStep):
            times.append(time.monotonic())
            if len(times) == 1:
                _stand_still(os.fsencode(bench.job.dest_root))

    bench._on_mail = note  # type: ignore[method-assign]
    bench.well("run")
    bench.close()
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) > STALL_S / 2
    return max(gaps)


def _stand_still(mark: bytes) -> None:
    """Stop the rsync whose arguments hold `mark`, and let it go on after a while."""
    pids = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if mark in path.read_bytes() and b"--partial-dir" in path.read_bytes()
    ]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    threading.Timer(STALL_S, go_on).start()


def memory_figure(place: Path, files: int) -> float:
    """Return the peak memory of the worker that plans so many files, in MiB."""
    source = place / "memory-src"
    make_tree(source, files, 0)
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.doubles.desk import DeskDouble\n"
        "from workers.backup.worker import make; import msgspec, resource, pathlib\n"
        "from workers.messages_backup import BackupSpec\n"
        "spec = msgspec.json.decode(sys.stdin.buffer.read(), type=BackupSpec)\n"
        "desk = DeskDouble(); make(desk).on_start(spec); r = desk.result(3600)\n"
        f"assert r.found['totalFiles'] == {files}, r\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    import msgspec

    bench = BackupBench(source, place / "memory-dest")
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=msgspec.json.encode(bench.spec("plan")),
        capture_output=True,
        check=True,
    )
    bench.close()
    shutil.rmtree(source)
    return float(done.stdout)


def main(words: list[str]) -> int:
    """Take the figures that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.backup")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of every size")
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--write", action="store_true", help="the table into docs/benchmarks.rst")
    parser.add_argument("figures", nargs="*", help=" ".join(NAMES))
    options = parser.parse_args(words)
    wanted = set(options.figures) or set(NAMES)
    place = Path(tempfile.mkdtemp(prefix="bench-backup-", dir=options.directory))
    server = SshServer(place / "sshd") if {"plan-ssh", "copy-ssh"} & wanted else None
    rows: list[Row] = []
    try:
        for name in [each for each in NAMES if each in wanted]:
            there = server if name.endswith("-ssh") else None
            rows += _take(name, place, options.rounds, options.scale, there)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(place, ignore_errors=True)
    lines = list(_table(rows, " ".join(["python -m bench.backup", *words])))
    print("\n".join(lines))
    if options.write:
        _write(lines)
    return 0


def _take(name: str, place: Path, count: int, scale: float, server: SshServer | None) -> list[Row]:
    """Take one figure and return its rows of the table."""
    where = "over ssh" if server else "local"
    small, large = int(SMALL_FILES * scale), int(LARGE_BYTES * scale)
    files = int(PLAN_FILES * scale)
    if name.startswith("plan"):
        taken = plan_figure(place, count, files, server)
        return [Row(f"plan of {files:,} files, {where}", taken, 1.3)]
    if name.startswith("copy"):
        first, again = copy_figure(place, count, small, large, server)
        what = f"{small:,} small files + {large >> 20} MiB, {where}"
        return [
            Row(f"first backup, {what}", first, 1.15),
            Row("the same again, nothing changed", again, None, plus_s=0.2),
        ]
    if name == "gap":
        figure = {JACKLINE: [gap_figure(place)]}
        return [Row("largest gap between progress events, a read stalled for 10 s", figure, None)]
    million = int(1_000_000 * scale)
    mebibytes = memory_figure(place, million)
    told = f"plan of {million:,} files: the worker's own peak, {mebibytes:.0f} MiB"
    return [Row(told, {}, None)]


class Row(NamedTuple):
    """One line of the table; a goal is a factor of bare rsync's time, or seconds more than it."""

    title: str
    taken: Figure
    factor: float | None
    plus_s: float | None = None

    def goal(self) -> str:
        """Return the goal and whether it was met."""
        if BARE not in self.taken:
            return ""
        bare_s, ours_s = (statistics.median(self.taken[name]) for name in (BARE, JACKLINE))
        if self.factor is not None:
            limit_s, told = bare_s * self.factor, f"≤ {self.factor}× rsync"
        else:
            limit_s, told = bare_s + (self.plus_s or 0.0), f"≤ rsync + {self.plus_s} s"
        return f"{told}: {'met' if ours_s <= limit_s else '**missed**'} ({ours_s / bare_s:.2f}×)"


def _table(rows: list[Row], command: str) -> Iterator[str]:
    """Yield the table as rst, with the command and the machine above it."""
    version = versions.parse(_rsync_said()).text
    yield f"``{command}`` on {table.machine()}, rsync {version}."
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for cells in (("figure", JACKLINE, BARE, "others", "goal"), *map(_cells, rows)):
        for position, text in enumerate(cells):
            yield f"   {'* -' if position == 0 else '  -'} {text}".rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    taken = dict(row.taken)
    jackline, rsync = (table.cell(taken.pop(name, []), "s") for name in (JACKLINE, BARE))
    others = "; ".join(f"{name} {table.cell(values, 's')}" for name, values in taken.items())
    return row.title, jackline, rsync, others or "–", row.goal()


def _write(lines: list[str]) -> None:
    path = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.rst"
    head, begin, rest = path.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    path.write_text("\n".join([head + begin, "", *lines, "", end]) + tail)


def _rsync_said() -> str:
    return subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
