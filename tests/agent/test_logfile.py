"""The log file: modes, rotation, and everything that somebody may put in its place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.errors import LogFileError
from agent.logfile import LogFile


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_logfile_is_made_private_with_its_directory(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log" / "agent.log")
    file.write(b"one\n")
    file.close()
    assert file.path.read_bytes() == b"one\n"
    assert (mode(file.path), mode(file.path.parent)) == (0o600, 0o700)


def test_logfile_of_an_earlier_agent_is_appended_to_and_made_private(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("old\n")
    path.chmod(0o644)
    LogFile(path).write(b"new\n")
    assert path.read_bytes() == b"old\nnew\n"
    assert mode(path) == 0o600


def test_logfile_rotates_at_its_size_and_keeps_five(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "agent.log", max_bytes=20)
    for number in range(10):
        file.write(b"a line of 15 b %d\n" % number)
    kept = {path.name: path.read_bytes()[-2:-1] for path in tmp_path.iterdir()}
    assert kept == {
        "agent.log": b"9",
        "agent.log.1": b"8",
        "agent.log.2": b"7",
        "agent.log.3": b"6",
        "agent.log.4": b"5",
        "agent.log.5": b"4",
    }


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "hardlink"])
def test_logfile_refuses_what_is_not_its_own_file(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "agent.log", tmp_path / "victim"
    victim.write_text("precious\n")
    victim.chmod(0o640)
    match kind:
        case "link":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(tmp_path / "not-yet")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.hardlink_to(victim)
    with pytest.raises(LogFileError):
        LogFile(path).write(b"x\n")
    assert victim.read_text() == "precious\n"
    assert mode(victim) == 0o640
    assert not (tmp_path / "not-yet").exists()


def test_logfile_refuses_a_link_in_its_directorys_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "log").symlink_to(tmp_path / "real")
    with pytest.raises(LogFileError):
        LogFile(tmp_path / "log" / "agent.log").write(b"x\n")
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner takes root")
def test_logfile_refuses_somebody_elses_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("")
    os.chown(path, 65534, 65534)
    with pytest.raises(LogFileError, match="belongs to uid 65534"):
        LogFile(path).write(b"x\n")


def test_logfile_that_is_rotated_away_is_made_again(tmp_path: Path) -> None:
    clock = FakeClock()
    file = LogFile(tmp_path / "agent.log", clock=clock)
    file.write(b"one\n")
    file.path.rename(tmp_path / "agent.log-20260101")
    clock.now_s += 2
    file.write(b"two\n")
    assert file.path.read_bytes() == b"two\n"


def test_logfile_whose_directory_is_taken_away_is_made_again(tmp_path: Path) -> None:
    clock = FakeClock()
    file = LogFile(tmp_path / "log" / "agent.log", clock=clock)
    file.write(b"one\n")
    (tmp_path / "log").rename(tmp_path / "elsewhere")
    clock.now_s += 2
    file.write(b"two\n")
    assert file.path.read_bytes() == b"two\n"


def test_logfile_replaced_by_a_link_is_never_written_through(tmp_path: Path) -> None:
    clock = FakeClock()
    victim = tmp_path / "victim"
    victim.write_text("")
    file = LogFile(tmp_path / "agent.log", clock=clock)
    file.write(b"one\n")
    file.path.unlink()
    file.path.symlink_to(victim)
    clock.now_s += 2
    with pytest.raises(LogFileError):
        file.write(b"two\n")
    assert victim.read_text() == ""


def test_logfile_descriptors_stay_flat_while_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.symlink_to(tmp_path / "x")
    file = LogFile(path)
    counts = set()
    for _ in range(5):
        with pytest.raises(LogFileError):
            file.write(b"x\n")
        counts.add(len(os.listdir("/proc/self/fd")))
    assert len(counts) == 1


def test_logfile_starts_a_new_line_after_half_a_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = LogFile(tmp_path / "agent.log")
    file.write(b"one\n")
    real = os.write
    room = [3]

    def full_disk(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        room[0] -= (written := real(fd, data[: room[0]]))
        return written

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(LogFileError, match="No space left"):
        file.write(b"two is torn\n")
    monkeypatch.setattr(os, "write", real)
    file.write(b"three\n")
    assert file.path.read_bytes() == b"one\ntwo\nthree\n"
