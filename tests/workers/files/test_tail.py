from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.files.errors import FilesError
from workers.files.tail import BACKLOG_BYTES, READ_BYTES, LogFollower, texts


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "agent.log"


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def follow(log: Path, lines: int = 10, from_start: bool = False) -> LogFollower:
    follower = LogFollower(str(log))
    follower.start(lines, from_start)
    return follower


def drain(follower: LogFollower) -> bytes:
    """Read until three polls in a row bring nothing: a rotation takes two."""
    data, quiet = b"", 0
    while quiet < 3:
        more = follower.read()
        quiet = 0 if more else quiet + 1
        data += more
    return data


@pytest.mark.parametrize(
    ("lines", "first"), [(1, 1000), (3, 998), (200, 801), (1000, 1), (5000, 1)]
)
def test_follower_begins_with_the_last_lines(log: Path, lines: int, first: int) -> None:
    log.write_bytes(numbered(1, 1000))
    assert drain(follow(log, lines)) == numbered(first, 1000)


def test_follower_last_lines_of_a_long_file_are_found_from_its_end(log: Path) -> None:
    log.write_bytes(b"x" * 99 + b"\n")
    os.truncate(log, 5 << 30)  # sparse: reading it all would take seconds and show as memory
    append(log, b"\n" + numbered(1, 50))
    assert drain(follow(log, 20)) == numbered(31, 50)


def test_follower_last_lines_larger_than_the_backlog_begin_at_a_whole_line(log: Path) -> None:
    long = [b"%03d" % number + b"y" * 5000 + b"\n" for number in range(200)]
    log.write_bytes(b"".join(long))
    data = drain(follow(log, 200))
    assert b"skipped" not in data
    assert b"".join(long).endswith(data)
    assert data[:3].isdigit()
    assert BACKLOG_BYTES // 2 < len(data) <= BACKLOG_BYTES + READ_BYTES


def test_follower_from_start_gives_the_whole_file(log: Path) -> None:
    log.write_bytes(numbered(1, 300))
    assert drain(follow(log, 1, from_start=True)) == numbered(1, 300)


def test_follower_gives_new_lines_and_holds_half_ones_back(log: Path) -> None:
    log.write_bytes(numbered(1, 5))
    follower = follow(log, 1)
    assert drain(follower) == b"line 5\n"
    append(log, b"half")
    assert drain(follower) == b""
    append(log, b" whole\nnext")
    assert drain(follower) == b"half whole\n"


def test_follower_half_line_at_the_beginning_comes_when_it_is_whole(log: Path) -> None:
    log.write_bytes(numbered(1, 5) + b"ha")
    follower = follow(log, 2)
    assert drain(follower) == numbered(4, 5)
    append(log, b"lf\n")
    assert drain(follower) == b"half\n"


def test_follower_rotation_loses_and_repeats_no_line(log: Path) -> None:
    log.write_bytes(numbered(1, 3))
    follower = follow(log, 1)
    seen = drain(follower)
    for turn in range(1, 6):
        append(log, b"before %d\n" % turn)
        log.rename(log.with_suffix(f".{turn}"))
        append(log.with_suffix(f".{turn}"), b"late %d\n" % turn)
        log.write_bytes(b"after %d\n" % turn)
        seen += drain(follower)
    expected = b"".join(b"before %d\nlate %d\nafter %d\n" % ((turn,) * 3) for turn in range(1, 6))
    assert seen == b"line 3\n" + expected


def test_follower_last_line_of_a_rotated_file_needs_no_end(log: Path) -> None:
    log.write_bytes(numbered(1, 1))
    follower = follow(log)
    drain(follower)
    append(log, b"torn")
    log.rename(log.with_suffix(".1"))
    log.write_bytes(b"new\n")
    assert drain(follower) == b"torn\nnew\n"


def test_follower_waits_between_rename_and_new_file(log: Path) -> None:
    log.write_bytes(numbered(1, 1))
    follower = follow(log)
    drain(follower)
    log.rename(log.with_suffix(".1"))
    assert drain(follower) == b""
    append(log.with_suffix(".1"), b"still here\n")
    assert drain(follower) == b"still here\n"
    log.write_bytes(b"new\n")
    assert drain(follower) == b"new\n"


