"""An identity is believed only as we left it; a broken one is told in one sentence, and stays."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from agent import identity
from agent.errors import IdentityError
from agent.identity import Identity
from tests.facilities import require_root

KNOWN = Identity(
    agent_id="agent-7",
    asset_id="asset-7",
    hub_url="https://hub.example",
    server_url="https://live.example",
    service_account_token="bearer secret",
    auth_token="link secret",
    certificate="certificate",
    key="key secret",
    ca_chain="chain",
    not_before="2025-01-01T00:00:00.000Z",
    not_after="2025-02-01T00:00:00.000Z",
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    identity.write(path, KNOWN)
    return path


def file_of(state: Path) -> Path:
    return state / "identity" / "identity.json"


def told(state: Path) -> str:
    before = os.lstat(file_of(state))
    with pytest.raises(IdentityError) as caught:
        identity.read(state)
    after = os.lstat(file_of(state))
    assert (after.st_ino, after.st_size, after.st_mode) == (
        before.st_ino,
        before.st_size,
        before.st_mode,
    )
    sentence = str(caught.value)
    assert "\n" not in sentence and "secret" not in sentence
    return sentence


def test_identity_is_read_as_it_was_written(state: Path) -> None:
    assert identity.read(state) == KNOWN
    assert oct(file_of(state).stat().st_mode & 0o777) == "0o600"
    assert oct(file_of(state).parent.stat().st_mode & 0o777) == "0o700"


def test_machine_that_was_never_enrolled_has_none(tmp_path: Path) -> None:
    assert identity.read(tmp_path) is None
    assert not identity.exists(tmp_path)


def test_truncated_file_is_told_and_stays(state: Path) -> None:
    text = file_of(state).read_bytes()
    for length in (1, len(text) // 2, len(text) - 2):
        file_of(state).write_bytes(text[:length])
        assert "truncated or damaged" in told(state)


def test_empty_file_is_told(state: Path) -> None:
    file_of(state).write_bytes(b"")
    assert "is empty" in told(state)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_file_that_others_may_read_is_told(state: Path, mode: int) -> None:
    file_of(state).chmod(mode)
    assert f"mode {mode:04o}" in told(state)


def test_file_of_another_owner_is_told(state: Path) -> None:
    require_root()
    os.chown(file_of(state), 12345, -1)
    assert "is owned by uid 12345" in told(state)


def test_link_is_told_wherever_it_leads(state: Path, tmp_path: Path) -> None:
    file_of(state).rename(tmp_path / "elsewhere")
    file_of(state).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in told(state)


def test_dangling_link_is_not_taken_for_no_identity(state: Path) -> None:
    file_of(state).unlink()
    file_of(state).symlink_to("/nonexistent")
    assert "is a link" in told(state)


def test_pipe_is_told_and_not_waited_for(state: Path) -> None:
    file_of(state).unlink()
    os.mkfifo(file_of(state), 0o600)
    assert "not a regular file" in told(state)


def test_directory_that_others_may_enter_is_told(state: Path) -> None:
    file_of(state).parent.chmod(0o755)
    assert "0755" in told(state)


def test_identity_that_names_no_agent_is_told(state: Path) -> None:
    text = msgspec.json.encode(msgspec.structs.replace(KNOWN, agent_id="../x"))
    file_of(state).write_bytes(text)
    assert "agent_id" in told(state)


def test_failed_write_leaves_what_was_there(state: Path) -> None:
    require_root()
    file_of(state).parent.chmod(0o755)
    with pytest.raises(IdentityError):
        identity.write(state, msgspec.structs.replace(KNOWN, agent_id="other"))
    file_of(state).parent.chmod(0o700)
    assert identity.read(state) == KNOWN


def test_removed_identity_is_gone(state: Path) -> None:
    identity.remove(state)
    assert identity.read(state) is None


def test_representation_has_no_secret() -> None:
    assert "secret" not in repr(KNOWN) + str(KNOWN)


def test_retired_bearer_moves_calls_and_link_to_where_certificates_are_asked_for() -> None:
    assert (KNOWN.http_url, KNOWN.link_url) == ("https://hub.example", "https://live.example")
    moved = msgspec.structs.replace(KNOWN, mtls=True, agents_url="https://agents.example")
    assert (moved.http_url, moved.link_url) == ("https://agents.example",) * 2
    stayed = msgspec.structs.replace(KNOWN, mtls=True)
    assert stayed.http_url == "https://hub.example"


def test_identity_of_the_services_account_is_read_by_root(state: Path) -> None:
    """`doctor` and `config check` are root's, too; the file must be whose the directory is."""
    require_root()
    for path in (state, file_of(state).parent, file_of(state)):
        os.chown(path, 12345, -1)
    assert identity.read(state) == KNOWN
    os.chown(file_of(state), 0, -1)
    assert "is owned by uid 0" in told(state)
