"""The keys kind on a real loop, against a server that answers well, badly, slowly or not at all."""

from __future__ import annotations

import datetime
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.desk import DeskDouble
from tests.doubles.key_server import KeyServer
from tests.doubles.public_keys import ed25519, rsa
from tests.doubles.tls import Authority, self_signed
from tests.facilities import require, require_root
from workers.keys import fetch
from workers.keys import sync as keys_sync
from workers.keys import worker as keys_worker
from workers.keys.account import Account, find_account
from workers.keys.errors import SyncError
from workers.messages import End, KeysEnded, KeysSpec, Result

OLD = b"ssh-rsa AAAAold somebody\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this process's own account; the account's real one is left alone."""
    path = tmp_path / "home"
    (path / ".ssh").mkdir(parents=True, mode=0o700)
    (path / ".ssh" / "authorized_keys").write_bytes(OLD)
    account = Account("me", os.geteuid(), str(path))
    monkeypatch.setattr(keys_sync, "find_account", lambda _: account)
    return path


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as running:
        yield running


def start(server_url: str, **options: Any) -> tuple[DeskDouble, Any]:
    desk = DeskDouble()
    worker = keys_worker.make(desk)
    options = {"github_user": "octocat", "target_user": "me", "base_url": server_url} | options
    worker.on_start(KeysSpec(**options))
    return desk, worker


def run(server_url: str, **options: Any) -> KeysEnded:
    result = start(server_url, **options)[0].result()
    assert isinstance(result, KeysEnded)
    return result


def content(home: Path) -> bytes:
    return (home / ".ssh" / "authorized_keys").read_bytes()


def assert_refused(home: Path, result: Result, error: str) -> None:
    assert isinstance(result, KeysEnded)
    assert (result.ok, result.error, result.added) == (False, error, 0)
    assert content(home) == OLD
    assert os.listdir(home / ".ssh") == ["authorized_keys"]


def test_keys_sync_adds_what_is_missing_with_our_comment(home: Path, server: KeyServer) -> None:
    server.body = f'{ed25519(1)} evil"comment\ncommand="id" {ed25519(2)}\n{rsa(1024)}\n'.encode()
    result = run(server.url)
    assert (result.ok, result.added, result.rejected, result.error) == (True, 1, 2, None)
    assert ed25519(1).encode() + b" jackline:github:octocat\n" in content(home)
    assert content(home).startswith(OLD)
    assert b"evil" not in content(home)
    assert [path for path, _ in server.requests] == ["/octocat.keys"]


def test_keys_sync_same_keys_again_leaves_the_file_untouched(home: Path, server: KeyServer) -> None:
    server.body = ed25519(1).encode()
    run(server.url)
    before = (home / ".ssh" / "authorized_keys").stat()
    result = run(server.url)
    after = (home / ".ssh" / "authorized_keys").stat()
    assert (result.ok, result.added) == (True, 0)
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize(("mode", "removed"), [("add-only", 0), ("mirror", 1)])
def test_keys_sync_key_gone_at_the_source(
    home: Path, server: KeyServer, mode: str, removed: int
) -> None:
    server.body = f"{ed25519(1)}\n{ed25519(2)}\n".encode()
    run(server.url, mode=mode)
    server.body = ed25519(2).encode()
    result = run(server.url, mode=mode)
    assert (result.added, result.removed) == (0, removed)
    assert (ed25519(1).encode() in content(home)) == (mode == "add-only")
    assert content(home).startswith(OLD)


@pytest.mark.parametrize("mode", ["add-only", "mirror"])
@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        pytest.param(200, b"", {}, "empty", id="empty"),
        pytest.param(200, b" \n\n", {}, "empty", id="blank"),
        pytest.param(404, b"Not Found", {}, "http_404", id="404"),
        pytest.param(500, b"oops", {}, "http_500", id="500"),
        pytest.param(204, b"", {}, "http_204", id="204"),
        pytest.param(200, b"<!DOCTYPE html><p>hello", {}, "html", id="html-body"),
        pytest.param(200, b"hello", {"Content-Type": "Text/HTML"}, "html", id="html-type"),
        pytest.param(301, b"", {"Location": "/other"}, "redirect", id="redirect"),
        pytest.param(302, b"", {"Location": "http://127.0.0.1:1/"}, "redirect", id="redirect-away"),
        pytest.param(200, b"x" * 10_000_000, {}, "too_large", id="10-mb"),
        pytest.param(200, b"ssh-rsa AAAA x\n", {}, "no_keys", id="no-key"),
        pytest.param(200, b"\x1f\x8b", {"Content-Encoding": "gzip"}, "bad_body", id="gzip"),
    ],
)
def test_keys_sync_bad_answer_changes_nothing(
    home: Path,
    server: KeyServer,
    status: int,
    body: bytes,
    headers: dict[str, str],
    error: str,
    mode: str,
) -> None:
    server.status, server.body, server.headers = status, body, headers
    assert_refused(home, run(server.url, mode=mode), error)
    assert len(server.requests) == 1


