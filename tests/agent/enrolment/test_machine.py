"""A machine is known again by what does not give its own id away."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dirs import Dirs, system_dirs
from agent.enrolment import machine


def where(state: Path) -> Dirs:
    return Dirs(config=state, state=state, run=state, log=state)


def test_id_is_stable_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "machine-id"
    system.write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(machine, "_SYSTEM_IDS", (system,))
    own = machine.machine_id(where(system_dirs().state))
    assert own == machine.machine_id(where(system_dirs().state))
    assert "0123456789abcdef" not in own and len(own) == 64
    assert own != machine.machine_id(where(tmp_path))


def test_machine_without_an_id_keeps_a_random_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SYSTEM_IDS", (tmp_path / "none",))
    first = machine.machine_id(where(tmp_path))
    assert machine.machine_id(where(tmp_path)) == first
    assert (tmp_path / "machine-id").stat().st_mode & 0o777 == 0o600


def test_facts_fit_an_enrolment_request() -> None:
    facts = machine.facts()
    assert set(facts) == {"hostname", "platform", "arch", "boot_id"} and all(facts.values())
