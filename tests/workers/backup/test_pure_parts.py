"""The parts of a backup that need no process: lines, codes, names, retention, manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.backup import argv, itemize, layout, manifest, outcomes, versions
from workers.backup.argv import Features, Transfer
from workers.backup.itemize import Item, Lines, Meter, Skipped
from workers.backup.layout import Snapshot
from workers.backup.meter import Progress
from workers.backup.outcomes import Words
from workers.errors import BackupError
from workers.messages_backup import BackupJob

ALL = Features(acls=True, xattrs=True, hard_links=True, checksum="xxh128")
SAMPLE = (
    b"created directory /x\n"
    b"cd+++++++++|4096|                                |2026/11/21-22:07:23|rwxr-xr-x|.///\n"
    b'skipping non-regular file "fifo"\n'
    b"\r              2   0%    0.00kB/s    0:00:00 (xfr#1, to-chk=11/13)\n"
    b">f+++++++++|2|be573118fb47cf582ef3a1a12238c2e5|2026/11/21-22:07:23|rw-r--r--|a|b//\n"
    b"hf+++++++++|3|                                |2026/11/21-22:07:23|rw-r--r--|c// => a|b\n"
    b"cL+++++++++|1|                                |2026/11/21-22:07:23|rwxrwxrwx|l// -> x//\n"
    b"*deleting  |0|                                |1970/01/01-00:00:00|---------|old//\n"
)


def job(**changes: object) -> BackupJob:
    given_: dict[str, object] = {"plan_id": "p", "folder": "/f", "sources": [], "dest_root": "/d"}
    return BackupJob(**{**given_, **changes})  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_lines_mean_the_same_however_they_are_cut(cuts: list[int]) -> None:
    lines, files, others, at = Lines(), [], [], 0
    for size in [*cuts, len(SAMPLE), None]:
        batch = lines.end() if size is None else lines.feed(SAMPLE[at : at + size])
        files += batch.files
        others += batch.others
        at += size or 0
    assert [itemize.item_of(row).name for row in files] == [b"a|b"]
    assert [type(each) for each in others] == [Item, Skipped, Meter, Item, Item, Item]
    assert (others[3].name, others[3].target) == (b"c", b"a|b")
    assert (others[4].name, others[4].target) == (b"l", b"x//")
    assert others[5].is_deletion
    assert lines.unknown == 1  # `created directory`


def test_progress_is_told_before_the_next_one_ends_its_line() -> None:
    """rsync writes the carriage return first."""
    lines = Lines()
    said = b"\r      4390914  35%    3.95MB/s    0:00:01  "
    assert [list(lines.feed(chunk).lines()) for chunk in (said[:17], said[17:], said, b"\r")] == [
        [], [Meter(4390914)], [Meter(4390914)], [],
    ]  # fmt: skip
    assert list(lines.feed(said.replace(b"439", b"871")).lines()) == [Meter(8710914)]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_is_counted_and_never_raises(chunks: list[bytes]) -> None:
    lines = Lines()
    for chunk in chunks:
        for line in lines.feed(chunk).lines():
            assert isinstance(line, Item | Meter | Skipped)
    lines.end()


def test_line_without_end_is_bounded() -> None:
    lines = Lines()
    for _ in range(100):
        assert list(lines.feed(b"x" * 10_000).lines()) == []
    assert lines.unknown


@given(st.binary(max_size=40))
def test_escapes_can_be_undone(name: bytes) -> None:
    assert itemize.plain_name(itemize.escaped_name(name)) == name


def test_plan_and_run_differ_in_dry_run_alone() -> None:
    transfer = Transfer("./", "/d/s/", filter_file="/f/0", delete=True)
    plan = argv.rsync_argv("/rsync", job(), ALL, transfer, dry_run=True)
    run = argv.rsync_argv("/rsync", job(), ALL, transfer, dry_run=False)
    assert [word for word in plan if word != "--dry-run"] == run
    assert run[-3:] == ["--", "./", "/d/s/"]


def test_ssh_never_asks_never_forwards_and_reads_only_named_files() -> None:
    words = argv.ssh_argv("/ssh", job(host="h", port=2222, user="u"), ["/k"])
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no"):
        assert f"-o{option}" in words
    assert words[words.index("-F") + 1] == "/dev/null"
    for bad in ("/a b", "rel", "/a'b", "/a%h"):
        with pytest.raises(BackupError):
            argv.ssh_argv("/ssh", job(host="h", identity_file=bad), ["/k"])


def test_remote_ipv6_address_is_bracketed() -> None:
    assert argv.remote("::1", "/d") == "[::1]:/d"


@pytest.mark.parametrize(
    ("code", "said", "verdict", "error"),
    [
        (0, "", "done", ""),
        (23, "rsync: [sender] send_files failed to open x: Permission denied (13)", "partial", ""),
        (24, "file has vanished: x", "partial", ""),
        (11, "write failed: No space left on device (28)", "failed", "no_space"),
        (12, "error in rsync protocol", "again", "connection"),
        (30, "", "again", "timeout"),
        (255, "Host key verification failed.", "failed", "host_key"),
        (255, "ssh: connect to host h port 22: Connection refused", "again", "ssh"),
        (255, "u@h: Permission denied (publickey).", "failed", "ssh_auth"),
        (127, "sh: rsync: not found", "failed", "no_rsync"),
        (-9, "", "again", "killed"),
        (99, "", "failed", "rsync_failed"),
    ],
)
def test_exit_code_and_last_words_become_a_verdict(
    code: int, said: str, verdict: str, error: str
) -> None:
    words = Words()
    words.feed(said.encode())
    words.end()
    outcome = outcomes.judge(code, words)
    assert (outcome.verdict, outcome.error) == (verdict, error)
    assert outcome.sentence or verdict == "done"


def test_version_is_read_with_what_it_lacks() -> None:
    old = versions.parse(
        "rsync  version 3.1.3  protocol version 31\nCapabilities:\n"
        "    64-bit files, hardlinks, symlinks, no ACLs, xattrs\n"
    )
    assert (old.number, old.acls, old.xattrs, old.hard_links) == ((3, 1, 3), False, True, True)
    assert old.is_usable and versions.warning(old, None)
    assert versions.parse("garbage") == versions.UNKNOWN
    assert argv.common(old, None).algorithm == "md5"


def snapshot(seq: int, stamp: str, label: str = "") -> Snapshot:
    return Snapshot(seq, stamp, label)


def test_retention_goes_by_sequence_and_never_drops_the_newest() -> None:
    days = [snapshot(n, f"202611{n:02d}T030000Z") for n in range(1, 21)]
    assert layout.kept(days, {}) == set(days)
    assert layout.kept(days, {"keep_last": 3}) == set(days[-3:])
    assert layout.kept(days, {"daily": 2, "monthly": 1}) == set(days[-2:])
    assert days[-1] in layout.kept(days, {"yearly": 1})
    # A clock that was a year back for a while changes nothing about who is newest.
    wrong = [*days, snapshot(21, "20251101T030000Z")]
    assert layout.kept(wrong, {"keep_last": 1}) >= {wrong[-1]}
    for bad in ({"sometimes": 1}, {"daily": -1}):
        with pytest.raises(BackupError):
            layout.kept(days, bad)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.integers(0, 5))
def test_retention_keeps_at_least_the_last_ones(stamps: list[int], last: int) -> None:
    made: list[Snapshot] = []
    for seconds in stamps:
        fresh = layout.fresh(made, seconds)
        made.append(fresh._replace(label=""))
        assert layout.parse(made[-1].name) == made[-1]
    kept = layout.kept(made, {"keep_last": last, "weekly": 1})
    assert set(made[-max(1, last) :]) <= kept <= set(made)


def test_pruning_is_refused_while_the_newest_lies_in_the_future() -> None:
    future = [snapshot(1, "20200101T000000Z"), snapshot(2, "29990101T000000Z")]
    with pytest.raises(BackupError):
        layout.refuse_future(future, 1_700_000_000)


def row(name: bytes, checksum: bytes = b"") -> itemize.Row:
    change = b">f+++++++++" if checksum else b".f         "
    return (change, b"5", checksum, b"2026/11/21-22:07:23", b"rw-r--r--", name, b"")


def test_manifest_carries_checksums_over_and_survives_being_broken_off(tmp_path: Path) -> None:
    first = manifest.Writer(tmp_path / "000001.tsv", "xxh128", [])
    first.add_files(b"src", [row(b"f%d" % number, b"%032d" % number) for number in range(50)])
    hard = Item(b"hf+++++++++", 5, b"", b"2026/11/21-22:07:23", b"rw-r--r--", b"hard", b"f7")
    first.add(b"src", hard)
    first.finish()
    entries = {each.name: each for each in manifest.read(tmp_path / "000001.tsv")}
    assert entries[b"src/hard"].checksum == b"%032d" % 7
    broken = manifest.Writer(tmp_path / "000002.tsv", "xxh128", [tmp_path / "000001.tsv"])
    for number in reversed(range(50)):  # in another order, too
        broken.add_files(b"src", [row(b"f%d" % number)])
    broken.add_files(b"src", [row(b"never seen")])
    broken.flush()
    (tmp_path / "torn").write_bytes((tmp_path / "000002.tsv.open").read_bytes()[:-20])
    assert (broken.unknown, len(list(manifest.read(tmp_path / "torn")))) == (1, 50)
    broken.leave()
    found = {each.name: each.checksum for each in manifest.read(tmp_path / "000002.tsv.open")}
    assert found[b"src/f31"] == b"%032d" % 31


def test_checksums_of_another_kind_are_not_carried_over(tmp_path: Path) -> None:
    first = manifest.Writer(tmp_path / "000001.tsv", "md5", [])
    first.add_files(b"src", [row(b"f", b"0" * 32)])
    first.finish()
    second = manifest.Writer(tmp_path / "000002.tsv", "xxh128", [tmp_path / "000001.tsv"])
    second.add_files(b"src", [row(b"f")])
    second.finish()
    (entry,) = manifest.read(tmp_path / "000002.tsv")
    assert (entry.checksum, second.unknown) == (manifest.NONE, 1)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**6)), max_size=30))
def test_percent_never_falls_and_no_time_is_promised_without_a_rate(
    moves: list[tuple[float, int]],
) -> None:
    progress, now, last = Progress(0.0, 10**6), 0.0, 0.0
    for passed, done in moves:
        now += passed
        progress.move(now, done, done)
        assert last <= progress.percent < 100
        last = progress.percent
        assert progress.eta_s is None or progress.rate
    assert Progress(0.0, 0).eta_s is None


def test_rate_counts_from_the_first_byte_and_then_forgets() -> None:
    progress = Progress(0.0, 10**9)
    progress.move(10.0, 0, 0)  # it looks for files
    progress.move(11.0, 10, 10)
    for second in range(12, 20):
        progress.move(float(second), 10 + 1000 * (second - 11), 10 + 1000 * (second - 11))
    assert progress.rate == pytest.approx(8_010 / 9, rel=0.1)
    for second in range(20, 200):
        progress.move(float(second), 8_010 + second, 8_010 + second)
    assert progress.rate == pytest.approx(1, rel=2.0)
