"""What may befall a backup beside kills and lost connections. Fault cases H."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.backup_events import progress
from tests.doubles.backup_worker import BackupBench, same
from tests.doubles.ssh_server import SshServer
from tests.facilities import only_if, require, require_root
from workers import backup_state, processes
from workers.messages_backup import BackupStep


@pytest.fixture
def source(tmp_path: Path) -> Path:
    require("rsync")
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "sub" / "b").write_bytes(os.urandom(300_000))
    return folder


@pytest.fixture
def bench(source: Path, tmp_path: Path) -> Iterator[BackupBench]:
    made = BackupBench(source, tmp_path / "dest")
    yield made
    made.close()


def instead_of_rsync(bench: BackupBench, folder: Path, lines: str) -> None:
    """Let a script stand for rsync; `$RSYNC` is the real one."""
    folder.mkdir()
    script = folder / "rsync"
    script.write_text(f"#!/bin/sh\nRSYNC={require('rsync')}\n{lines}\n")
    script.chmod(0o755)
    bench.change(search_path=f"{folder}:{os.environ['PATH']}")


def test_longest_paths_are_copied_verified_and_restored(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    """4,000 characters from the root of the file system on, at the end that has more of them."""
    here, depth = os.getcwd(), 0
    room = 4_000 - len(str(tmp_path / "dest" / "src"))
    os.chdir(source)
    try:
        while room > 2:
            name = "d" * min(250, room - 2)
            os.mkdir(name)
            os.chdir(name)
            room -= len(name) + 1
            depth += 1
        Path("f").write_text("deep")
    finally:
        os.chdir(here)
    assert depth >= 15
    assert bench.well("run")["partial"] is False
    assert bench.well("verify", full=True)["different"] == 0
    assert same(source, tmp_path / "dest" / "src") == []


def test_lists_of_rights_are_copied(bench: BackupBench, source: Path, tmp_path: Path) -> None:
    done = subprocess.run([require("setfacl"), "-m", "u:1:r", str(source / "a")], check=False)
    only_if(done.returncode == 0, "keeps no lists of rights there")
    assert "system.posix_acl_access" in os.listxattr(source / "a")
    bench.well("run")
    assert same(source, tmp_path / "dest" / "src") == []


@pytest.mark.parametrize("place", ["here", "there"])
def test_destination_that_keeps_no_attributes_is_never_partial_for_ever(
    bench: BackupBench, source: Path, tmp_path: Path, place: str
) -> None:
    """Here a probe says it, there the first attempt; what is left out is said in each run."""
    require_root()
    os.setxattr(source / "a", "user.kind", b"x")
    done = subprocess.run([require("setfacl"), "-m", "u:1:r", str(source / "a")], check=False)
    only_if(done.returncode == 0, "keeps no lists of rights there")
    (tmp_path / "plain").mkdir()
    plain = str(tmp_path / "plain")
    done = subprocess.run([require("mount"), "-t", "ramfs", "x", plain], check=False)
    only_if(done.returncode == 0, "mounts nothing")
    server = SshServer(tmp_path / "sshd") if place == "there" else None
    try:
        bench.change(dest_root=f"{plain}/root")
        if server is not None:
            bench.over(server)
        for _ in range(2):
            ran = bench.well("run")
            assert (ran["partial"], ran["errors"], ran["files"]) == (False, [], 2)
            said = [note for note in ran["notes"] if "cannot keep" in note]
            assert said == ["the destination cannot keep ACLs and extended attributes: left out"]
        assert bench.well("verify", full=True)["different"] == 0
    finally:
        if server is not None:
            server.stop()
        subprocess.run(["umount", "-l", plain], check=True)


def test_file_that_may_not_be_changed_is_copied(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    require_root()
    done = subprocess.run(
        [require("chattr"), "+i", str(source / "a")], check=False, capture_output=True
    )
    only_if(done.returncode == 0, "knows no immutable files there")
    try:
        assert bench.well("run")["partial"] is False
        assert bench.well("run")["transferredBytes"] == 0
    finally:
        subprocess.run([require("chattr"), "-i", str(source / "a")], check=True)
    assert same(source, tmp_path / "dest" / "src") == []


def test_other_file_systems_are_left_out_and_told(bench: BackupBench, source: Path) -> None:
    require_root()
    (source / "mounted").mkdir()
    place = str(source / "mounted")
    done = subprocess.run(["mount", "-t", "tmpfs", "x", place], check=False, capture_output=True)
    only_if(done.returncode == 0, "mounts nothing")
    try:
        (source / "mounted" / "inside").write_text("x")
        planned = bench.well("plan")
        assert planned["skipped"] == {"other file system": 1}
        assert planned["skippedNames"] == ["src/mounted"]
        assert planned["totalFiles"] == bench.well("run")["files"] == 2
        assert not (Path(bench.job.dest_root) / "src" / "mounted" / "inside").exists()
    finally:
        subprocess.run(["umount", place], check=True)


def test_file_that_cannot_be_read_makes_it_partial_never_ok_alone(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    """The plan names it, the run tells both counts and the reason."""
    message = 'rsync: [sender] send_files failed to open "/src/a": Permission denied (13)'
    instead_of_rsync(
        bench,
        tmp_path / "bin",
        'case "$*" in *--version*) exec $RSYNC "$@";; esac\n'
        f"$RSYNC --exclude=/a \"$@\"; echo '{message}' >&2; exit 23",
    )
    planned = bench.well("plan")
    assert planned["skipped"] == {"unreadable": 1}
    assert planned["errors"] == [message]
    ran = bench.well("run", total_files=2)
    assert (ran["partial"], ran["errors"], ran["errorCount"]) == (True, [message], 1)
    assert (ran["files"], ran["plannedFiles"]) == (1, 2)


def test_source_that_changed_since_the_plan_is_told_by_both_counts(
    bench: BackupBench, source: Path
) -> None:
    planned = bench.well("plan")
    (source / "later").write_text("more")
    ran = bench.well("run", total_files=planned["totalFiles"], total_bytes=planned["totalBytes"])
    assert (ran["files"], ran["plannedFiles"]) == (3, 2)
    assert ran["bytes"] == planned["totalBytes"] + 4 == ran["plannedBytes"] + 4


@pytest.mark.parametrize("there", ["no-parent/root", "a-file"])
def test_destination_that_cannot_be_made_is_refused(
    bench: BackupBench, tmp_path: Path, there: str
) -> None:
    (tmp_path / "a-file").touch()
    bench.change(dest_root=str(tmp_path / there))
    for op in ("plan", "run"):
        refused = bench.do(op)  # type: ignore[arg-type]
        assert (refused.ok, refused.error) == (False, "bad_dest")
    assert not (tmp_path / "no-parent").exists()


def test_lock_of_a_run_that_died_is_taken_over_and_told(bench: BackupBench) -> None:
    bench.well("run")
    lock = Path(bench.job.dest_root) / ".jackline" / "lock"
    lock.write_text('{"pid": 4242, "startTime": 1, "bootId": "of another boot", "plan": "p"}')
    notes = bench.well("run")["notes"]
    assert any("pid 4242" in note and "taken over" in note for note in notes)
    assert not any("taken over" in note for note in bench.well("run")["notes"])


def test_run_whose_dead_worker_nobody_has_reaped_counts_as_broken_off(
    bench: BackupBench, tmp_path: Path
) -> None:
    """A zombie has its pid and its start time still."""
    bench.well("run")
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    started = processes.start_time(zombie.pid)
    while processes.state(zombie.pid) != "Z":
        time.sleep(0.01)
    left = tmp_path / "dest" / "src" / ".a.aB3xYz"
    left.write_bytes(b"half")
    state = bench.folder / "run.json"
    said = msgspec.json.decode(state.read_bytes())
    said |= {"state": "running", "pid": zombie.pid, "startTime": started}
    state.write_bytes(msgspec.json.encode(said))
    assert backup_state.read(bench.folder)["state"] == "interrupted"
    bench.well("run")
    zombie.wait()
    assert not left.exists()


def test_broken_off_run_sends_again_no_more_than_the_file_in_flight(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    """rsync is killed, and nobody tries again: the next run goes on."""
    size = 1_000_000
    for number in range(10):
        (source / f"f{number}").write_bytes(os.urandom(size))
    bench.change(limit_kib_s=2_500)
    struck: list[BackupStep] = []

    def strike(message: Any) -> None:
        if isinstance(message, BackupStep) and message.files > 3 and not struck:
            struck.append(message)
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                words = path.read_bytes() if path.exists() else b""
                if b"--partial-dir" in words and os.fsencode(tmp_path) in words:
                    os.kill(int(path.parent.name), signal.SIGKILL)

    bench._on_mail = strike  # type: ignore[method-assign]
    broken = bench.do("run", retry_s=0.0)
    assert struck and (broken.ok, broken.error) == (False, "killed")
    copy = Path(bench.job.dest_root) / "src"
    done = sum(path.stat().st_size for path in copy.glob("f?") if path.stat().st_size == size)
    bench.change(limit_kib_s=0)
    ran = bench.well("run")
    assert done >= 2 * size
    assert ran["transferredBytes"] <= 10 * size + 300_001 - done
    assert bench.well("verify", full=True)["different"] == 0


def test_retention_is_shown_before_it_drops_anything(bench: BackupBench, source: Path) -> None:
    bench.change(layout="snapshot")
    names = []
    for number in range(3):
        (source / "a").write_text(f"{number}")
        names.append(bench.well("run")["snapshot"])
    bench.change(retention={"keep_last": 1})
    shown = bench.well("prune", dry_run=True)
    assert (shown["kept"], shown["dropped"]) == (names[2:], names[:2])
    home = Path(bench.job.dest_root) / "src"
    assert all((home / name).exists() for name in names)
    assert bench.well("prune")["dropped"] == names[:2]
    assert [(home / name).exists() for name in names] == [False, False, True]


def test_progress_of_a_name_that_is_no_utf8_carries_its_bytes(
    bench: BackupBench, source: Path
) -> None:
    with open(os.path.join(os.fsencode(source), b"odd\xff\n"), "wb") as file:
        file.write(os.urandom(2_500_000))
    (source / "sub" / "b").unlink()
    bench.change(limit_kib_s=1_000)
    bench.well("run")
    named = [step for step in bench.steps if step.name is not None]
    assert {step.name for step in named} == {b"src/odd\xff\n"}
    event = progress("p", None, named[0])
    assert event.name_b64 is not None
    assert base64.b64decode(event.name_b64) == b"src/odd\xff\n"


@pytest.mark.family("backup")
@pytest.mark.timeout(1800)
def test_plan_of_very_many_files_needs_little_memory_and_goes_on_telling(
    tmp_path: Path, soak: bool
) -> None:
    """1,000,000 files in 100,000 folders in full size: the worker's own peak is 150 MiB at most."""
    require("rsync")
    folders, each = (100_000, 10) if soak else (2_000, 10)
    source = tmp_path / "src"
    for number in range(folders):
        folder = f"{source}/d{number // 1000}/e{number}"
        os.makedirs(folder)
        for name in range(each):
            os.close(os.open(f"{folder}/f{name}", os.O_WRONLY | os.O_CREAT, 0o644))
    bench = BackupBench(source, tmp_path / "dest")
    peaks: list[int] = []
    times: list[float] = []

    def look(message: Any) -> None:
        if isinstance(message, BackupStep):
            times.append(time.monotonic())
        peaks.append(peak_of_worker(bench))

    bench._on_mail = look  # type: ignore[method-assign]
    started = time.monotonic()
    planned = bench.well("plan")
    took = time.monotonic() - started
    print(f"plan of {folders * each} files: {took:.1f} s, worker's peak {max(peaks) >> 10} MiB")
    assert planned["totalFiles"] == folders * each
    assert len(planned["files"]) == 25
    assert len(planned["folders"]) <= 20
    assert len(times) <= took + 1
    assert 0 < max(peaks) <= 150 << 10
    bench.close()


def peak_of_worker(bench: BackupBench) -> int:
    """Return the worker's own peak memory in KiB, as the kernel counted it."""
    state = os.fsencode(bench.root / "state")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
            if b"_worker" in words and state in words:
                status = (path.parent / "status").read_text()
                return int(status.split("VmHWM:")[1].split()[0])
        except (OSError, IndexError):
            continue  # it has just ended
    return 0


def test_restore_writes_into_the_directory_that_was_checked(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    """A link that takes the directory's place between the check and rsync's start leads nowhere."""
    bench.well("run")
    victim = tmp_path / "victim"
    victim.mkdir()
    swap = f"mv {source} {source}.moved && ln -s {victim} {source}"
    looks = "*--version*|*--dry-run*"
    lines = f'case "$*" in {looks}) ;; *) {swap};; esac\nexec $RSYNC "$@"'
    instead_of_rsync(bench, tmp_path / "swapping", lines)
    (source / "a").unlink()
    bench.do("restore")
    assert source.is_symlink() and list(victim.iterdir()) == []
    assert (Path(f"{source}.moved") / "a").exists()
