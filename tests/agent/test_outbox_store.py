"""The outbox's file: what is kept, in what order, with which rights, and what damage does."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import OutboxError
from agent.outbox_store import Draft, Store, read_entries

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_790_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path)
    yield opened
    opened.close()


def draft(number: int, payload: bytes = b"{}", **fields: str) -> Draft:
    return Draft(f"id-{number}", f"key-{number}", None, "shell_closed", payload, **fields)


def test_store_gives_back_in_order_what_was_added(store: Store) -> None:
    assert store.add([draft(1), draft(2)], NOW_MS) == [1, 2]
    assert store.add([draft(3)], NOW_MS) == [3]
    assert [row.id for row in store.after(0, 10, 1000)] == ["id-1", "id-2", "id-3"]
    assert [row.id for row in store.after(1, 1, 1000)] == ["id-2"]
    assert store.last_seq() == 3


def test_store_bounds_a_stretch_by_bytes_but_gives_one(store: Store) -> None:
    store.add([draft(number, b"x" * 100) for number in range(5)], NOW_MS)
    assert len(store.after(0, 10, 250)) == 2
    assert len(store.after(0, 10, 10)) == 1


def test_store_drops_a_second_final_for_a_key_even_after_the_first_is_gone(store: Store) -> None:
    store.add([draft(1)], NOW_MS)
    store.remove(["id-1"])
    assert store.add([draft(1)._replace(id="again")], NOW_MS) == [None]
    assert store.entries() == []


def test_store_never_reuses_a_seq(store: Store) -> None:
    store.add([draft(1)], NOW_MS)
    store.remove(["id-1"])
    assert store.add([draft(2)], NOW_MS) == [2]


def test_store_keeps_a_result_after_its_final_is_gone(store: Store) -> None:
    store.add([draft(1, b'{"a":1}', job_id="j", digest="d")], NOW_MS)
    store.remove(["id-1"])
    assert store.find_result("j") == ("d", "shell_closed", b'{"a":1}')
    assert store.find_result("other") is None


def test_store_forgets_results_and_keys_after_seven_days(store: Store) -> None:
    store.add([draft(1, job_id="old", digest="d")], NOW_MS - 7 * DAY_MS - 1)
    store.add([draft(2, job_id="new", digest="d")], NOW_MS - 7 * DAY_MS + 1)
    store.prune(NOW_MS)
    assert store.find_result("old") is None
    assert store.find_result("new") is not None
    assert [entry.key for entry in store.entries()] == ["key-1", "key-2"]


def test_store_names_the_oldest_results_that_do_not_fit(store: Store) -> None:
    for number in range(4):
        store.add([draft(number, b"x" * 5000, job_id=f"j{number}", digest="d")], NOW_MS + number)
    assert [found[0] for found in store.oldest_results(10_500)] == ["j0", "j1"]
    store.shorten_result("j0", b"short")
    assert store.find_result("j0") == ("d", "shell_closed", b"short")


def test_store_does_not_offer_what_is_parked(store: Store) -> None:
    store.add([draft(1), draft(2)], NOW_MS)
    store.park("id-1", "five times")
    assert [row.id for row in store.after(0, 10, 1000)] == ["id-2"]
    assert store.totals() == (1, 4, 1)
    assert store.entries()[0].parked == "five times"
    assert store.unpark() == 1
    assert len(store.after(0, 10, 1000)) == 2


def test_store_counts_strikes(store: Store) -> None:
    store.add([draft(1)], NOW_MS)
    assert [store.strike("id-1") for _ in range(3)] == [1, 2, 3]
    assert store.strike("gone") == 0


def test_failed_addition_changes_nothing(store: Store) -> None:
    store.add([draft(1)], NOW_MS)
    with pytest.raises(sqlite3.IntegrityError):
        store.add([draft(2), draft(3)._replace(id="id-1")], NOW_MS)
    assert [entry.id for entry in store.entries()] == ["id-1"]
    assert store.add([draft(2)], NOW_MS) == [2]


def test_file_is_ours_alone(path: Path, store: Store) -> None:
    store.add([draft(1)], NOW_MS)
    modes = {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == {0o600}


def test_file_is_not_opened_through_a_link(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"")
    path.symlink_to(target)
    with pytest.raises(OutboxError):
        Store(path)
    assert target.read_bytes() == b""


@pytest.mark.parametrize(
    "content", [b"no database at all" * 400, b"SQLite format 3\0" + b"\0" * 5000]
)
def test_damaged_file_is_moved_aside_and_a_new_one_begun(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = Store(path)
    assert store.moved_aside is not None
    assert store.moved_aside.read_bytes() == content
    assert store.add([draft(1)], NOW_MS) == [1]
    store.close()


def test_damage_inside_a_file_is_found_at_the_start(path: Path) -> None:
    store = Store(path)
    store.add([draft(number, b"x" * 3000) for number in range(40)], NOW_MS)
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 9] = os.urandom(4096 * 6)
    path.write_bytes(content)
    store = Store(path)
    assert store.moved_aside is not None
    assert store.entries() == []
    store.close()


def test_only_the_latest_damaged_files_are_kept(path: Path) -> None:
    for number in range(5):
        path.write_bytes(b"damage" * 200 + bytes([number]))
        Store(path).close()
    assert len(list(path.parent.glob("*.damaged-*"))) == 3


def test_file_of_another_version_is_moved_aside(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    store = Store(path)
    assert store.moved_aside is not None
    store.close()


def test_entries_are_read_without_the_agent(path: Path, store: Store) -> None:
    store.add([draft(1, b"x" * 77)], NOW_MS)
    (entry,) = read_entries(path)
    assert (entry.key, entry.event, entry.size, entry.stored_ms) == (
        "key-1",
        "shell_closed",
        77,
        NOW_MS,
    )
    assert read_entries(path.with_name("absent.db")) == []


def test_second_connection_sees_what_was_committed(path: Path, store: Store) -> None:
    other = Store(path)
    store.add([draft(1, job_id="j", digest="d")], NOW_MS)
    assert other.find_result("j") is not None
    other.close()