def test_follower_truncated_file_begins_again(log: Path) -> None:
    log.write_bytes(numbered(1, 100))
    follower = follow(log, 1)
    drain(follower)
    log.write_bytes(b"fresh\n")
    assert drain(follower) == b"fresh\n"


def test_follower_deleted_and_made_again(log: Path) -> None:
    log.write_bytes(numbered(1, 3))
    follower = follow(log, 1)
    drain(follower)
    log.unlink()
    assert drain(follower) == b""
    log.write_bytes(b"fresh\n")
    assert drain(follower) == b"fresh\n"


def test_follower_file_that_comes_later_is_followed(log: Path) -> None:
    follower = follow(log)
    assert drain(follower) == b""
    log.write_bytes(numbered(1, 30))
    assert drain(follower) == numbered(1, 30)


def test_follower_too_far_behind_skips_and_counts(log: Path) -> None:
    log.write_bytes(b"begin\n")
    follower = follow(log, 1)
    drain(follower)
    total = 100_000
    append(log, numbered(1, total))
    data = drain(follower)
    notice, rest = data.split(b"\n", 1)
    skipped = int(notice.decode().removeprefix("… skipped ").removesuffix(" lines"))
    assert rest == numbered(skipped + 1, total)
    assert len(rest) <= READ_BYTES


def test_follower_read_is_bounded(log: Path) -> None:
    log.write_bytes(numbered(1, 15_000))
    follower = follow(log, from_start=True)
    sizes = [len(follower.read()) for _ in range(4)]
    assert max(sizes) <= READ_BYTES


def test_follower_one_endless_line_is_given_in_pieces(log: Path) -> None:
    log.write_bytes(b"z" * (READ_BYTES + 100))
    assert drain(follow(log, from_start=True)) == b"z" * READ_BYTES


# -- what is never opened ------------------------------------------------------------------------


def refusal(log: Path) -> str:
    with pytest.raises(FilesError) as refused:
        follow(log)
    return refused.value.reason


def test_follower_never_follows_a_link(log: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"canary\n")
    log.symlink_to(tmp_path / "secret")
    assert refusal(log) == "unsafe_path"


def test_follower_refuses_fifo_and_directory_at_once(log: Path) -> None:
    os.mkfifo(log)
    assert refusal(log) == "unsafe_path"
    log.unlink()
    log.mkdir()
    assert refusal(log) == "unsafe_path"


def test_follower_link_in_place_of_the_log_ends_it(log: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"canary\n")
    log.write_bytes(numbered(1, 1))
    follower = follow(log)
    assert drain(follower) == numbered(1, 1)
    log.unlink()
    log.symlink_to(tmp_path / "secret")
    with pytest.raises(FilesError) as refused:
        drain(follower)
    assert refused.value.reason == "unsafe_path"


# -- text ----------------------------------------------------------------------------------------


def test_texts_are_cut_at_line_ends() -> None:
    assert texts(b"one\ntwo\nthree\n", 9) == ["one\ntwo\n", "three\n"]


def test_texts_cut_no_character_in_two() -> None:
    data = ("é" * 1000 + "€" * 1000 + "𝄞" * 1000).encode()
    pieces = texts(data, 101)
    assert "".join(pieces) == data.decode()
    assert all(len(piece.encode()) <= 101 for piece in pieces)


@example(b"\x80" * 9, 12)  # no character begins here: a cut must get on all the same
@given(st.binary(max_size=2000) | st.text(max_size=500).map(str.encode), st.integers(12, 200))
def test_texts_stay_in_their_size_and_lose_nothing(data: bytes, max_bytes: int) -> None:
    pieces = texts(data, max_bytes)
    assert all(0 < len(piece.encode()) <= max_bytes for piece in pieces)
    if data == data.decode("utf-8", "ignore").encode():
        assert "".join(pieces).encode() == data
