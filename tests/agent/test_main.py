"""What the start needs beside its parts; a whole agent runs in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import config
from agent.main import boot_id
from workers import processes


def test_boot_id_without_the_kernels_is_kept_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reboot takes that directory away, and with it the id."""
    environ = {
        "CLIENT_ID": "a",
        "SERVER_URL": "https://hub.example",
        "AUTH_TOKEN": "key",
        "JACKLINE_RUN_DIR": str(tmp_path),
        "JACKLINE_CONFIG_DIR": str(tmp_path),
    }
    settings = config.load(environ=environ)
    assert boot_id(settings) == processes.boot_id()
    monkeypatch.setattr(processes, "boot_id", lambda: None)
    made = boot_id(settings)
    assert len(made) == 32 and boot_id(settings) == made
    (tmp_path / "boot_id").unlink()
    assert boot_id(settings) != made
