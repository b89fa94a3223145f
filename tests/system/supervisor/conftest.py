"""One supervisord for all tests of a version; each of them finds the agent linked."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.doubles.supervised import Supervised, until


@pytest.fixture
def supervised(supervisord: Supervised) -> Iterator[Supervised]:
    """What was said is printed when the test fails."""
    if supervisord.state() in ("STOPPED", "EXITED", "FATAL"):
        supervisord.ctl("start", "agent")
    until(supervisord.link_up, "the link is up")
    yield supervisord
    for name in ("supervisord.log", "log/agent.log", "supervisord.out"):
        path = supervisord.root / name
        if path.exists():
            print(f"--- {path}\n{path.read_text()[-4000:]}", file=sys.stderr)
