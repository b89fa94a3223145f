"""The backup worker with a real rsync and a real sshd. Fault cases H."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.backup_worker import BackupBench, same
from tests.doubles.ssh_server import SshServer
from tests.facilities import only_if, require, require_root
from workers import backup_state
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    made = SshServer(tmp_path / "sshd")
    yield made
    made.stop()


def torture(folder: Path, seed: int) -> set[bytes]:
    """Make a tree of everything that file systems allow; return what is never copied."""
    rng = random.Random(seed)
    deep = folder / ("d" * 200) / ("e" * 200) / ("f" * 200)
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")
    names = [
        b"new\nline", b"-dash", b"trailing ", b" leading", b"\\#012", b"\\", b"\xff\xfe",
        b"n" * 255, b"CASE", b"case", b"tab\t", b"*", b"[x]", b"?", b"a => b", b"a -> b", b"%n",
        b"\x01\x7f", "é☃".encode(), b"{a,b}", b"!", b"+ x", b". y", b".jackline-x", b"|pipe|",
    ]  # fmt: skip
    base = os.fsencode(folder)
    for name in names:
        with open(os.path.join(base, name), "wb") as file:
            file.write(rng.randbytes(rng.randrange(5_000)))
    for number in range(40):
        sub = folder / f"s{rng.randrange(6)}" / f"t{rng.randrange(4)}"
        sub.mkdir(parents=True, exist_ok=True)
        (sub / f"f{number}").write_bytes(rng.randbytes(rng.randrange(20_000)))
    (folder / "loop").symlink_to("loop")
    (folder / "shadow").symlink_to("/etc/shadow")
    (folder / "dangling").symlink_to("/no/such")
    os.link(folder / "case", folder / "hard 1")
    os.link(folder / "case", folder / "s0-hard => x")
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 28)
        file.seek(1 << 27)
        file.write(b"middle")
    os.setxattr(folder / "CASE", "user.kind", b"torture")
    os.utime(folder / "case", (4102444800, 4102444800))
    os.utime(folder / "CASE", (-1000000000, -1000000000))
    (folder / "CASE").chmod(0o4711)
    (folder / "empty dir").mkdir()
    special = {b"/fifo", b"/sock"}
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(folder)
        sock.bind("sock")
        os.chdir(here)
    if os.geteuid() == 0:
        os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
        special.add(b"/null")
    return special


@pytest.mark.family("backup")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("layout", ["mirror", "snapshot"])
def test_torture_tree_is_copied_and_restored_byte_for_byte(
    tmp_path: Path, layout: Any, soak: bool
) -> None:
    """20 trees in full size; nothing is left out silently."""
    require("rsync")
    for seed in range(20 if soak else 2):
        place = tmp_path / f"{layout}-{seed}"
        source = place / "src"
        special = torture(source, seed)
        bench = BackupBench(source, place / "dest", layout=layout)
        try:
            planned = bench.well("plan")
            ran = bench.well("run", total_files=planned["totalFiles"])
            assert ran["files"] == planned["totalFiles"]
            assert ran["skipped"] == len(special) == sum(planned["skipped"].values())
            assert ran["errors"] == [] and ran["partial"] is False
            copy = place / "dest" / "src"
            if layout == "snapshot":
                copy = copy / "latest"
                assert not (copy / ".." / "latest").resolve().name.endswith("partial")
            differing = same(source, copy.resolve())
            assert differing == [] or set(differing) <= set(map(repr, special)), differing
            sparse = os.stat(copy / "sparse")
            assert sparse.st_blocks * 512 < 1 << 20
            (source / "s0-more").write_text("more")
            ran = bench.well("run")
            assert ran["transferredBytes"] == 4 and ran["withoutChecksum"] == 0
            verified = bench.well("verify", full=False) if not soak else bench.well("verify")
            assert verified["different"] == 0, verified["differences"]
            back = place / "back"
            bench.well("restore", to=str(back))
            copy = place / "dest" / "src"
            copy = (copy / "latest").resolve() if layout == "snapshot" else copy
            assert same(copy, back / "src") == []
        finally:
            bench.close()
            shutil.rmtree(place)


def test_plan_counts_what_the_run_then_copies(bench: BackupBench, source: Path) -> None:
    (source / "skip.tmp").write_text("x")
    bench.change(globs=["*.tmp", "src/sub/**"])
    planned = bench.well("plan")
    assert (planned["totalFiles"], planned["new"], planned["files"]) == (1, 1, ["src/a"])
    assert not Path(bench.job.dest_root).exists()
    assert bench.well("run")["files"] == 1
    (source / "a").write_text("changed")
    planned = bench.well("plan")
    assert (planned["changed"], planned["modifies"]) == (1, ["src/a"])


def test_walk_without_rsync_counts_the_same_and_a_run_is_refused(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    torture(source, 7)
    bench.change(globs=["s?/**", "*.tmp", "[!a-z]*"])
    counted = bench.well("plan")
    bench.change(search_path=str(tmp_path / "nothing"))
    walked = bench.well("plan")
    for figure in ("totalFiles", "totalBytes", "skipped"):
        assert walked[figure] == counted[figure], figure
    assert walked["rsync"] is None
    refused = bench.do("run")
    assert (refused.ok, refused.error) == (False, "no_rsync")
    assert "install" in (refused.detail or "")


def test_second_run_carries_checksums_over_and_reads_nothing_twice(bench: BackupBench) -> None:
    first = bench.well("run")
    assert first["withoutChecksum"] == 0
    second = bench.well("run")
    assert (second["transferredBytes"], second["withoutChecksum"]) == (0, 0)
    assert bench.well("verify", full=True)["different"] == 0


def test_verify_names_what_differs(bench: BackupBench, source: Path) -> None:
    (source / "link").symlink_to("a")
    (source / "gone").write_text("gone")
    bench.well("run")
    copy = Path(bench.job.dest_root) / "src"
    status = (copy / "sub" / "b").stat()
    with (copy / "sub" / "b").open("r+b") as file:
        file.seek(100)
        file.write(b"flip")
    os.utime(copy / "sub" / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    (copy / "a").chmod(0o600)
    (copy / "gone").unlink()
    found = bench.well("verify", full=True)
    assert {each["path"]: each["what"] for each in found["differences"]} == {
        "src/sub/b": "checksum",
        "src/a": "mode",
        "src/gone": "missing",
    }


def test_deletions_need_the_configuration_and_our_marker(bench: BackupBench, source: Path) -> None:
    dest = Path(bench.job.dest_root)
    (dest / "src").mkdir(parents=True)
    (dest / "src" / "old").write_text("somebody's")
    bench.change(delete=True)
    assert bench.well("plan")["deleted"] == 0
    notes = bench.well("run")["notes"]
    assert any("marker" in note for note in notes)
    assert (dest / "src" / "old").exists()
    (dest / ".jackline" / "marker").touch()
    assert bench.well("plan")["deletes"] == ["src/old"]
    bench.well("run")
    assert not (dest / "src" / "old").exists()
    (dest / "src" / "later").touch()
    bench.change(delete=False)
    bench.well("run")
    assert (dest / "src" / "later").exists()


def test_snapshots_share_what_did_not_change_and_retention_drops_the_rest(
    bench: BackupBench, source: Path
) -> None:
    bench.change(layout="snapshot", retention={"keep_last": 2})
    names = []
    for number in range(4):
        (source / "a").write_text(f"version {number}")
        ran = bench.well("run")
        names.append(ran["snapshot"])
    assert ran["pruned"]["dropped"] == [names[1]]
    home = Path(bench.job.dest_root) / "src"
    assert sorted(os.listdir(home)) == [*names[2:], "latest"]
    assert os.readlink(home / "latest") == names[3]
    assert (home / names[2] / "sub" / "b").samefile(home / names[3] / "sub" / "b")
    assert (home / names[2] / "a").read_text() == "version 2"
    for name in names[2:]:
        assert bench.well("verify", full=True, snapshot=name)["different"] == 0
    (home / "999999-29990101T000000Z").mkdir()
    refused = bench.do("prune", dry_run=True)
    assert (refused.ok, refused.error) == (False, "clock")


def test_resumed_snapshot_never_touches_an_earlier_one(bench: BackupBench, source: Path) -> None:
    """A broken-off snapshot shares files with the one before; a new mode must not reach that."""
    bench.change(layout="snapshot")
    first = bench.well("run")["snapshot"]
    home = Path(bench.job.dest_root) / "src"
    broken = home / "000002-20990101T000000Z-unfinished"
    shutil.copytree(home / first, broken, copy_function=os.link)
    (source / "a").chmod(0o600)
    bench.well("run")
    assert (home / first / "a").stat().st_mode & 0o777 == 0o644
    assert not broken.exists()
    assert bench.well("verify", full=True, snapshot=first)["different"] == 0


def test_unreadable_and_vanishing_files_make_it_partial(
    bench: BackupBench, source: Path, server: SshServer
) -> None:
    """A chaos thread changes the source while it is read; nothing leaks through a swapped link."""
    secret = source.parent / "secret"
    secret.write_text("planted canary")
    for number in range(300):
        (source / f"c{number}").write_bytes(os.urandom(20_000))
    stop = threading.Event()

    def chaos() -> None:
        rng = random.Random(1)
        while not stop.is_set():
            path = source / f"c{rng.randrange(300)}"
            what = rng.randrange(4)
            path.unlink(missing_ok=True)
            if what == 1:
                path.symlink_to(secret)
            elif what == 2:
                path.write_bytes(os.urandom(rng.randrange(60_000)))
            elif what == 3:
                path.mkdir(exist_ok=True)
                path.rmdir()

    thread = threading.Thread(target=chaos)
    thread.start()
    try:
        results = [bench.do("run") for _ in range(3)]
    finally:
        stop.set()
        thread.join()
    for result in results:
        assert result.ok, result.detail
        assert bool(result.found["errors"]) is result.found["partial"]
    for path in (Path(bench.job.dest_root) / "src").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"planted canary" not in path.read_bytes()
    assert bench.well("run")["partial"] is False
    assert bench.well("verify", full=True)["different"] == 0


def test_full_destination_is_no_space_and_the_next_run_completes(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    require_root()
    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "x", str(small)], check=False)
    only_if(done.returncode == 0, "mounts nothing")
    try:
        bench.change(dest_root=str(small / "root"), layout="snapshot")
        good = bench.well("run")["snapshot"]
        (source / "big").write_bytes(os.urandom(6_000_000))
        failed = bench.do("run")
        assert (failed.ok, failed.error) == (False, "no_space")
        assert bench.well("verify", full=True, snapshot=good)["different"] == 0
        (source / "big").write_bytes(os.urandom(1_000_000))
        bench.well("run")
        assert bench.well("verify", full=True)["different"] == 0
        assert not [n for n in os.listdir(small / "root" / "src") if "unfinished" in n]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.parametrize("layout", ["mirror", "snapshot"])
def test_copy_over_ssh_is_the_same_as_a_local_one(
    bench: BackupBench, server: SshServer, source: Path, tmp_path: Path, layout: Any
) -> None:
    torture(source, 3)
    bench.over(server).change(layout=layout, dest_root=str(tmp_path / "it's there"))
    planned = bench.well("plan")
    assert planned["rsync"]["remote"]
    assert bench.well("run")["files"] == planned["totalFiles"]
    again = bench.well("plan")
    assert (again["unchanged"], again["errors"]) == (planned["totalFiles"], [])
    assert again["skipped"] == planned["skipped"]
    assert bench.well("run")["transferredBytes"] == 0
    assert bench.well("verify", full=True)["different"] == 0
    assert bench.well("verify")["different"] == 0
    bench.well("restore", to=str(tmp_path / "back"))
    copy = tmp_path / "it's there" / "src"
    copy = (copy / "latest").resolve() if layout == "snapshot" else copy
    assert same(copy, tmp_path / "back" / "src") == []


def test_unknown_or_changed_host_key_is_refused_at_once(
    bench: BackupBench, server: SshServer
) -> None:
    bench.over(server)
    server.trust("other")
    for op in ("plan", "run"):
        refused = bench.do(op)  # type: ignore[arg-type]
        assert (refused.ok, refused.error) == (False, "host_key")
    server.known_hosts.write_text("")
    assert bench.do("plan").error == "host_key"
    assert server.known_hosts.read_text() == ""


def test_lost_connection_is_tried_again_until_it_works(
    bench: BackupBench, server: SshServer, source: Path
) -> None:
    (source / "big").write_bytes(os.urandom(8_000_000))
    bench.over(server).change(limit_kib_s=2_000)

    flaps: list[int] = []

    def flap(message: Any) -> None:
        """The other host goes away, twice, while bytes are on their way."""
        if isinstance(message, BackupStep):
            bench.steps.append(message)
            if message.done_bytes and len(flaps) < 2:
                flaps.append(message.done_bytes)
                server.stop()
                server.start()

    bench._on_mail = flap  # type: ignore[method-assign]
    ran = bench.well("run")
    assert len(flaps) == 2 and ran["attempts"] > 1
    assert bench.well("verify", full=True)["different"] == 0
    percents = [step.percent for step in bench.steps]
    assert percents == sorted(percents)


def test_hostile_rsync_at_the_other_end_is_contained(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    script = tmp_path / "hostile"
    script.write_text(
        '#!/bin/sh\ncase "$SSH_ORIGINAL_COMMAND" in *@facts*) '
        'eval "$SSH_ORIGINAL_COMMAND";; *) head -c 3000000 /dev/urandom;; esac\n'
    )
    script.chmod(0o755)
    server = SshServer(tmp_path / "sshd", force=str(script))
    try:
        bench.over(server)
        for op in ("plan", "run"):
            result = bench.do(op, retry_s=0.0)  # type: ignore[arg-type]
            assert result.ok is False
            assert result.error in (
                "protocol",
                "connection",
                "io_error",
                "rsync_failed",
                "resources",
            )
    finally:
        server.stop()


def test_second_backup_to_one_destination_is_told_who_holds_it(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    other = BackupBench(source, Path(bench.job.dest_root))
    (source / "big").write_bytes(os.urandom(4_000_000))
    bench.change(limit_kib_s=1_000)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(bench.do("run")))
    # Signals can only be set in the main thread: there the second one runs.
    import signal as signals

    original = signals.signal
    signals.signal = lambda *_: None  # type: ignore[assignment]
    try:
        thread.start()
        lock = Path(bench.job.dest_root) / ".jackline" / "lock"
        end = time.monotonic() + 30
        while not (lock.exists() and lock.read_text()):
            assert time.monotonic() < end
            time.sleep(0.01)
        refused = other.do("run")
        thread.join(60)
    finally:
        signals.signal = original  # type: ignore[assignment]
    assert (refused.ok, refused.error) == (False, "already_running")
    assert re.search(r"pid \d+", refused.detail or "")
    assert results[0].ok
    other.close()


def test_commands_and_hooks_of_the_owner_run_without_a_shell(
    bench: BackupBench, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    bench.change(
        commands=[{"file": "db.sql", "argv": ["/bin/echo", "a;b", "$(id)"]}],
        hooks={"after": ["/bin/sh", "-c", f"echo $JACKLINE_BACKUP > {said}"]},
    )
    bench.well("run")
    dump = Path(bench.job.dest_root) / "dumps" / "db.sql"
    assert dump.read_text() == "a;b $(id)\n"
    assert said.read_text() == "complete\n"
    assert bench.well("verify", full=True)["different"] == 0
    assert bench.well("restore", to=str(tmp_path / "back"))["files"] == 3
    assert (tmp_path / "back" / "dumps" / "db.sql").read_text() == "a;b $(id)\n"
    assert bench.well("restore")["unchanged"] == 2  # a dump has no place of its own
    bench.change(hooks={"before": ["/bin/false"]})
    assert bench.do("run").error == "hook_failed"


def test_after_follows_however_a_run_ends_and_before_is_the_first_thing_of_all(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    """A `before` may even make the source, and a run that finds another at work calls neither."""
    said = tmp_path / "said"
    (tmp_path / "away").mkdir()

    def words(what: str) -> list[str]:
        return ["/bin/sh", "-c", f"{what} && echo $JACKLINE_BACKUP >> {said}"]

    source.rename(tmp_path / "away" / "src")
    bench.change(
        hooks={"before": words(f"mv {tmp_path}/away/src {source}"), "after": words("true")}
    )
    bench.well("run")
    assert bench.do("run").error == "hook_failed"  # it is there already
    bench.change(hooks={"before": words("true"), "after": words("exec false")})
    source.rename(tmp_path / "away" / "src")
    missing = bench.do("run")
    assert (missing.error, missing.found["notes"][0][:20]) == ("bad_source", "backup.hooks.after: ")
    assert said.read_text().split("\n") == ["", "complete", "failed", "", ""]
    bench.change(hooks={"before": words("true"), "after": ["no/absolute/program"]})
    assert bench.do("run").error == "bad_hook"
    assert said.read_text().count("\n") == 4


def test_run_that_never_began_to_copy_is_told_as_failed_and_has_broken_nothing_off(
    bench: BackupBench, source: Path
) -> None:
    bench.well("run")
    source.rename(source.with_name("away"))
    assert bench.do("run").error == "bad_source"
    assert backup_state.read(bench.folder)["state"] == "failed"
    source.with_name("away").rename(source)
    assert bench.well("run")["notes"] == []


def test_nobody_else_may_read_what_the_state_directory_keeps(
    bench: BackupBench, tmp_path: Path
) -> None:
    bench.change(globs=["*.tmp"])
    bench.well("run")
    bench.well("restore", paths=["src/a"], to=str(tmp_path / "back"))
    for path in (bench.folder, *bench.folder.rglob("*")):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_plan_names_a_file_that_the_run_could_not_read(bench: BackupBench, source: Path) -> None:
    """A dry run of rsync opens nothing. Root without its capability is anybody else."""
    (source / "sub" / "b").chmod(0o200)
    (source / "a").chmod(0o600)
    setpriv = require("setpriv") if os.geteuid() == 0 else ""
    dropped = [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if setpriv else []
    planned = bench.apart("plan", dropped)
    assert (planned["totalFiles"], planned["skipped"]) == (2, {"unreadable": 1})
    assert planned["errors"] == ["src/sub/b: may not be read"]
    ran = bench.apart("run", dropped)
    assert (ran["files"], ran["partial"], len(ran["errors"])) == (1, True, 1)


def test_backup_lets_others_go_first_at_processor_and_disk(
    bench: BackupBench, tmp_path: Path
) -> None:
    """What its programs inherit is what it has itself."""
    said = tmp_path / "said"
    words = f"{require('ionice')} > {said}; nice >> {said}"
    bench.change(hooks={"before": ["/bin/sh", "-c", words]})
    bench.well("run")
    disk, processor = said.read_text().splitlines()
    assert disk == "best-effort: prio 7"
    assert int(processor) == min(19, os.nice(0) + 5)


def test_restore_over_ssh_brings_the_original_place_back(
    bench: BackupBench, server: SshServer, source: Path
) -> None:
    bench.over(server)
    bench.well("run")
    (source / "a").write_text("damaged")
    shutil.rmtree(source / "sub")
    (source / "new since").write_text("is left alone")
    told = bench.well("restore")
    assert (told["overwrites"], told["new"], told["partial"]) == (1, 1, False)
    assert same(source, Path(bench.job.dest_root) / "src") == [repr(b"/new since")]


def test_progress_has_no_gap_while_a_read_stalls(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    """A stopped rsync reads nothing; the events go on, no closer than a second."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "rsync").write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) ;; *) sleep 5;; esac\nexec {require("rsync")} "$@"\n'
    )
    (folder / "rsync").chmod(0o755)
    bench.change(search_path=f"{folder}:{os.environ['PATH']}")
    times: list[float] = []
    bench._on_mail = lambda message: times.append(time.monotonic())  # type: ignore[method-assign]
    bench.well("run")
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) >= 3
    assert max(gaps) < 20.0  # only *never* is told here; the figure is measured in bench


