"""Job records and spools: what is read back is whole and ours, or it is none."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.facilities import require_root
from workers import jobs
from workers.errors import RecordError
from workers.jobs import JobRecord, Spool
from workers.messages import CommandEnded, ShellEnded

NOBODY = 65534


def record(job_id: str = "shell-1.ab", **changes: Any) -> JobRecord:
    made = JobRecord(
        job_id=job_id,
        worker_id="shell-1",
        kind="shell",
        key="s1",
        pid=4711,
        start_time=99,
        boot_id="boot",
        address="/run/x.sock",
        token=b"t" * 32,
        wire={"argv": ["/bin/sh"], "env": {"A": "b"}},
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path)


def files(state: str) -> list[str]:
    return sorted(os.listdir(f"{state}/jobs"))


def test_record_comes_back_as_it_was_placed(state: str) -> None:
    jobs.place_record(state, record())
    jobs.sync_record(state, "shell-1.ab")
    assert jobs.read_records(state) == ([record()], [])
    assert files(state) == ["shell-1.ab.job"]
    assert os.stat(f"{state}/jobs/shell-1.ab.job").st_mode & 0o777 == 0o600
    assert os.stat(f"{state}/jobs").st_mode & 0o777 == 0o700


def test_record_placed_again_replaces_the_first(state: str) -> None:
    jobs.place_record(state, record())
    jobs.place_record(state, record(pid=4712))
    assert [r.pid for r in jobs.read_records(state)[0]] == [4712]


def test_record_removed_is_gone_with_its_spool_and_again_is_nothing(state: str) -> None:
    jobs.place_record(state, record())
    os.close(jobs.open_spool(str(jobs.spool_path(state, "shell-1.ab"))))
    jobs.remove(state, "shell-1.ab")
    jobs.remove(state, "shell-1.ab")
    assert files(state) == []


def test_record_of_a_job_that_is_over_need_not_be_synced(state: str) -> None:
    jobs.sync_record(state, "gone")


def test_record_that_is_torn_at_any_byte_is_named_and_the_others_are_read(state: str) -> None:
    jobs.place_record(state, record("a.1"))
    jobs.place_record(state, record("b.2"))
    whole = Path(f"{state}/jobs/a.1.job").read_bytes()
    for size in range(len(whole)):
        Path(f"{state}/jobs/a.1.job").write_bytes(whole[:size])
        found, unusable = jobs.read_records(state)
        assert [r.job_id for r in found] == ["b.2"]
        assert unusable == ["a.1.job"]


def test_record_and_spool_whose_text_is_not_text_are_none(state: str) -> None:
    """Bad UTF-8 is another error than a wrong type."""
    jobs.place_record(state, record("a.1", key="KEYKEY"))
    path = Path(f"{state}/jobs/a.1.job")
    path.write_bytes(path.read_bytes().replace(b"KEYKEY", b"\xff\xfeKEYK"))
    assert jobs.read_records(state) == ([], ["a.1.job"])
    body = jobs._encoder.encode(SPOOL).replace(b"exit", b"\xff\xfexi")
    content = zlib.crc32(body).to_bytes(4, "big") + body
    Path(f"{state}/jobs/a.1.spool").write_bytes(content)
    assert jobs.read_spool(state, "a.1") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400))
def test_record_of_any_bytes_is_read_or_named(state: str, content: bytes) -> None:
    jobs.directory(state)
    Path(f"{state}/jobs/x.job").write_bytes(content)
    found, unusable = jobs.read_records(state)
    assert len(found) + len(unusable) == 1


def test_record_under_another_name_is_not_believed(state: str) -> None:
    """What a record says of its own name becomes a path when it is removed."""
    jobs.place_record(state, record("a.1"))
    stray = jobs._encoder.encode(record("../../elsewhere"))
    Path(f"{state}/jobs/b.2.job").write_bytes(stray)
    found, unusable = jobs.read_records(state)
    assert [r.job_id for r in found] == ["a.1"]
    assert unusable == ["b.2.job"]


def test_record_with_fields_of_a_newer_version_is_read(state: str) -> None:
    jobs.directory(state)
    fields = {**msgspec.to_builtins(record("a.1"), builtin_types=[bytes]), "later": 1}
    Path(f"{state}/jobs/a.1.job").write_bytes(msgspec.msgpack.encode(fields))
    assert [r.job_id for r in jobs.read_records(state)[0]] == ["a.1"]


def test_record_that_is_a_link_a_pipe_a_directory_or_too_large_is_not_followed(
    state: str, tmp_path: Path
) -> None:
    """None of them may hang, or be read as ours."""
    folder = Path(jobs.directory(state))
    (tmp_path / "elsewhere").write_bytes(jobs._encoder.encode(record("link")))
    (folder / "link.job").symlink_to(tmp_path / "elsewhere")
    (folder / "loop.job").symlink_to(folder / "loop.job")
    os.mkfifo(folder / "fifo.job")
    (folder / "dir.job").mkdir()
    with open(folder / "large.job", "wb") as file:
        file.truncate(1 << 40)
    found, unusable = jobs.read_records(state)
    assert found == []
    assert sorted(unusable) == ["dir.job", "fifo.job", "large.job", "link.job", "loop.job"]


def test_record_of_another_user_is_not_ours(state: str) -> None:
    require_root()
    jobs.place_record(state, record())
    os.chown(f"{state}/jobs/shell-1.ab.job", NOBODY, NOBODY)
    assert jobs.read_records(state) == ([], ["shell-1.ab.job"])


def test_record_is_not_placed_through_a_link(state: str, tmp_path: Path) -> None:
    folder = Path(jobs.directory(state))
    target = tmp_path / "victim"
    target.write_bytes(b"untouched")
    (folder / "shell-1.ab.job.new").symlink_to(target)
    with pytest.raises(RecordError):
        jobs.place_record(state, record())
    assert target.read_bytes() == b"untouched"


def test_record_that_the_disk_takes_only_in_part_is_written_whole_or_refused(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full disk takes some bytes and says so, without an error."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    jobs.place_record(state, record())
    assert jobs.read_records(state) == ([record()], [])


def test_record_on_a_disk_that_refuses_leaves_nothing(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    jobs.directory(state)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RecordError, match="No space"):
        jobs.place_record(state, record())
    assert files(state) == []


def test_worker_id_is_stable_plain_and_different_for_different_keys() -> None:
    assert jobs.worker_id_of("shell", "s") == jobs.worker_id_of("shell", "s")
    assert jobs.worker_id_of("shell", "s") != jobs.worker_id_of("shell", "t")
    for key in ("../../etc/passwd", "\ud800", "a" * 100_000, "", "\0", "é"):
        worker_id = jobs.worker_id_of("admin", key)
        assert worker_id.removeprefix("admin-").isalnum() and len(worker_id) < 40


# -- spools ---------------------------------------------------------------------------------


def spooled(state: str, spool: Spool, job_id: str = "j.1") -> Path:
    jobs.directory(state)
    path = Path(jobs.spool_path(state, job_id))
    fd = jobs.open_spool(str(path))
    jobs.write_spool(fd, spool)
    os.close(fd)
    return path


SPOOL = Spool(result=ShellEnded(reason="exit", code=3, offset=12), offset=5, unread=b"output\xff")


def test_spool_comes_back_as_it_was_written(state: str) -> None:
    spooled(state, SPOOL)
    assert jobs.read_spool(state, "j.1") == SPOOL


def test_spool_replaces_what_the_file_held(state: str) -> None:
    """A stack dump of a worker that came back to life, or a longer first result."""
    path = Path(jobs.spool_path(state, "j.1"))
    jobs.directory(state)
    fd = jobs.open_spool(str(path))
    os.write(fd, b"Current thread 0x1 (most recent call first):\n" * 50)
    jobs.write_spool(fd, Spool(result=CommandEnded(code=0, duration_ms=1), unread=b"x" * 5000))
    jobs.write_spool(fd, SPOOL)
    os.close(fd)
    assert jobs.read_spool(state, "j.1") == SPOOL


def test_spool_torn_at_any_byte_is_none(state: str) -> None:
    path = spooled(state, SPOOL)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert jobs.read_spool(state, "j.1") is None


def test_spool_with_any_flipped_bit_is_none(state: str) -> None:
    path = spooled(state, SPOOL)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert jobs.read_spool(state, "j.1") is None


def test_spool_that_is_missing_a_link_a_pipe_or_too_large_is_none(
    state: str, tmp_path: Path
) -> None:
    assert jobs.read_spool(state, "none") is None
    elsewhere = spooled(state, SPOOL, "real")
    folder = Path(jobs.directory(state))
    (folder / "link.spool").symlink_to(elsewhere)
    os.mkfifo(folder / "fifo.spool")
    with open(folder / "large.spool", "wb") as file:
        file.truncate(1 << 40)
    assert [jobs.read_spool(state, name) for name in ("link", "fifo", "large")] == [None] * 3


def test_spool_is_not_opened_through_a_link(state: str, tmp_path: Path) -> None:
    folder = Path(jobs.directory(state))
    (folder / "j.spool").symlink_to(tmp_path / "made-by-mistake")
    with pytest.raises(RecordError):
        jobs.open_spool(str(folder / "j.spool"))
    assert not (tmp_path / "made-by-mistake").exists()


def test_spool_on_a_full_disk_is_told() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(RecordError):
            jobs.write_spool(fd, SPOOL)
    finally:
        os.close(fd)


def test_spool_holds_a_whole_ring_of_unread_output(state: str) -> None:
    spool = Spool(result=ShellEnded(reason="exit", offset=1 << 20), unread=os.urandom(1 << 20))
    spooled(state, spool)
    assert jobs.read_spool(state, "j.1") == spool