def test_keys_sync_ten_thousand_keys_are_all_refused(home: Path, server: KeyServer) -> None:
    server.body = "\n".join(ed25519(number) for number in range(10_000)).encode()
    assert_refused(home, run(server.url), "too_many")


@pytest.mark.parametrize("mode", ["add-only", "mirror"])
def test_keys_sync_answer_cut_short_changes_nothing(
    home: Path, server: KeyServer, mode: str
) -> None:
    server.body = ed25519(1).encode()
    server.promised_bytes = 10_000
    assert_refused(home, run(server.url, mode=mode), "unreachable")


def test_keys_sync_one_byte_a_second_ends_at_the_deadline(
    home: Path, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single read is late, all of them together are."""
    assert fetch.DEADLINE_S == 10.0
    for module in ("fetch", "worker"):
        monkeypatch.setattr(f"workers.keys.{module}.DEADLINE_S", 2.5)
    server.body = ed25519(1).encode()
    server.drip = True
    result = run(server.url)
    assert_refused(home, result, "timeout")
    assert 2_400 <= result.duration_ms < 20_000


def test_keys_sync_loop_turns_while_the_server_says_nothing(home: Path) -> None:
    """The beat is sent by this loop: a slow server must not look like a hung worker."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        desk, _ = start(f"http://127.0.0.1:{silent.getsockname()[1]}")
        turns: list[float] = []
        desk.loop.call_later(0.05, lambda: turns.append(desk.loop.clock()))
        desk.run_until(lambda: turns)
        assert desk.results == []


def test_keys_sync_end_finishes_at_once_and_writes_nothing(home: Path, server: KeyServer) -> None:
    server.body = ed25519(1).encode()
    server.drip = True
    desk, worker = start(server.url)
    desk.run_until(lambda: server.requests)
    worker.on_message(End(reason="closed"))
    assert_refused(home, desk.results[0], "closed")


def test_keys_sync_nobody_listens(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert_refused(home, run(f"http://127.0.0.1:{port}"), "unreachable")


@pytest.mark.parametrize("user", ["../root", "-x", "a:b", "a\n", "", "a" * 40, "ü", "a/b", "a%2f"])
def test_keys_sync_bad_login_asks_nobody(home: Path, server: KeyServer, user: str) -> None:
    assert_refused(home, run(server.url, github_user=user), "bad_user")
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com",
        "file:///etc",
        "https://",
        "ftp://127.0.0.1",
        "http://127.0.0.1.evil.example",
    ],
)
def test_keys_sync_plain_http_is_for_loopback_alone(home: Path, url: str) -> None:
    assert_refused(home, run(url), "bad_url")


