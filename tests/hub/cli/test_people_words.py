"""`jackline hub user|tenant|audit` on the hub's own machine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from hub import keyring
from hub.cli import control, exits
from hub.db.database import Database

PASSWORD = "correct horse battery\n"


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = str(tmp_path / "hub")
    type_in(monkeypatch, PASSWORD)
    argv = ["init", "--state-dir", folder, "--admin", "root", "--password-stdin"]
    assert control.run(argv) == exits.OK
    return folder


def type_in(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))


def users(state_dir: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    capsys.readouterr()
    assert control.run(["user", "ls", "-o", "json", "--state-dir", state_dir]) == exits.OK
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)}


def test_users_are_made_listed_changed_and_disabled(
    state_dir: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--state-dir", state_dir]
    assert control.run(["tenant", "add", "acme", *here]) == exits.OK
    type_in(monkeypatch, PASSWORD)
    add = ["user", "add", "ann", "--tenant", "acme", "--role", "auditor", "--password-stdin"]
    assert control.run([*add, *here]) == exits.OK
    assert control.run(["user", "role", "ann", "operator", *here]) == exits.OK
    found = users(state_dir, capsys)["ann"]
    assert (found["tenant"], found["role"], found["disabled_at"]) == ("acme", "operator", None)
    assert control.run(["user", "disable", "ann", *here]) == exits.OK
    assert users(state_dir, capsys)["ann"]["disabled_at"]
    assert control.run(["user", "enable", "ann", *here]) == exits.OK
    type_in(monkeypatch, PASSWORD)
    assert control.run(["user", "passwd", "ann", "--password-stdin", *here]) == exits.OK


def test_refusals_say_why_by_their_exit_code(
    state_dir: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--state-dir", state_dir]
    assert control.run(["user", "disable", "nobody", *here]) == exits.NOT_FOUND
    assert control.run(["user", "disable", "root", *here]) == exits.REFUSED
    assert control.run(["tenant", "add", "a b", *here]) == exits.USAGE
    type_in(monkeypatch, "short\n")
    assert control.run(["user", "add", "x", "--password-stdin", *here]) == exits.USAGE
    assert "last system_admin" in capsys.readouterr().err


def test_tenants_are_disabled_and_listed(
    state_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--state-dir", state_dir]
    control.run(["tenant", "add", "acme", *here])
    assert control.run(["tenant", "disable", "acme", *here]) == exits.OK
    capsys.readouterr()
    control.run(["tenant", "ls", "--json", *here])
    disabled = {one["name"]: one["disabled_at"] for one in json.loads(capsys.readouterr().out)}
    assert disabled["acme"]
    assert disabled["default"] is None


def test_the_audit_is_verified_and_a_changed_row_named(
    state_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = ["audit", "verify", "--state-dir", state_dir]
    control.run(["user", "role", "root", "system_admin", "--state-dir", state_dir])
    assert control.run(verify) == exits.OK
    assert "default: 2 rows, whole" in capsys.readouterr().out
    database = Database(f"sqlite:///{state_dir}/hub.db")
    change = text("UPDATE audit SET outcome = 'x' WHERE seq = 2")
    database.write_now(None, lambda session: session.execute(change))
    database.close()
    assert control.run(verify) == exits.FAILED
    assert "default: broken at sequence 2" in capsys.readouterr().err


def test_an_export_is_verified_where_no_hub_is(
    state_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "audit.jsonl")
    export = ["audit", "export", "--tenant", "default", file, "--state-dir", state_dir]
    assert control.run(export) == exits.OK
    key = keyring.load(Path(state_dir)).public_key_hex
    assert key in capsys.readouterr().out
    assert control.run(["audit", "verify", "--file", file, "--key", key]) == exits.OK
    changed = Path(file).read_text().replace('"ok"', '"no"')
    Path(file).write_text(changed)
    assert control.run(["audit", "verify", "--file", file, "--key", key]) == exits.USAGE
    assert control.run(["audit", "verify", "--file", file, "--key", "zz"]) == exits.USAGE
