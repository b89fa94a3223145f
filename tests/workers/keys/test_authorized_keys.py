from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.facilities import require_root
from workers.keys.authorized_keys import MAX_FILE_BYTES, TEMPORARY, WOULD_IGNORE, update
from workers.keys.errors import SyncError

OLD = b"ssh-rsa AAAAold somebody\n"
NEW = OLD + b"ssh-ed25519 AAAAnew ours\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def ssh(home: Path) -> Path:
    path = home / ".ssh"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def file(ssh: Path) -> Path:
    path = ssh / "authorized_keys"
    path.write_bytes(OLD)
    path.chmod(0o600)
    return path


def write(home: Path, content: bytes = NEW) -> None:
    update(str(home), lambda _: content, lambda: True)


def refused(home: Path, edit: Callable[[bytes], bytes] = lambda _: NEW) -> str:
    with pytest.raises(SyncError) as refusal:
        update(str(home), edit, lambda: True)
    return refusal.value.reason


def snapshot(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content


def test_update_nothing_there_makes_directory_and_file_private(home: Path) -> None:
    before = os.umask(0)
    try:
        write(home)
    finally:
        os.umask(before)
    assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700
    file = home / ".ssh" / "authorized_keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == NEW
    assert os.listdir(home / ".ssh") == ["authorized_keys"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o400])
def test_update_keeps_the_mode(home: Path, file: Path, mode: int) -> None:
    file.chmod(mode)
    write(home)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_bytes() == NEW


def test_update_keeps_the_owner(home: Path, file: Path) -> None:
    require_root()
    os.chown(file, 4242, 4343)
    write(home)
    assert (file.stat().st_uid, file.stat().st_gid) == (4242, 4343)


def test_update_without_a_change_touches_nothing(home: Path, file: Path, ssh: Path) -> None:
    before = snapshot(file), file.stat().st_ino, ssh.stat().st_mtime_ns
    assert not update(str(home), lambda content: content, lambda: True).changed
    assert (snapshot(file), file.stat().st_ino, ssh.stat().st_mtime_ns) == before


def test_update_removes_what_a_killed_writer_left(home: Path, file: Path, ssh: Path) -> None:
    (ssh / TEMPORARY).write_bytes(b"half a file")
    write(home)
    assert os.listdir(ssh) == ["authorized_keys"]
    assert file.read_bytes() == NEW


def test_update_given_up_leaves_the_old_file(home: Path, file: Path, ssh: Path) -> None:
    with pytest.raises(SyncError) as refusal:
        update(str(home), lambda _: NEW, lambda: False)
    assert refusal.value.reason == "abandoned"
    assert os.listdir(ssh) == ["authorized_keys"]
    assert file.read_bytes() == OLD


def test_update_file_changed_meanwhile_is_read_again(home: Path, file: Path) -> None:
    seen = []

    def edit(content: bytes) -> bytes:
        seen.append(content)
        if len(seen) == 1:
            file.write_bytes(OLD + b"ssh-rsa AAAAtheirs editor\n")
        return content + b"ours\n"

    update(str(home), edit, lambda: True)
    assert seen == [OLD, OLD + b"ssh-rsa AAAAtheirs editor\n"]
    assert file.read_bytes() == OLD + b"ssh-rsa AAAAtheirs editor\nours\n"


def test_update_file_that_never_rests_is_left_alone(home: Path, file: Path, ssh: Path) -> None:
    def edit(content: bytes) -> bytes:
        file.write_bytes(content + b"x")
        return content + b"ours\n"

    assert refused(home, edit) == "busy"
    assert b"ours" not in file.read_bytes()
    assert os.listdir(ssh) == ["authorized_keys"]