def test_restore_paths_and_original_place(bench: BackupBench, source: Path) -> None:
    bench.well("run")
    (source / "a").write_text("damaged")
    shutil.rmtree(source / "sub")
    look = bench.well("restore", dry_run=True)
    assert (look["overwrites"], look["overwritten"]) == (1, ["src/a"])
    assert not (source / "sub").exists()
    bench.well("restore", paths=["src/sub"])
    assert (source / "a").read_text() == "damaged"
    bench.well("restore", paths=[f"{source}/a"])
    assert same(source, Path(bench.job.dest_root) / "src") == []
    assert bench.do("restore", paths=["other/x"]).error == "bad_path"
    assert bench.do("restore", paths=["src/x", "src/y"]).error == "unknown_path"
    assert bench.do("ls", paths=["src/x"]).error == "unknown_path"
    some = bench.well("restore", paths=["src/x", "src/a"], to=f"{source}.back")
    assert (some["files"], some["partial"]) == (1, True)
    assert bench.do("restore", to="/etc").error == "bad_dest"
    bench.change(restore_roots=[["/only/here"]])
    assert bench.do("restore", to="/tmp/elsewhere").error == "policy_denied"


def test_roots_hold_after_links_are_resolved(
    bench: BackupBench, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "way-out").symlink_to(source)
    bench.change(
        sources=[str(tmp_path / "allowed" / "way-out")],
        source_roots=[[str(tmp_path / "allowed")]],
    )
    assert bench.do("plan").error == "policy_denied"
    # The hub may only narrow: naming the link itself makes no way out of the owner's directory.
    bench.change(
        source_roots=[[str(tmp_path / "allowed")], [str(tmp_path / "allowed" / "way-out")]]
    )
    assert bench.do("plan").error == "policy_denied"
    bench.change(sources=[str(source)], source_roots=[], dest_roots=[[str(tmp_path / "allowed")]])
    assert bench.do("plan").error == "policy_denied"
    (tmp_path / "sneaky").symlink_to("/etc")
    bench.change(dest_roots=[], dest_root=str(tmp_path / "sneaky"))
    assert bench.do("plan").error == "bad_dest"
    bench.change(dest_root=str(source / "inside"))
    assert bench.do("plan").error == "bad_dest"
