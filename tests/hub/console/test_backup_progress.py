"""The running card: percent, bytes, rate, time left, file, as the agent tells them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hub.backup.models import BackupPlan
from hub.backup.standing import Standing
from hub.backup.views import Seen
from hub.console import rendering

GIB = 1024**3
WORD: dict[str, Any] = {
    "percent": 42.9,
    "transferred_bytes": round(3.1 * GIB),
    "total_bytes": round(7.4 * GIB),
    "bytes_per_sec": 38 * 1024**2,
    "eta_sec": 120.0,
    "file": "srv/<b>a",
}


def line(doing: str | None, **word: Any) -> str:
    plan = BackupPlan(name="site")
    progress = {**WORD, **word} if word.get("percent", 0) is not None else None
    one = Seen(plan, None, Standing("ok", "Copied", doing), progress, [])
    template = '{% from "backups/parts.html" import far %}{{ far(one) }}'
    text = rendering.environment().from_string(template).render(one=one)
    return " ".join(re.sub(r"<[^>]*>", "", text).split())


def test_running_card_tells_percent_bytes_rate_time_left_and_file() -> None:
    assert line("running") == (
        "42 % · 3.1 of 7.4 GiB · 38.0 MiB/s · 2 min 0 s left · srv/&lt;b&gt;a"
    )


def test_running_card_leaves_out_what_the_agent_does_not_know() -> None:
    told = line("running", bytes_per_sec=None, eta_sec=None, file=None, transferred_bytes=10)
    assert told == "42 % · 10 B of 7.4 GiB"


@pytest.mark.parametrize(
    ("doing", "said"),
    [(None, ""), ("queued", "Waits for the machine."), ("verifying", "Verifying: begins.")],
)
def test_card_without_figures_says_what_is_under_way(doing: str | None, said: str) -> None:
    assert line(doing, percent=None) == said
