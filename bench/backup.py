"""`python -m bench.backup`: a backup beside rsync with the same flags, and beside other tools.

Interleaved rounds, medians; ours is the whole of a step, from starting its worker to its result.
Bare rsync gets the very argument list that a plan or a run uses, output to a file. Rules: nothing
outlives the bench; what is not installed is left out of the table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.doubles.backup_worker import BackupBench
from tests.doubles.ssh_server import SshServer
from workers.backup import argv, versions
from workers.backup.argv import Transfer
from workers.messages import ToAgent

PLAN_FILES = 200_000
SMALL_FILES = 20_000
LARGE_BYTES = 1 << 30
ENV = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}

Measure = Callable[[], float]


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
    found = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True)
    features = argv.common(versions.parse(found.stdout), None)
    ssh: list[str] = []
    if bench.job.host:
        ssh = argv.ssh_argv("/usr/bin/ssh", bench.job, [bench.job.known_hosts_file or ""])
        dest = argv.remote(bench.job.host, dest)
    transfer = Transfer("./", dest)
    return argv.rsync_argv("rsync", bench.job, features, transfer, ssh, dry_run=dry_run)


def timed(words: list[str], cwd: Path) -> float:
    """Run a program with its output in a file and a worker's priority; return its seconds."""
    with tempfile.TemporaryFile() as out:
        started = time.monotonic()
        subprocess.run(["nice", "-n", "5", *words], cwd=cwd, env=ENV, stdout=out, check=True)
        return time.monotonic() - started


def ours(bench: BackupBench, op: Any) -> float:
    """Perform a step; return its seconds."""
    started = time.monotonic()
    bench.well(op)
    return time.monotonic() - started


def rounds(count: int, measures: dict[str, Measure]) -> dict[str, float]:
    """Return medians of interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    order = list(measures)
    for number in range(count):
        turned = order[number % len(order) :] + order[: number % len(order)]
        for name in turned:
            taken[name].append(measures[name]())
    for name, values in taken.items():
        spread = f"{min(values):.2f}–{max(values):.2f}"
        print(f"  {name:<28} {statistics.median(values):7.2f} s  ({spread})", flush=True)
    return {name: statistics.median(values) for name, values in taken.items()}


def plan_figure(place: Path, count: int, files: int, server: SshServer | None) -> dict[str, float]:
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
            "bare dry run": lambda: timed(bare(bench, f"{dest}/plan-src/", dry_run=True), source),
            "jackline": lambda: ours(bench, "plan"),
        },
    )
    bench.close()
    return found


def copy_figure(place: Path, count: int, small: int, large: int, server: SshServer | None) -> Any:
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

    measures: dict[str, Measure] = {
        "rsync, same flags": first_bare,
        "jackline": lambda: ours(fresh(), "run"),
    }
    if server is None:
        measures["rsync -a"] = first_other("rsync", "-a", "./", "{dest}/x/")
        measures["cp -a"] = first_other("cp", "-a", ".", "{dest}/x")
        measures["tar"] = first_other("tar", "-cf", "{dest}/x.tar", ".")
    print(f"first backup, {small} small files + {large >> 20} MiB, {'ssh' if server else 'local'}")
    first = rounds(count, measures)
    bench = fresh()
    bench.well("run")
    print("the same again")
    again = rounds(
        count,
        {
            "rsync, same flags": lambda: timed(
                bare(bench, f"{dest}/copy-src/", dry_run=False), source
            ),
            "jackline": lambda: ours(bench, "run"),
        },
    )
    for each in benches:
        each.close()
    return {"first": first, "again": again}


def gap_figure(place: Path) -> float:
    """Return the largest gap between progress events while reads stall for ten seconds."""
    source = place / "gap-src"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(1 << 20))
    folder = place / "bin"
    folder.mkdir()
    real = shutil.which("rsync")
    (folder / "rsync").write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) ;; *) sleep 10;; esac\nexec {real} "$@"\n'
    )
    (folder / "rsync").chmod(0o755)
    bench = BackupBench(source, place / "gap-dest", search_path=f"{folder}:{os.environ['PATH']}")
    times: list[float] = []

    def note(_message: ToAgent) -> None:
        times.append(time.monotonic())

    bench._on_mail = note  # type: ignore[method-assign,assignment]
    bench.well("run")
    bench.close()
    return max(b - a for a, b in itertools.pairwise(times))


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
    parser.add_argument("figures", nargs="*", help="plan plan-ssh copy copy-ssh gap memory")
    options = parser.parse_args(words)
    wanted = set(options.figures) or {"plan", "plan-ssh", "copy", "copy-ssh", "gap", "memory"}
    place = Path(tempfile.mkdtemp(prefix="bench-backup-", dir=options.directory))
    server = SshServer(place / "sshd") if {"plan-ssh", "copy-ssh"} & wanted else None
    scale = options.scale
    results: dict[str, Any] = {}
    small, large = int(SMALL_FILES * scale), int(LARGE_BYTES * scale)
    try:
        for name, there in (("plan", None), ("plan-ssh", server)):
            if name in wanted:
                files = int(PLAN_FILES * scale)
                results[name] = plan_figure(place, options.rounds, files, there)
        for name, there in (("copy", None), ("copy-ssh", server)):
            if name in wanted:
                results[name] = copy_figure(place, options.rounds, small, large, there)
        if "gap" in wanted:
            results["gap"] = gap_figure(place)
            print(f"largest gap between progress events  {results['gap']:.2f} s")
        if "memory" in wanted:
            results["memory"] = memory_figure(place, int(1_000_000 * scale))
            print(f"peak memory of a plan's worker  {results['memory']:.0f} MiB")
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
