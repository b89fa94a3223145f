from __future__ import annotations

import sys
from pathlib import Path

import pytest

import wire
from workers.telemetry.machine import _distribution, facts


def test_facts_of_this_machine() -> None:
    told = facts()
    assert set(told) == {"platform", "release", "arch", "kernelVersion", "cpus", "agentVersion"}
    assert told["platform"] == sys.platform
    assert told["agentVersion"] == wire.__version__
    assert told["cpus"] >= 1
    assert all(told.values())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "Debian GNU/Linux 12 (bookworm)",
        ),
        ("PRETTY_NAME='Alpine'\n", "Alpine"),
        ("PRETTY_NAME=Arch\n", "Arch"),
        ('PRETTY_NAME=""\n', None),
        ("NAME=x\n", None),
        ("", None),
    ],
)
def test_distribution_is_the_pretty_name(tmp_path: Path, text: str, name: str | None) -> None:
    file = tmp_path / "os-release"
    file.write_text(text)
    assert _distribution(str(file)) == name


def test_distribution_without_a_file_is_none(tmp_path: Path) -> None:
    assert _distribution(str(tmp_path / "none")) is None
