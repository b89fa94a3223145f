from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from workers.files.errors import FilesError
from workers.files.listing import list_directory
from workers.frames import MAX_BODY_BYTES, message_frame
from workers.messages import Entry, Finished, Listed, encode


def listed(path: Path | str, roots: list[Path] | None = None, max_entries: int = 5000) -> Listed:
    side = [str(root) for root in roots or []]
    return list_directory(str(path), [side] if side else [], max_entries)


def refusal(path: Path | str, roots: list[Path] | None = None) -> str:
    with pytest.raises(FilesError) as refused:
        listed(path, roots)
    return refused.value.reason


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """data/ holds a little of everything; outside/ is none of its business."""
    data = tmp_path / "data"
    (data / "inner").mkdir(parents=True)
    (data / "b.txt").write_bytes(b"12345")
    (data / "a").write_bytes(b"")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"canary")
    return tmp_path


def test_listing_names_types_and_sizes_in_order(tree: Path) -> None:
    assert listed(tree / "data") == Listed(
        entries=[
            Entry(name="a", is_dir=False, size=0),
            Entry(name="b.txt", is_dir=False, size=5),
            Entry(name="inner", is_dir=True),
        ]
    )


def test_listing_special_files_and_links_are_files_without_a_size(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tree / "data" / "inner"
    os.mkfifo(data / "fifo")
    (data / "dangling").symlink_to(tree / "nothing")
    (data / "to-dir").symlink_to(tree / "outside")
    (data / "to-file").symlink_to(tree / "data" / "b.txt")
    monkeypatch.chdir(data)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        entries = listed(data).entries
    assert entries == [
        Entry(name=name, is_dir=False)
        for name in ("dangling", "fifo", "socket", "to-dir", "to-file")
    ]


def test_listing_names_that_are_not_utf8_are_shown(tree: Path) -> None:
    inner = os.fsencode(tree / "data" / "inner")
    for name in (b"\xff\xfe", b"new\nline", "ü".encode(), b" -rf"):
        os.close(os.open(os.path.join(inner, name), os.O_CREAT | os.O_WRONLY))
    names = [entry.name for entry in listed(tree / "data" / "inner").entries]
    assert sorted(names) == sorted(["��", "new\nline", "ü", " -rf"])


@pytest.mark.parametrize(("count", "truncated"), [(9, False), (10, False), (11, True), (50, True)])
def test_listing_cut_short_is_told_and_keeps_the_first_by_name(
    tree: Path, count: int, truncated: bool
) -> None:
    inner = tree / "data" / "inner"
    for number in range(count):
        (inner / f"{number:03}").touch()
    result = listed(inner, max_entries=10)
    assert [entry.name for entry in result.entries] == [f"{n:03}" for n in range(min(count, 10))]
    assert result.truncated is truncated


def test_listing_of_names_that_would_fill_a_frame_is_cut_and_told(tree: Path) -> None:
    """Names that are no UTF-8 grow threefold on the way."""
    inner = os.fsencode(tree / "data" / "inner")
    for number in range(3000):
        name = f"{number:04}".encode() + b"\xff" * 251
        os.close(os.open(os.path.join(inner, name), os.O_CREAT | os.O_WRONLY))
    result = listed(tree / "data" / "inner")
    assert result.truncated and result.entries[0].name.startswith("0000")
    assert len(message_frame(encode(Finished(result=result)))) < MAX_BODY_BYTES


def test_listing_large_directory_is_quick(tree: Path) -> None:
    inner = tree / "data" / "inner"
    for number in range(20_000):
        os.close(os.open(inner / str(number), os.O_CREAT | os.O_WRONLY))
    began = time.monotonic()
    assert len(listed(inner).entries) == 5000
    assert time.monotonic() - began < 5


# -- roots ---------------------------------------------------------------------------------------


def test_listing_root_and_below_are_allowed(tree: Path) -> None:
    for path in (tree / "data", tree / "data" / "inner", f"{tree}/data/", f"{tree}/data/../data"):
        assert listed(path, [tree / "data"]).error is None


@pytest.mark.parametrize("path", ["outside", "data/..", "data/../outside", "datax", "", "nothing"])
def test_listing_outside_of_the_roots_is_refused(tree: Path, path: str) -> None:
    (tree / "datax").mkdir()
    assert refusal(tree / path, [tree / "data"]) == "not_allowed"


def test_listing_link_out_of_the_roots_is_refused(tree: Path) -> None:
    (tree / "data" / "way-out").symlink_to(tree / "outside")
    (tree / "data" / "inner" / "up").symlink_to("../..")
    assert refusal(tree / "data" / "way-out", [tree / "data"]) == "not_allowed"
    assert refusal(tree / "data" / "inner" / "up" / "outside", [tree / "data"]) == "not_allowed"


def test_listing_link_that_stays_inside_and_root_that_is_a_link_are_allowed(tree: Path) -> None:
    (tree / "data" / "short").symlink_to("inner")
    (tree / "alias").symlink_to("data")
    assert listed(tree / "data" / "short", [tree / "data"]).error is None
    assert listed(tree / "alias" / "inner", [tree / "alias"]).error is None
    assert listed(tree / "data" / "inner", [tree / "alias"]).error is None


def test_listing_second_root_counts(tree: Path) -> None:
    assert listed(tree / "outside", [tree / "data", tree / "outside"]).error is None


def test_listing_directory_swapped_for_a_link_is_not_followed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check and the open: the check has seen a directory inside."""
    inner = tree / "data" / "inner"
    (tree / "data" / "inner" / "deep").mkdir()
    real_path = os.path.realpath

    def swap_after_looking(path: str) -> str:
        real = real_path(path)
        if path == str(inner / "deep") and not inner.is_symlink():
            inner.rename(tree / "gone")
            (tree / "outside" / "deep").mkdir()
            inner.symlink_to(tree / "outside")
        return real

    monkeypatch.setattr(os.path, "realpath", swap_after_looking)
    assert refusal(inner / "deep", [tree / "data"]) == "not_a_directory"


# -- what cannot be listed -----------------------------------------------------------------------


def test_listing_missing_is_not_found(tree: Path) -> None:
    assert refusal(tree / "data" / "nothing") == "not_found"
    assert refusal(tree / "data" / "nothing", [tree / "data"]) == "not_found"


def test_listing_file_and_fifo_are_no_directories(tree: Path) -> None:
    os.mkfifo(tree / "data" / "fifo")
    assert refusal(tree / "data" / "b.txt") == "not_a_directory"
    assert refusal(tree / "data" / "fifo") == "not_a_directory"
    assert refusal(tree / "data" / "b.txt" / "x") == "not_a_directory"


def test_listing_link_that_goes_round_is_refused(tree: Path) -> None:
    (tree / "data" / "loop").symlink_to("loop")
    assert refusal(tree / "data" / "loop") == "not_a_directory"


@pytest.mark.parametrize("path", ["", ".", "relative/path", "~", "/tmp/\0", "\0"])
def test_listing_path_that_is_none_is_refused(path: str) -> None:
    assert refusal(path) == "bad_path"


def test_listing_name_that_is_too_long_is_named(tree: Path) -> None:
    assert refusal(tree / ("x" * 300)) == "ENAMETOOLONG"


def test_listing_root_directory() -> None:
    assert "usr" in [entry.name for entry in listed("/").entries]
