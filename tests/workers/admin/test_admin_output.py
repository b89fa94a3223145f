"""What is kept of a stream, and where a kept crontab goes: no process needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.admin.crontab import KEPT, store
from workers.admin.output import Capture

pieces = st.lists(st.binary(max_size=30), max_size=30)


@given(pieces, st.integers(1, 40))
def test_capture_keeps_head_tail_and_true_size(parts, keep):
    capture = Capture(keep)
    for part in parts:
        capture.append(part)
    whole = b"".join(parts)
    kept = capture.captured()
    assert kept.total_bytes == len(whole)
    if len(whole) <= 2 * keep:
        assert (kept.head, kept.tail) == (whole, b"")
    else:
        assert (kept.head, kept.tail) == (whole[:keep], whole[-keep:])


def test_capture_holds_no_more_than_its_ends():
    capture = Capture(1000)
    for _ in range(10_000):
        capture.append(b"x" * 997)
    assert len(capture._head) + len(capture._tail) <= 6000


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        (b"", b"jackline: why\n"),
        (b"a\n", b"a\njackline: why\n"),
        (b"a", b"a\njackline: why\n"),
    ],
)
def test_note_is_a_line_of_its_own_and_not_counted(text, noted):
    capture = Capture(100)
    capture.append(text)
    kept = capture.captured("why")
    assert (kept.head, kept.total_bytes) == (noted, len(text))


def test_note_stands_at_the_end_of_what_was_cut():
    capture = Capture(2)
    capture.append(b"abcdef")
    kept = capture.captured("why")
    assert (kept.head, kept.tail) == (b"ab", b"ef\njackline: why\n")


def test_store_counts_on_and_keeps_the_last(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    for number in range(KEPT + 3):
        path = store(folder, b"%d" % number)
        assert path.read_bytes() == b"%d" % number
    assert len(list(folder.iterdir())) == KEPT
    assert store(folder, path.read_bytes()) == path


def test_store_survives_what_an_interrupted_one_left(tmp_path: Path):
    (tmp_path / "crontab-000001.new").write_bytes(b"half")
    assert store(tmp_path, b"whole").read_bytes() == b"whole"


def test_store_never_writes_through_a_link(tmp_path: Path):
    target = tmp_path / "target"
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "crontab-000001.new").symlink_to(target)
    store(folder, b"x")
    assert not target.exists()