def test_update_two_writers_lose_no_line(home: Path, file: Path) -> None:
    def append(entry: bytes) -> None:
        update(str(home), lambda content: content + entry, lambda: True)

    def add(line: bytes) -> None:
        for number in range(20):
            append(line + str(number).encode() + b"\n")

    writers = [threading.Thread(target=add, args=(name,)) for name in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = file.read_bytes().removeprefix(OLD).split()
    assert sorted(lines) == sorted(b"%c%d" % (c, n) for c in b"ab" for n in range(20))


# -- what must never be followed or opened ---------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Somebody else's directory and file: they must look the same afterwards."""
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    shadow = directory / "shadow"
    shadow.write_bytes(b"root:secret\n")
    shadow.chmod(0o640)
    before = snapshot(directory), snapshot(shadow), os.listdir(directory)
    yield directory
    assert (snapshot(directory), snapshot(shadow), os.listdir(directory)) == before


def test_update_ssh_directory_that_is_a_link_is_refused(home: Path, outside: Path) -> None:
    (home / ".ssh").symlink_to(outside)
    assert refused(home) == "unsafe_path"


def test_update_home_that_is_a_link_is_refused(home: Path, outside: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(outside)
    assert refused(link) == "unsafe_path"


def test_update_file_that_is_a_link_is_refused(home: Path, ssh: Path, outside: Path) -> None:
    (ssh / "authorized_keys").symlink_to(outside / "shadow")
    assert refused(home) == "unsafe_path"
    assert os.readlink(ssh / "authorized_keys") == str(outside / "shadow")


def test_update_dangling_link_is_refused(home: Path, ssh: Path, tmp_path: Path) -> None:
    (ssh / "authorized_keys").symlink_to(tmp_path / "nothing")
    assert refused(home) == "unsafe_path"
    assert not (tmp_path / "nothing").exists()


def test_update_hard_link_is_refused(home: Path, ssh: Path, outside: Path) -> None:
    os.link(outside / "shadow", ssh / "authorized_keys")
    try:
        assert refused(home) == "unsafe_path"
    finally:
        os.unlink(ssh / "authorized_keys")


def test_update_fifo_is_refused_at_once(home: Path, ssh: Path) -> None:
    os.mkfifo(ssh / "authorized_keys")
    assert refused(home) == "unsafe_path"
    assert stat.S_ISFIFO((ssh / "authorized_keys").lstat().st_mode)


def test_update_directory_and_socket_are_refused(home: Path, ssh: Path, monkeypatch) -> None:
    (ssh / "authorized_keys").mkdir()
    assert refused(home) == "unsafe_path"
    (ssh / "authorized_keys").rmdir()
    monkeypatch.chdir(ssh)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("authorized_keys")
        assert refused(home) == "unsafe_path"


def test_update_ssh_that_is_a_file_is_refused(home: Path) -> None:
    (home / ".ssh").write_bytes(b"")
    assert refused(home) == "unsafe_path"


def test_update_temporary_that_is_a_link_is_not_written_through(
    home: Path, file: Path, ssh: Path, outside: Path
) -> None:
    (ssh / TEMPORARY).symlink_to(outside / "shadow")
    write(home)
    assert not file.is_symlink()
    assert file.read_bytes() == NEW


def test_update_huge_file_is_refused(home: Path, file: Path) -> None:
    os.truncate(file, MAX_FILE_BYTES + 1)
    assert refused(home) == "too_large"
    assert file.stat().st_size == MAX_FILE_BYTES + 1


def test_update_home_that_is_missing_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "nobody") == "ENOENT"


# -- what sshd would not read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "mode"),
    [(".", 0o777), (".", 0o775), (".ssh", 0o777), (".ssh/authorized_keys", 0o664)],
)
def test_update_mode_that_sshd_refuses_is_told_and_kept(
    home: Path, file: Path, where: str, mode: int
) -> None:
    (home / where).chmod(mode)
    written = update(str(home), lambda _: NEW, lambda: True)
    assert written.warn == WOULD_IGNORE
    assert f"{mode:04o}" in str(written.detail)
    assert stat.S_IMODE((home / where).stat().st_mode) == mode
    assert file.read_bytes() == NEW


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_update_mode_that_sshd_takes_is_not_told(home: Path, file: Path, mode: int) -> None:
    home.chmod(mode)
    (home / ".ssh").chmod(mode)
    assert update(str(home), lambda _: NEW, lambda: True).warn is None


@pytest.mark.parametrize("where", [".", ".ssh", ".ssh/authorized_keys"])
def test_update_foreign_owner_is_told(home: Path, file: Path, where: str) -> None:
    require_root()
    os.chown(home / where, 4242, 4242)
    written = update(str(home), lambda _: NEW, lambda: True)
    assert written.warn == WOULD_IGNORE
    assert "4242" in str(written.detail)
