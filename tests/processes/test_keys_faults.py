"""authorized_keys is the old file or the new one: killed, and failed, at every system call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.facilities import only_if, require
from workers.keys.authorized_keys import TEMPORARY, update

OLD = b"ssh-rsa AAAAold somebody\n"
NEW = OLD + b"ssh-ed25519 AAAAnew ours\n"

# Waits until strace is attached, replaces the file once, and says how that went. It waits in a call
# that the writing has no use for: strace may or may not count one that it has found begun.
WAITS = {"poll", "ppoll", "restart_syscall"}
WRITER = """
import ctypes, os, select, sys
sys.path[:] = eval(sys.argv[2])
from workers.keys.authorized_keys import update
from workers.keys.errors import SyncError
new = sys.argv[3].encode()
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # let strace attach under Yama
told = select.poll()
told.register(0, select.POLLIN)
print("ready", flush=True)
told.poll()
try:
    update(sys.argv[1], lambda old: new, lambda: True)
    said = "ok"
except SyncError as e:
    said = e.reason
os.write(1, said.encode())
os._exit(0)
"""


class Call(NamedTuple):
    """The nth call of one name, counted from the moment that strace was attached."""

    name: str
    number: int


@pytest.fixture
def home(tmp_path: Path) -> Path:
    only_if(sys.platform == "linux", "strace is Linux's")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    put_back(home)
    return home


def put_back(home: Path) -> None:
    for name in os.listdir(home / ".ssh"):
        (home / ".ssh" / name).unlink()
    (home / ".ssh" / "authorized_keys").write_bytes(OLD)


def write_under_strace(home: Path, *options: str) -> tuple[str, str]:
    """Let a process of its own replace the file; return what it said and what strace saw."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(home), repr(sys.path), NEW.decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        with subprocess.Popen(
            [require("strace"), "-p", str(writer.pid), *options], stderr=subprocess.PIPE
        ) as tracer:
            assert tracer.stderr is not None
            attached = tracer.stderr.readline()
            assert b"attached" in attached, attached
            said, _ = writer.communicate(b"\n", timeout=60)
            seen = tracer.stderr.read()
    return said.decode(), seen.decode()


@pytest.fixture
def calls(home: Path) -> list[Call]:
    """Every system call of one write, in order."""
    said, seen = write_under_strace(home)
    assert said == "ok"
    names = re.findall(r"^(?:\[pid +\d+\] )?([a-z0-9_]+)\(", seen, re.MULTILINE)
    counted: Counter[str] = Counter()
    calls = []
    for name in names:
        if name not in WAITS:
            counted[name] += 1
            calls.append(Call(name, counted[name]))
    put_back(home)
    return calls


def content(home: Path) -> bytes:
    return (home / ".ssh" / "authorized_keys").read_bytes()


def test_update_killed_at_any_system_call_leaves_old_or_new(home: Path, calls: list[Call]) -> None:
    results = Counter[bytes]()
    for call in calls:
        kill = f"inject={call.name}:signal=SIGKILL:when={call.number}"
        write_under_strace(home, "-e", kill)
        results[content(home)] += 1
        assert set(os.listdir(home / ".ssh")) <= {"authorized_keys", TEMPORARY}, call
        update(str(home), lambda _: NEW, lambda: True)  # the next one cleans up and succeeds
        assert os.listdir(home / ".ssh") == ["authorized_keys"], call
        put_back(home)
    assert set(results) == {OLD, NEW}
    assert len(calls) > 15


MAY_FAIL = {"openat", "read", "write", "fstat", "newfstatat", "fchmod", "fsync", "close", "mkdirat"}


def faults(calls: list[Call]) -> Iterator[Call]:
    renamed = False
    for call in calls:
        renamed = renamed or call.name.startswith("rename")
        if call.name.startswith("rename") or (call.name in MAY_FAIL and not renamed):
            yield call


def test_update_failed_at_any_system_call_keeps_the_old_file(home: Path, calls: list[Call]) -> None:
    tried = list(faults(calls))
    for call in tried:
        fault = f"inject={call.name}:error=EIO:when={call.number}"
        said, _ = write_under_strace(home, "-e", fault)
        if "ok" not in said:
            assert content(home) == OLD, call
            assert said == "EIO", call
        else:
            assert content(home) == NEW, call
        assert os.listdir(home / ".ssh") == ["authorized_keys"], call
        put_back(home)
    assert {call.name for call in tried} >= {"openat", "write", "fsync"}


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        ("write", "ENOSPC", "no_space"),
        ("write", "EDQUOT", "no_space"),
        ("fsync", "ENOSPC", "no_space"),
        ("fsync", "EIO", "EIO"),
        ("/^rename", "EACCES", "EACCES"),
        ("/^rename", "EROFS", "EROFS"),
        ("fchmod", "EPERM", "EPERM"),
    ],
)
def test_update_error_is_named_and_no_temporary_is_left(
    home: Path, call: str, error: str, reason: str
) -> None:
    said, _ = write_under_strace(home, "-e", f"inject={call}:error={error}:when=1")
    assert said == reason
    assert content(home) == OLD
    assert os.listdir(home / ".ssh") == ["authorized_keys"]


def test_update_directory_that_cannot_be_synced_is_told(home: Path) -> None:
    """The one failure that comes after the new file has taken its place."""
    said, _ = write_under_strace(home, "-e", "inject=fsync:error=EIO:when=2")
    assert said == "EIO"
    assert content(home) == NEW


def test_update_file_system_without_locks_is_written(home: Path) -> None:
    said, _ = write_under_strace(home, "-e", "inject=flock:error=ENOLCK")
    assert said == "ok"
    assert content(home) == NEW
