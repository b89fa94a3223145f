"""The kill switch: one file, shared with the policy engine."""

from __future__ import annotations

from pathlib import Path

from agent import killswitch
from workers import policy


def test_killswitch_is_the_file_that_the_policy_looks_at() -> None:
    assert killswitch.FILE_NAME == policy.KILL_SWITCH


def test_killswitch_turns_on_and_off_and_says_why(tmp_path: Path) -> None:
    assert not killswitch.is_on(tmp_path)
    killswitch.turn_on(tmp_path, "audit")
    assert killswitch.is_on(tmp_path)
    assert killswitch.why(tmp_path)["reason"] == "audit"
    assert killswitch.turn_off(tmp_path)
    assert not killswitch.is_on(tmp_path)
    assert not killswitch.turn_off(tmp_path)


def test_killswitch_is_on_whatever_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "paused").symlink_to("nowhere")
    assert killswitch.is_on(tmp_path)
    assert killswitch.why(tmp_path) == {}
