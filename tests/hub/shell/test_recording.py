"""Recordings on the disk: exact, ours alone, capped, and gone on with after a kill."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hub.errors import StorageFullError
from hub.shell import cast
from hub.shell.recording import FLUSH_BYTES, Outcome, Recording, Recordings
from tests.doubles.loop import run

Work = Callable[[Recordings], Coroutine[Any, Any, Any]]


def with_recordings(folder: Path, work: Work, max_bytes: int = 1 << 20) -> Any:
    async def inside() -> Any:
        recordings = Recordings(folder, max_bytes)
        try:
            return await work(recordings)
        finally:
            recordings.close()

    return run(inside())


async def begun(recordings: Recordings) -> Recording:
    return await recordings.begin("t1", "s1", 80, 24, 1_800_000_000_000, "ann on here")


def played(path: Path) -> list[cast.Event]:
    with open(path, "rb") as file:
        return list(cast.read(file)[1])


def test_what_the_terminal_printed_comes_back_with_sizes_and_exit_code(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> Outcome:
        recording = await begun(recordings)
        recording.output(0, "grüße\r\n".encode())
        recording.resize(100, 40)
        recording.output(9, b"bye")
        return await recording.finish(3)

    outcome = with_recordings(tmp_path, work)
    path = tmp_path / "recordings" / "t1" / "s1.cast"
    assert [(event.code, event.data) for event in played(path)] == [
        ("o", "grüße\r\n"), ("r", "100x40"), ("o", "bye"), ("x", "3"),
    ]  # fmt: skip
    assert outcome.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert outcome.size == path.stat().st_size
    assert not outcome.is_truncated
    assert not outcome.has_failed


def test_files_and_folders_are_the_hubs_alone(tmp_path: Path) -> None:
    with_recordings(tmp_path, begun)
    path = tmp_path / "recordings" / "t1" / "s1.cast"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_repeated_output_is_recorded_once_and_lost_output_is_told(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> None:
        recording = await begun(recordings)
        recording.output(0, b"abcdef")
        recording.output(3, b"defghi")
        recording.output(20, b"xyz")
        await recording.finish(None)

    with_recordings(tmp_path, work)
    events = played(tmp_path / "recordings/t1/s1.cast")
    assert cast.outputs(events) == "abcdefghixyz"
    assert [event.data for event in events if event.code == "m"] == ["11 bytes of output were lost"]


def test_nothing_is_on_the_disk_before_a_flush_and_all_of_it_after(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> list[int | None]:
        recording = await begun(recordings)
        flushed: list[int | None] = []
        recording.on_flushed = lambda: flushed.append(recording.flushed_to)
        recording.output(0, b"x" * 100)
        assert recording.flushed_to == 0
        recording.flush()
        await recording.finish(None)
        return flushed

    assert with_recordings(tmp_path, work)[0] == 100


def test_a_flood_goes_to_the_disk_without_waiting_for_the_flush(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> None:
        recording = await begun(recordings)
        for number in range(100):
            recording.output(number << 13, b"y" * (1 << 13))
            assert len(b"".join(recording._lines)) < FLUSH_BYTES + (1 << 14)
        await recording.finish(None)

    with_recordings(tmp_path, work)
    text = cast.outputs(played(tmp_path / "recordings/t1/s1.cast"))
    assert text == "y" * (100 << 13)


def test_a_recording_ends_at_its_size_and_says_so(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> tuple[Outcome, int | None]:
        recording = await begun(recordings)
        for number in range(100):
            recording.output(number * 1000, b"z" * 1000)
        return await recording.finish(0), recording.flushed_to

    outcome, flushed_to = with_recordings(tmp_path, work, max_bytes=20_000)
    assert outcome.is_truncated
    assert outcome.size is not None
    assert outcome.size <= 20_000
    assert flushed_to is None, "what it no longer records must hold nothing back"
    assert played(tmp_path / "recordings/t1/s1.cast")[-1].code == "m"


def test_after_a_kill_it_goes_on_behind_the_last_flush(tmp_path: Path) -> None:
    path = tmp_path / "recordings/t1/s1.cast"

    async def first(recordings: Recordings) -> None:
        recording = await begun(recordings)
        recording.output(0, b"before")
        recording.flush()

    async def second(recordings: Recordings) -> bytes:
        recording = await recordings.go_on("t1", "s1", age_s=100.0)
        assert recording is not None
        assert recording.end == 6
        recording.output(0, b"before and after")
        await recording.finish(0)
        return recording.scrollback

    with_recordings(tmp_path, first)
    with open(path, "ab") as file:
        file.write(b'[0.5, "o", "torn')
    assert with_recordings(tmp_path, second) == b"before"
    events = played(path)
    assert cast.outputs(events) == "before and after"
    assert sum(event.interval_s for event in events) == pytest.approx(100, abs=5)


def test_a_session_without_a_file_is_recorded_as_failed(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> Outcome:
        assert await recordings.go_on("t1", "gone", 1.0) is None
        recording = recordings.lost("t1", "gone")
        recording.output(0, b"abc")
        return await recording.finish(0)

    assert with_recordings(tmp_path, work) == Outcome(None, None, False, True)


def test_a_disk_that_refuses_ends_the_recording_alone(tmp_path: Path) -> None:
    async def work(recordings: Recordings) -> Outcome:
        recording = await begun(recordings)
        os.unlink(recordings.path("t1", "s1"))
        recording.output(0, b"abc")
        outcome = await recording.finish(0)
        assert recording.flushed_to is None
        return outcome

    assert with_recordings(tmp_path, work).has_failed


def test_no_link_is_followed_and_no_open_folder_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir(mode=0o755)
    with pytest.raises(StorageFullError):
        with_recordings(tmp_path, begun)
    folder.chmod(0o700)
    (folder / "t1").mkdir(mode=0o700)
    (folder / "t1/s1.cast").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFullError):
        with_recordings(tmp_path, begun)
    assert not (tmp_path / "elsewhere").exists()
