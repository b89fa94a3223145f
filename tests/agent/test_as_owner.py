"""What root does in the directories of a service's account: as that account, and over no link."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent import dirs, exits, identity, killswitch
from agent.cli import pause, resume, stop
from agent.doctor import bundle, examination
from agent.enrolment import files, machine, pending, token_files
from agent.errors import DirectoryError, IdentityError
from agent.identity import Identity
from workers import jobs, processes
from workers.jobs import JobRecord

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another account")

ACCOUNT = 65534
IDENTITY = Identity(
    agent_id="agent-1",
    asset_id="asset-1",
    hub_url="https://hub.example",
    server_url="https://hub.example",
    service_account_token="s",
    auth_token="a",
    certificate="c",
    key="k",
    ca_chain="ca",
    not_before="2026-01-01T00:00:00Z",
    not_after="2026-01-02T00:00:00Z",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's that every account may pass; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def state(place: Path) -> Path:
    return given_to_account(place / "state")


@pytest.fixture
def precious(place: Path) -> Path:
    """A directory with a file in it that are root's alone."""
    made = place / "precious"
    made.mkdir(mode=0o700)
    (made / "file").write_text("root's")
    (made / "file").chmod(0o600)
    return made


def given_to_account(path: Path) -> Path:
    path.mkdir(mode=0o700)
    os.chown(path, ACCOUNT, ACCOUNT)
    return path


def linked(link: Path, target: Path, owner: int = ACCOUNT) -> Path:
    """Lay a link as its owner would."""
    link.symlink_to(target)
    os.chown(link, owner, owner, follow_symlinks=False)
    return link


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}


def untouched(precious: Path) -> bool:
    (only,) = precious.iterdir()
    return (only.read_text(), only.stat().st_uid, precious.stat().st_uid) == ("root's", 0, 0)


def test_root_is_the_account_meanwhile_and_root_afterwards(state: Path) -> None:
    before = os.getgroups()
    with pytest.raises(KeyError), dirs.as_owner(state):
        assert os.geteuid() == ACCOUNT and os.getegid() != 0 and os.getgroups() == []
        (state / "file").touch()
        raise KeyError
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, before)
    assert owners(state) == {ACCOUNT}


def test_account_has_its_own_group_where_the_directory_has_roots(state: Path) -> None:
    os.chown(state, ACCOUNT, 0)
    with dirs.as_owner(state):
        assert os.getegid() != 0


def test_directory_of_ours_or_of_nobody_changes_nothing(place: Path) -> None:
    for path in (place, place / "none", place / "none" / "below"):
        with dirs.as_owner(path):
            assert os.geteuid() == 0