def test_keys_sync_ignores_the_environment(
    home: Path, server: KeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary")
    monkeypatch.setenv("NETRC", str(netrc))
    server.body = ed25519(1).encode()
    assert run(server.url).ok
    assert "Authorization" not in server.requests[0][1]


def test_keys_sync_goes_through_the_configured_proxy(home: Path, server: KeyServer) -> None:
    """A plain-http proxy sees the whole address: the stand-in server is one."""
    server.body = ed25519(1).encode()
    assert run("http://127.0.0.1:1", proxies={"http": server.url}).ok
    assert server.requests[0][0] == "http://127.0.0.1:1/octocat.keys"


def test_keys_sync_goes_past_the_proxy_to_whom_no_proxy_names(
    home: Path, server: KeyServer
) -> None:
    """As the link and the heartbeat do: `keys.baseUrl` may be a server of the machine's own net."""
    server.body = ed25519(1).encode()
    gone = "http://127.0.0.1:1"
    assert run(server.url, proxies={"http": gone, "all": gone, "no": "127.0.0.1"}).ok


def test_keys_sync_proxy_that_is_gone(home: Path) -> None:
    result = run("http://127.0.0.1:1", proxies={"http": "http://127.0.0.1:1"})
    assert_refused(home, result, "proxy")


# -- TLS -------------------------------------------------------------------------------------------


def test_keys_sync_over_https_with_a_ca_file(home: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with KeyServer(authority.issue()) as server:
        server.body = ed25519(1).encode()
        assert run(server.url, ca_file=str(authority.ca_file)).added == 1


@pytest.mark.parametrize("case", ["unknown", "self-signed", "expired", "wrong-host"])
def test_keys_sync_bad_certificate_changes_nothing(home: Path, tmp_path: Path, case: str) -> None:
    authority = Authority(tmp_path)
    files = {
        "unknown": lambda: Authority(tmp_path, "Other CA").issue(),
        "self-signed": lambda: self_signed(tmp_path),
        "expired": lambda: authority.issue(ends=-datetime.timedelta(days=1)),
        "wrong-host": lambda: authority.issue("elsewhere.example"),
    }[case]()
    with KeyServer(files) as server:
        server.body = ed25519(1).encode()
        result = run(server.url, ca_file=str(authority.ca_file))
        assert_refused(home, result, "tls")
        assert result.detail
        assert server.requests == []


def test_keys_sync_without_a_ca_file_trusts_the_system_alone(home: Path, tmp_path: Path) -> None:
    with KeyServer(Authority(tmp_path).issue()) as server:
        server.body = ed25519(1).encode()
        assert_refused(home, run(server.url), "tls")


def test_keys_sync_ca_file_that_is_none(home: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    assert_refused(home, run("https://127.0.0.1:1", ca_file=missing), "tls")


# -- accounts --------------------------------------------------------------------------------------


def test_find_account_own_account_has_a_home() -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    account = find_account(name)
    assert (account.name, account.uid) == (name, os.geteuid())


@pytest.mark.parametrize("name", ["no-such-account", "a\0b", "nobody", "daemon"])
def test_find_account_missing_or_foreign_is_no_user(name: str) -> None:
    with pytest.raises(SyncError) as refusal:
        find_account(name)
    assert refusal.value.reason == "no_user"


@pytest.mark.parametrize(
    ("shell", "directory"),
    [("/usr/sbin/nologin", "/"), ("/bin/false", "/"), ("/bin/sh", ""), ("/bin/sh", "/nonexistent")],
)
def test_find_account_without_login_or_home_is_no_user(
    monkeypatch: pytest.MonkeyPatch, shell: str, directory: str
) -> None:
    entry = pwd.struct_passwd(("svc", "x", os.geteuid(), os.getegid(), "", directory, shell))
    monkeypatch.setattr(pwd, "getpwnam", lambda _: entry)
    with pytest.raises(SyncError) as refusal:
        find_account("svc")
    assert refusal.value.reason == "no_user"


def test_keys_sync_missing_account_asks_nobody(server: KeyServer, tmp_path: Path) -> None:
    result = run(server.url, target_user="no-such-account")
    assert (result.ok, result.error) == (False, "no_user")
    assert server.requests == []


def test_keys_sync_hung_name_service_ends_in_timeout(
    home: Path, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(keys_sync, "find_account", lambda _: released.wait(60))
    monkeypatch.setattr(keys_worker, "DEADLINE_S", 0.2)
    try:
        assert_refused(home, run(server.url), "timeout")
    finally:
        released.set()


# -- the disk --------------------------------------------------------------------------------------


def test_keys_sync_full_disk_keeps_the_old_file(
    home: Path, server: KeyServer, tmp_path: Path
) -> None:
    require_root()
    mount = require("mount")
    ssh = home / ".ssh"
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", ssh], check=True)
    try:
        (ssh / "authorized_keys").write_bytes(OLD)
        server.body = "\n".join(ed25519(number) for number in range(90)).encode()
        assert_refused(home, run(server.url), "no_space")
    finally:
        subprocess.run([require("umount"), ssh], check=True)


def test_keys_sync_read_only_disk_is_named(home: Path, server: KeyServer) -> None:
    require_root()
    ssh = home / ".ssh"
    subprocess.run([require("mount"), "--bind", ssh, ssh], check=True)
    try:
        subprocess.run([require("mount"), "-o", "remount,bind,ro", ssh], check=True)
        server.body = ed25519(1).encode()
        assert_refused(home, run(server.url), "EROFS")
    finally:
        subprocess.run([require("umount"), ssh], check=True)


def test_keys_sync_file_of_root_keeps_its_owner(home: Path) -> None:
    """Another account's worker could replace the file, but not give it back to root."""
    require_root()
    ssh = home / ".ssh"
    for path in (home, ssh):
        os.chown(path, 65534, 65534)
    home.parent.chmod(0o755)
    script = (
        "import os, sys; sys.path[:] = eval(sys.argv[2])\n"
        "from workers.keys.authorized_keys import update\n"
        "from workers.keys.errors import SyncError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: update(sys.argv[1], lambda old: old + b'new', lambda: True)\n"
        "except SyncError as e: print(e.reason)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, home.name, repr(sys.path)],
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "EPERM"
    assert content(home) == OLD
    assert (ssh / "authorized_keys").stat().st_uid == 0
    assert os.listdir(ssh) == ["authorized_keys"]
