"""Directories: where they are, and that one which is not as we left it is refused."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from agent import dirs
from agent.errors import DirectoryError


def test_dirs_are_moved_one_by_one(tmp_path: Path) -> None:
    moved = dirs.find({"JACKLINE_STATE_DIR": str(tmp_path), "JACKLINE_RUN_DIR": ""})
    assert moved.state == tmp_path
    assert moved.run == dirs.find({}).run


def test_dirs_of_root_are_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = dirs.find({})
    assert [str(path) for path in (found.config, found.state, found.run, found.log)] == [
        "/etc/jackline",
        "/var/lib/jackline",
        "/run/jackline",
        "/var/log/jackline",
    ]


def test_dirs_of_a_user_are_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    found = dirs.find({})
    assert found.config == tmp_path / ".config/jackline"
    assert found.state == tmp_path / ".local/state/jackline"
    assert tmp_path in found.run.parents or found.run.parent == Path("/run/user/12345")


def test_dirs_control_socket_of_the_system_is_asked_by_users_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert dirs.control_sockets({})[-1] == Path("/run/jackline/control.sock")
    named = dirs.control_sockets({"JACKLINE_RUN_DIR": "/x"})
    assert named == [Path("/x/control.sock")]


def test_dirs_prepare_makes_it_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        dirs.prepare(tmp_path / "a" / "b")
        dirs.prepare(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o1777])
def test_dirs_prepare_refuses_one_that_others_may_enter(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(DirectoryError, match="lets others in"):
        dirs.prepare(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_dirs_prepare_refuses_a_link_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file", "file/below"):
        with pytest.raises(DirectoryError):
            dirs.prepare(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner takes root")
def test_dirs_prepare_refuses_somebody_elses(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(DirectoryError, match="owned by uid 65534"):
        dirs.prepare(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="another group takes root")
def test_dirs_prepare_lets_the_control_group_pass(tmp_path: Path) -> None:
    dirs.prepare(tmp_path / "run", group=4242)
    found = (tmp_path / "run").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o710, 4242)
    dirs.prepare(tmp_path / "run", group=4242, may_be_passed=True)
    with pytest.raises(DirectoryError):
        dirs.prepare(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner takes root")
def test_dirs_root_finds_the_directories_of_the_services_account_in_order(tmp_path: Path) -> None:
    """Root looks; to run an agent in them it would have to own them."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    assert dirs.owner_of(state) == 65534
    dirs.check(state, owner=dirs.owner_of(state))
    with pytest.raises(DirectoryError):
        dirs.check(state)
    assert dirs.owner_of(tmp_path / "none") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="another group takes root")
def test_dirs_check_knows_the_control_group_and_changes_nothing(tmp_path: Path) -> None:
    dirs.prepare(tmp_path / "run", group=4242)
    dirs.check(tmp_path / "run", may_be_passed=True)
    with pytest.raises(DirectoryError, match="lets others in"):
        dirs.check(tmp_path / "run")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o710


@pytest.mark.skipif(os.geteuid() != 0, reason="another group takes root")
def test_dirs_prepare_takes_the_control_groups_way_back_when_there_is_none(tmp_path: Path) -> None:
    """Taken out of the configuration, or of the machine: no reason not to start."""
    dirs.prepare(tmp_path / "run", group=4242, may_be_passed=True)
    dirs.prepare(tmp_path / "run", may_be_passed=True)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    (tmp_path / "run").chmod(0o750)
    with pytest.raises(DirectoryError, match="lets others in"):
        dirs.prepare(tmp_path / "run", may_be_passed=True)


def test_dirs_control_group_that_nobody_tells_in_time_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()

    def hang(name: str) -> None:
        answer.wait(60)
        raise KeyError(name)

    monkeypatch.setattr("grp.getgrnam", hang)
    monkeypatch.setattr(dirs, "GROUP_TIMEOUT_S", 0.05)
    assert dirs.group_id("asked of a server that hangs") is None
    answer.set()