def test_root_that_may_become_nobody_says_so_and_stays_root(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without CAP_SETUID."""

    def refuse(_uid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "seteuid", refuse)
    with pytest.raises(DirectoryError, match=f"root may not act as uid {ACCOUNT}"):
        with dirs.as_owner(state):
            raise AssertionError("it became the account all the same")
    assert os.getegid() == 0


def test_anybody_else_is_told_whose_it_is_and_who_may(place: Path, state: Path) -> None:
    os.seteuid(12345)
    try:
        with pytest.raises(DirectoryError, match=r"owned by uid 65534.*: run it as root or as \w+"):
            with dirs.as_owner(state):
                raise AssertionError("let in")
        with pytest.raises(DirectoryError, match=r"owned by uid 0 .*: run it as root$"):
            with dirs.as_owner(place):
                raise AssertionError("let in")
    finally:
        os.seteuid(0)


def test_who_prepares_anothers_directory_is_told_the_cure(state: Path) -> None:
    name = dirs.account_name(ACCOUNT)
    with pytest.raises(DirectoryError, match=f"run it as {name}, or give it to root"):
        dirs.prepare(state)


def test_identity_is_the_accounts_from_the_first_key_to_the_end(state: Path) -> None:
    with dirs.as_owner(state):
        dirs.prepare(state)
        assert pending.key_for(state, "digest", "k1") == "k1"
        assert pending.key_for(state, "digest", "k2") == "k1"
        identity.write(state, IDENTITY)
        pending.forget(state)
    assert owners(state) == {ACCOUNT}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*")}
    assert modes == {"identity": 0o700, "identity.json": 0o600}
    assert identity.read(state) == IDENTITY
    os.seteuid(ACCOUNT)  # a renewal, in the agent
    try:
        identity.write(state, msgspec.structs.replace(IDENTITY, certificate="renewed"))
    finally:
        os.seteuid(0)
    with dirs.as_owner(state):
        identity.remove(state)
    assert not identity.exists(state)


def test_planted_directory_of_the_identity_leads_root_nowhere(state: Path, precious: Path) -> None:
    linked(state / "identity", precious)
    with pytest.raises(IdentityError), dirs.as_owner(state):
        identity.write(state, IDENTITY)
    with pytest.raises(IdentityError), dirs.as_owner(state):
        pending.key_for(state, "digest", "k1")
    with pytest.raises(IdentityError), dirs.as_owner(state):
        identity.remove(state)
    assert untouched(precious)


@pytest.mark.parametrize("name", ["identity.json", "pending.json"])
def test_planted_file_is_replaced_and_not_followed(state: Path, precious: Path, name: str) -> None:
    folder = given_to_account(state / "identity")
    linked(folder / name, precious / "file")
    linked(folder / f".{name}.{os.getpid()}", precious / "file")
    with dirs.as_owner(state):
        pending.key_for(state, "digest", "k1")
        identity.write(state, IDENTITY)
    assert untouched(precious)
    assert not (folder / name).is_symlink() and owners(state) == {ACCOUNT}


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
def test_commands_of_root_leave_the_account_what_it_may_open(
    place: Path, state: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """`stop` makes the lock and the directory of jobs, where there has been none."""
    monkeypatch.setenv("JACKLINE_STATE_DIR", str(state))
    monkeypatch.setenv("JACKLINE_RUN_DIR", str(place / "run"))
    if command == "resume":
        with dirs.as_owner(state):
            killswitch.turn_on(state)
    main = {"pause": pause, "resume": resume, "stop": stop}[command]
    assert main.run([]) == exits.OK
    assert owners(state) <= {ACCOUNT}
    made = {path.name for path in state.iterdir()}
    assert made == {"pause": {"paused"}, "resume": set(), "stop": {"agent.lock", "jobs"}}[command]


def test_id_that_is_kept_is_the_accounts(
    place: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SYSTEM_IDS", (place / "none",))
    where = dirs.Dirs(config=place, state=state, run=place, log=place)
    assert machine.machine_id(where) == machine.machine_id(where)
    assert owners(state) == {ACCOUNT}


@pytest.mark.parametrize("name", ["paused", "agent.lock", "jobs"])
@pytest.mark.parametrize("is_hard", [False, True])
def test_commands_of_root_open_no_planted_file(
    place: Path,
    state: Path,
    precious: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    is_hard: bool,
) -> None:
    """A second name of root's file is one that the account cannot open either."""
    monkeypatch.setenv("JACKLINE_STATE_DIR", str(state))
    monkeypatch.setenv("JACKLINE_RUN_DIR", str(place / "run"))
    if name == "jobs":
        linked(state / name, precious)
    elif is_hard:
        os.link(precious / "file", state / name)
    else:
        linked(state / name, precious / "file")
    main = pause if name == "paused" else stop
    assert main.run([]) not in (exits.OK, exits.FAILED)
    assert untouched(precious)


@pytest.mark.parametrize("uid", [ACCOUNT, 0])
def test_stop_ends_the_accounts_jobs_and_nobody_elses(
    place: Path, state: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """Whoever owns the records could name any process in one, and root would end it."""
    monkeypatch.setenv("JACKLINE_STATE_DIR", str(state))
    monkeypatch.setenv("JACKLINE_RUN_DIR", str(place / "run"))
    with subprocess.Popen(["sleep", "600"], user=uid, group=uid) as process:
        try:
            found = processes.reference(process.pid)
            assert found is not None
            record = JobRecord(
                job_id="job-1",
                worker_id="admin-1",
                kind="admin",
                key="key",
                pid=found.pid,
                start_time=found.start_time,
                boot_id=processes.boot_id() or "",
                address="",
                token=b"",
            )
            with dirs.as_owner(state):
                jobs.place_record(str(state), record)
            assert stop.run([]) == exits.OK
            assert process.poll() == (None if uid == 0 else -signal.SIGTERM)
        finally:
            process.kill()


def test_bundle_of_root_holds_no_file_that_the_log_is_a_link_to(
    place: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = given_to_account(place / "log")
    for name in ("CONFIG", "STATE", "RUN", "LOG"):
        monkeypatch.setenv(f"JACKLINE_{name}_DIR", str(place / name.lower()))
    linked(log / "agent.log", precious / "file")
    scene = examination.scene(None, os.environ)
    bundle.write(place / "bundle.tar.gz", scene, [])
    with tarfile.open(place / "bundle.tar.gz") as archive:
        file = archive.extractfile("jackline-doctor/agent.log")
        assert file is not None and b"Permission denied" in file.read()


def test_way_over_a_link_of_the_accounts_is_refused(place: Path, precious: Path) -> None:
    home = given_to_account(place / "home")
    linked(home / "way", precious)
    for path in (home / "way", home / "way" / "state", home / "way" / "none" / "below"):
        with pytest.raises(DirectoryError, match="root does not follow"):
            with dirs.as_owner(path):
                raise AssertionError("it went there")


def test_way_over_a_link_of_roots_is_gone_but_not_over_the_next(
    place: Path, state: Path, precious: Path
) -> None:
    linked(place / "good", place, 0)
    with dirs.as_owner(place / "good" / "state"):
        assert os.geteuid() == ACCOUNT
    home = given_to_account(place / "home")
    linked(home / "way", precious)
    linked(place / "bad", home / "way", 0)
    with pytest.raises(DirectoryError, match="root does not follow"):
        dirs.refuse_links(place / "bad" / "state")


def test_ring_of_links_ends(place: Path) -> None:
    linked(place / "ring", place / "ring", 0)
    dirs.refuse_links(place / "ring" / "state")


def test_configuration_is_roots_and_the_service_may_read_it(place: Path) -> None:
    folder = place / "config"
    folder.mkdir()
    folder.chmod(0o750)
    os.chown(folder, 0, 4242)
    for path in files.write(folder / "agent-config.json", "reporter", group=17):
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 4242, 0o640)


@pytest.mark.parametrize(("group", "modes"), [(4242, [0o640, 0o640]), (None, [0o600, 0o644])])
def test_configuration_where_anybody_may_look_is_read_by_the_accounts_group(
    place: Path, group: int | None, modes: list[int]
) -> None:
    """As systemd makes /etc/jackline; without an account of its own, it is as it always was."""
    written = files.write(place / "config" / "agent-config.json", "reporter", group)
    assert [stat.S_IMODE(path.stat().st_mode) for path in written] == modes
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(0, group or 0)}


def test_group_of_the_service_is_asked_of_its_directory(place: Path, state: Path) -> None:
    assert dirs.service_group(place) is None and dirs.service_group(place / "none") is None
    assert dirs.service_group(state) not in (0, None)


def test_file_that_held_the_token_keeps_owner_group_and_mode(place: Path) -> None:
    path = place / "service.env"
    path.write_text("TOKEN=jle_secret\nCOLOUR=green\n")
    path.chmod(0o640)
    os.chown(path, 1234, 4242)
    assert token_files.scrub(path, "jle_secret") is None
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4242, 0o640)
    assert path.read_text() == "TOKEN=\nCOLOUR=green\n"
