"""A hub is saved while it runs and comes back whole."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.cli import archive, control, exits
from hub.db.database import Database
from hub.errors import SettingsError
from hub.jobs.models import Job
from hub.operators import credentials, service
from hub.operators.models import Login, Tenant, User
from tests.doubles.postgres import PostgresServer
from tests.hub.seeds import Seeds


@pytest.fixture(params=["sqlite", "postgresql"])
def state_dir(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir(mode=0o700)
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").create()
        (folder / "hub.yaml").write_text(json.dumps({"database_url": url}))
        (folder / "hub.yaml").chmod(0o600)
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    argv = ["init", "--state-dir", str(folder), "--admin", "root", "--password-stdin"]
    assert control.run(argv) == exits.OK
    return folder


def url_of(state_dir: Path) -> str:
    file = state_dir / "hub.yaml"
    if file.exists():
        return json.loads(file.read_text())["database_url"]
    return f"sqlite:///{state_dir}/hub.db"


def tenants(state_dir: Path) -> list[str]:
    database = Database(url_of(state_dir))
    try:
        return database.read_now(None, lambda session: sorted(session.scalars(select(Tenant.name))))
    finally:
        database.close()


def test_a_hub_comes_back_as_it_was_when_it_was_saved(
    state_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file, back = tmp_path / "saved.tar", tmp_path / "back"
    running = Database(url_of(state_dir))  # as the hub holds it
    running.write_now(None, lambda session: service.add_tenant(session, "before"))
    assert control.run(["backup", str(file), "--state-dir", str(state_dir)]) == exits.OK
    running.write_now(None, lambda session: service.add_tenant(session, "after"))
    running.close()
    if (state_dir / "hub.yaml").exists():
        server: PostgresServer = request.getfixturevalue("postgres")
        server.drop(url_of(state_dir))
        server.create_again(url_of(state_dir))
    assert control.run(["restore", str(file), "--state-dir", str(back)]) == exits.OK
    assert tenants(back) == ["before", "default"]
    assert (back / "keyring").read_text() == (state_dir / "keyring").read_text()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in back.iterdir() if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert control.run(["audit", "verify", "--state-dir", str(back)]) == exits.OK


@pytest.mark.parametrize("state_dir", ["sqlite"], indirect=True)
def test_what_may_have_happened_since_is_ended(state_dir: Path, tmp_path: Path) -> None:
    running = Database(url_of(state_dir))

    def ask(session: Session) -> None:
        user = session.scalars(select(User)).one()
        credentials.issue(session, user, "session")
        Seeds(session, user.tenant_id, "X")

    running.write_now(None, ask)
    running.close()
    file, back = tmp_path / "saved.tar", tmp_path / "back"
    back.mkdir(mode=0o700)
    assert control.run(["backup", str(file), "--state-dir", str(state_dir)]) == exits.OK
    archive.restore(file, back)
    restored = Database(url_of(back))

    def look(session: Session) -> tuple[list[str], list[str]]:
        good = select(Login.kind).where(Login.revoked_ms.is_(None))
        return list(session.scalars(select(Job.state))), list(session.scalars(good))

    assert restored.read_now(None, look) == (["unknown"], ["token"])
    restored.close()


@pytest.mark.parametrize("state_dir", ["sqlite"], indirect=True)
def test_nothing_is_written_over(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "saved.tar"
    backup = ["backup", str(file), "--state-dir", str(state_dir)]
    assert control.run(backup) == exits.OK
    before = file.read_bytes()
    assert control.run(backup) == exits.CONFIGURATION
    assert file.read_bytes() == before
    restore = ["restore", str(file), "--state-dir", str(state_dir)]
    assert control.run(restore) == exits.CONFIGURATION
    assert "there is a hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names", [[], ["keyring"], ["hub.db"], ["../keyring", "hub.db"], ["keyring", "../hub.db"]]
)
def test_what_is_no_backup_is_refused_and_leaves_nothing(tmp_path: Path, names: list[str]) -> None:
    file, back = tmp_path / "saved.tar", tmp_path / "back"
    back.mkdir(mode=0o700)
    with tarfile.open(file, "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(SettingsError, match="no hub's backup"):
        archive.restore(file, back)
    assert list(back.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "saved.tar"]


@pytest.mark.parametrize("member", ["keyring", "hub.db"])
def test_a_link_in_a_backup_is_not_followed(tmp_path: Path, member: str) -> None:
    file, back = tmp_path / "saved.tar", tmp_path / "back"
    back.mkdir(mode=0o700)
    with tarfile.open(file, "w") as tar:
        for name in ("keyring", "hub.db"):
            info = tarfile.TarInfo(name)
            if name == member:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info, io.BytesIO())
    with pytest.raises(SettingsError, match="is no file"):
        archive.restore(file, back)
