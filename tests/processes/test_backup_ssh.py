"""One login for all that a step does at another host, with a real sshd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.doubles.backup_worker import BackupBench
from tests.doubles.ssh_server import SshServer
from tests.facilities import require
from workers.messages_backup import BackupStep


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[BackupBench]:
    require("rsync")
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "sub" / "b").write_bytes(os.urandom(300_000))
    made = BackupBench(folder, tmp_path / "dest", layout="snapshot")
    yield made
    made.close()


def sockets(bench: BackupBench) -> list[str]:
    return [path.name for path in bench.folder.parent.glob("ssh-*")]


def test_every_step_logs_in_once_and_leaves_no_socket(bench: BackupBench, tmp_path: Path) -> None:
    server = SshServer(tmp_path / "sshd")
    try:
        bench.over(server)
        for number, op in enumerate(("plan", "run", "run", "verify", "restore"), start=1):
            bench.well(op, to=str(tmp_path / "back") if op == "restore" else None)  # type: ignore[arg-type]
            assert server.logins == number, op
            assert sockets(bench) == []
    finally:
        server.stop()


def test_host_that_shares_no_connection_is_logged_in_to_again(
    bench: BackupBench, tmp_path: Path
) -> None:
    server = SshServer(tmp_path / "sshd", more=["MaxSessions 1"])
    try:
        ran = bench.over(server).well("run")
        assert (ran["partial"], ran["errors"]) == (False, [])
        assert bench.well("verify", full=True)["different"] == 0
        assert server.logins > 2
    finally:
        server.stop()


def test_state_directory_too_deep_for_a_socket_does_without_one(tmp_path: Path) -> None:
    require("rsync")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("a")
    bench = BackupBench(tmp_path / "src", tmp_path / "dest")
    server = SshServer(tmp_path / "sshd")
    deep = bench.root / "state" / ("d" * 100)
    deep.mkdir()
    try:
        bench.over(server).change(folder=str(deep / "p"))
        assert bench.well("run")["files"] == 1
        assert server.logins == 3  # looked at, prepared, copied
    finally:
        server.stop()
        bench.close()


def test_broken_connection_is_made_again(bench: BackupBench, tmp_path: Path) -> None:
    """The one that all share dies in the middle of the copy."""
    server = SshServer(tmp_path / "sshd")
    (tmp_path / "src" / "big").write_bytes(os.urandom(6_000_000))
    bench.over(server).change(limit_kib_s=2_000)
    killed: list[int] = []

    def kill(message: object) -> None:
        if isinstance(message, BackupStep) and message.done_bytes and not killed:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_bytes()
                except OSError:
                    continue
                if b"ControlMaster=yes" in words and os.fsencode(bench.root) in words:
                    killed.append(int(path.parent.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return

    bench._on_mail = kill  # type: ignore[method-assign]
    try:
        ran = bench.well("run")
        assert killed and ran["attempts"] > 1
        assert bench.well("verify", full=True)["different"] == 0
        assert sockets(bench) == []
    finally:
        server.stop()


def test_ssh_killed_at_its_first_word_is_not_taken_for_an_account_without_a_shell(
    bench: BackupBench, tmp_path: Path
) -> None:
    """Such an account has no xxh128 and no attributes, as far as anybody knows."""
    server = SshServer(tmp_path / "sshd")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(
        f"#!/bin/sh\nif [ ! -e {tmp_path}/once ]; then touch {tmp_path}/once; kill -9 $$; fi\n"
        f'exec {require("ssh")} "$@"\n'
    )
    (folder / "ssh").chmod(0o755)
    bench.over(server).change(search_path=f"{folder}:{os.environ['PATH']}", layout="mirror")
    try:
        ran = bench.well("run")
        assert ran["checksum"] == "xxh128"
        assert not [note for note in ran["notes"] if "rsync alone" in note]
    finally:
        server.stop()


def test_temporary_file_of_a_killed_rsync_there_is_removed(
    bench: BackupBench, tmp_path: Path
) -> None:
    """Its names are rsync's, its original is in the source, and it is of the broken-off run."""
    server = SshServer(tmp_path / "sshd")
    bench.over(server).change(layout="mirror")
    try:
        bench.well("run")
        copy = tmp_path / "dest" / "src"
        (copy / "sub" / ".b.aB3xYz").write_bytes(b"half")
        (copy / ".other.aB3xYz").write_bytes(b"nobody's temporary file")
        state = bench.folder / "run.json"
        said = msgspec.json.decode(state.read_bytes())
        state.write_bytes(msgspec.json.encode({**said, "state": "interrupted"}))
        notes = bench.well("run")["notes"]
        assert any("1 temporary file" in note for note in notes)
        assert not (copy / "sub" / ".b.aB3xYz").exists()
        assert (copy / ".other.aB3xYz").exists()
    finally:
        server.stop()


def test_account_that_runs_rsync_alone_is_used_without_a_shell(
    bench: BackupBench, tmp_path: Path
) -> None:
    """Mirrors only, and it is said what is left out."""
    script = tmp_path / "rsync-alone"
    script.write_text(
        '#!/bin/sh\ncase "$SSH_ORIGINAL_COMMAND" in rsync\\ --server\\ *) '
        "exec $SSH_ORIGINAL_COMMAND;; esac\necho 'nothing but rsync' >&2; exit 1\n"
    )
    script.chmod(0o755)
    (tmp_path / "dest").mkdir()
    server = SshServer(tmp_path / "sshd", force=str(script))
    try:
        assert bench.over(server).do("plan").error == "bad_dest"  # snapshots need a shell
        bench.change(layout="mirror")
        assert bench.well("plan")["totalFiles"] == 2
        ran = bench.well("run")
        assert (ran["files"], ran["partial"], ran["checksum"]) == (2, False, "md5")
        assert [note for note in ran["notes"] if "rsync alone" in note]
        assert bench.well("verify", full=True)["different"] == 0
        assert bench.well("run")["transferredBytes"] == 0
    finally:
        server.stop()
