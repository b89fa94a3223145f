"""A crontab read: words, next runs, zones, and lines that are none."""

from __future__ import annotations

from datetime import UTC, datetime

from hub.cron.rows import Row, rows

NOW = datetime(2026, 3, 28, 12, tzinfo=UTC)


def one(text: str, zone: str | None = None) -> Row:
    (found,) = rows(text, zone, NOW)
    return found


def test_row_has_plain_words_and_its_next_runs_in_its_zone() -> None:
    row = one("30 2 * * * /bin/backup --all\n", "Europe/Berlin")
    assert (row.kind, row.command, row.words) == ("job", "/bin/backup --all", "At 02:30 AM")
    assert (row.zone, row.zone_source) == ("Europe/Berlin", "machine")
    # The clocks change that night: once, not twice and not never.
    assert row.next_runs == [
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:30+02:00",
        "2026-03-31T02:30+02:00",
    ]


def test_zone_of_the_crontab_wins_and_an_unknown_one_is_said() -> None:
    text = "0 9 * * * a\nCRON_TZ=Asia/Tokyo\n0 9 * * * b\n"
    first, variable, second = rows(text, None, NOW)
    assert (first.zone, first.zone_source) == ("UTC", "unknown")
    assert variable.kind == "variable"
    assert (second.zone, second.zone_source, second.next_runs[0]) == (
        "Asia/Tokyo",
        "line",
        "2026-03-29T09:00+09:00",
    )


def test_names_comments_and_blank_lines() -> None:
    found = rows('# a\n\n@daily x\n@reboot y\nMAILTO=""\n', None, NOW)
    assert [(row.line, row.kind) for row in found] == [(3, "job"), (4, "job"), (5, "variable")]
    assert found[0].next_runs[0] == "2026-03-29T00:00+00:00"
    assert found[1].next_runs == []


def test_line_that_is_no_schedule_is_told() -> None:
    for text in ("61 * * * * x", "hello", "* * * *", "@fortnightly x", "a b c d e f"):
        row = one(text)
        assert row.kind == "fault" and row.fault, text


def test_schedule_that_never_comes_is_told() -> None:
    row = one("0 0 30 2 * x")
    assert row.kind == "fault" or row.next_runs == []
