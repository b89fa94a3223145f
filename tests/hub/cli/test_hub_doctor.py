"""`jackline hub doctor` names what is wrong and its cure."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from hub.cli import control, exits
from hub.db.database import Database


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    argv = ["init", "--state-dir", str(folder), "--admin", "root", "--password-stdin"]
    assert control.run(argv) == exits.OK
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("JACKLINE_HUB_PORT", str(free.getsockname()[1]))
    return folder


def findings(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict]]:
    capsys.readouterr()
    code = control.run(["doctor", "-o", "json", "--state-dir", str(state_dir)])
    return code, {one["what"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_hub_that_is_well_has_only_good_findings(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = findings(state_dir, capsys)
    assert code == exits.OK, found
    assert {one["state"] for one in found.values()} == {"good"}
    assert {"files", "disk", "modes", "schema", "database", "audit default"} <= set(found)


def test_files_that_others_may_read_are_named(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state_dir / "hub.yaml").write_text("")
    (state_dir / "hub.yaml").chmod(0o644)
    code, found = findings(state_dir, capsys)
    assert code == exits.FAILED
    assert "hub.yaml" in found["modes"]["said"]


def test_a_broken_audit_chain_is_named(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = Database(f"sqlite:///{state_dir}/hub.db")
    change = text("UPDATE audit SET outcome = 'x'")
    database.write_now(None, lambda session: session.execute(change))
    database.close()
    code, found = findings(state_dir, capsys)
    assert (code, found["audit default"]["state"]) == (exits.FAILED, "bad")


def test_a_hub_that_is_not_set_up_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = findings(tmp_path / "none", capsys)
    assert code == exits.FAILED
    assert "hub init" in found["files"]["cure"]


def test_a_database_that_is_none_is_said_to_be_none(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state_dir / "hub.db").write_bytes(b"no database" * 1000)
    code, found = findings(state_dir, capsys)
    assert (code, found["database"]["state"]) == (exits.FAILED, "bad")
