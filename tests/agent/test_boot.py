"""Which boot it is, where the kernel does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.boot import boot_id
from workers import processes


def test_boot_id_without_the_kernels_is_kept_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reboot takes that directory away, and with it the id."""
    assert boot_id(tmp_path) == processes.boot_id()
    monkeypatch.setattr(processes, "boot_id", lambda: None)
    made = boot_id(tmp_path)
    assert len(made) == 32 and boot_id(tmp_path) == made
    (tmp_path / "boot_id").unlink()
    assert boot_id(tmp_path) != made
