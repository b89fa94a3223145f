"""The agent under supervisor 4.2.5, in an interpreter that has no jackline installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.supervised import Supervised, running_supervisord
from tests.facilities import SUPERVISOR_42, require_path
from tests.system.supervisor.contract import SupervisorContract


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervised]:
    bin_dir = require_path(SUPERVISOR_42, "make .venv-supervisor-4.2/.ready")
    with running_supervisord(bin_dir) as running:
        yield running


class TestSupervisor42(SupervisorContract):
    """What Debian 12 ships."""
