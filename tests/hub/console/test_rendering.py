"""Pages escape what machines call themselves, and carry a strict policy."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from hub.console import rendering
from hub.console.strips import DAY_MS, Stretch, strip

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e\x00"


def render(text: str, **context: object) -> str:
    return rendering.environment().from_string(text).render(**context)


def test_a_hostile_name_stays_text() -> None:
    shown = render("<b>{{ name }}</b>", name=HOSTILE)
    assert shown == "<b>&lt;img src=x onerror=alert(1)&gt;\\x1b[31m\\x202e\\x00</b>"


def test_a_missing_name_is_a_fault_and_none_is_nothing() -> None:
    assert render("[{{ x }}]", x=None) == "[]"
    with pytest.raises(Exception, match="undefined"):
        render("{{ nowhere }}")


def test_policy_forbids_inline_scripts() -> None:
    policy = rendering.headers()["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert (
        "unsafe-inline"
        not in rendering.headers(rendering.PLAYER)["Content-Security-Policy"].partition(
            "style-src"
        )[0]
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0, "0 s"), (59.9, "59 s"), (3600, "1 h 0 min"), (273_600, "3 d 4 h")],
)
def test_durations_have_two_units(seconds: float | None, words: str) -> None:
    assert rendering.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB"), (None, "–")]
)
def test_sizes_have_binary_units(count: float | None, words: str) -> None:
    assert rendering.size(count) == words


def test_strip_covers_the_day_once() -> None:
    now = 10 * DAY_MS
    history = [
        Stretch(now - DAY_MS // 2, "online"),
        Stretch(now - DAY_MS // 4, "offline"),
        Stretch(now - DAY_MS // 8, 'x" onload="y'),
    ]
    picture = ET.fromstring(str(strip(history, now)))
    rects = [one for one in picture if one.tag == "rect"]
    assert [one.get("class") for one in rects] == ["unknown", "online", "offline", "unknown"]
    assert sum(float(one.get("width", "0")) for one in rects) == pytest.approx(120)
    assert picture.get("aria-label") == "online 25 % of the last 24 hours"


def test_stamps_in_a_sentence_are_times_and_the_rest_stays_text() -> None:
    said = render("{{ said | with_times }}", said="<b> since 2026-11-28T11:21:07.123Z")
    stamp = "2026-11-28T11:21:07.123Z"
    assert said == f'&lt;b&gt; since <time datetime="{stamp}">{stamp}</time>'
