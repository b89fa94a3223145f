"""Keys, files and telemetry from event to answer: real zygote, real confined workers, no link."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.files import Files
from agent.keys import KeySyncs
from agent.telemetry import Telemetry
from tests.doubles.endpoint import Endpoint, endpoint
from tests.doubles.key_server import KeyServer
from tests.doubles.public_keys import ed25519
from tests.facilities import only_if, require_root
from wire.files import (
    DirListRequest,
    DirListResponse,
    LogTailClosed,
    LogTailOutput,
    LogTailStart,
    LogTailStop,
)
from wire.keys import KeysSyncResult, SyncKeys
from wire.telemetry import Stats
from workers.messages import KeysSpec


@pytest.fixture
def place() -> Iterator[Endpoint]:
    with endpoint() as built:
        yield built


def files(place: Endpoint, log_path: Path, *roots: list[str]) -> Files:
    return Files(
        place.pool, place.uplink, str(log_path), lambda: None, lambda _: None, lambda: list(roots)
    )


def list_directory(place: Endpoint, family: Files, path: str) -> DirListResponse:
    place.uplink.said.clear()
    family.on_list(DirListRequest(client_id="a", request_id="r1", mode="local", path=path))
    (answer,) = place.until(lambda: place.uplink.of(DirListResponse))
    assert isinstance(answer, DirListResponse)
    return answer


def test_listing_comes_back_with_its_request(place: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"123")
    family = files(place, tmp_path / "agent.log", [str(tmp_path)])
    answer = list_directory(place, family, str(tmp_path))
    assert (answer.request_id, answer.path, answer.error) == ("r1", str(tmp_path), None)
    assert [(e.name, e.type, e.size) for e in answer.entries] == [
        ("dir", "dir", None),
        ("file", "file", 3),
    ]
    assert list_directory(place, family, "/etc").error == "not_allowed"
    assert list_directory(place, family, str(tmp_path / "none")).error == "not_found"


def tailed(place: Endpoint) -> str:
    return "".join(event.data for event in place.uplink.of(LogTailOutput))


@pytest.mark.parametrize("beside_secrets", [False, True])
def test_tail_goes_on_across_rotations(
    place: Endpoint, tmp_path: Path, beside_secrets: bool
) -> None:
    """Beside the configuration each new file takes a new worker; nobody at the server notices."""
    directory = Path(place.state) if beside_secrets else tmp_path
    log = directory / "agent.log"
    log.write_text("zero\none\n")
    family = files(place, log)
    family.on_tail_start(LogTailStart(session="t1", lines=1))
    place.until(lambda: tailed(place) == "one\n")
    for turn in range(3):
        log.rename(log.with_suffix(f".{turn}"))
        log.write_text(f"after {turn}\n")
        last = f"after {turn}\n"
        place.until(lambda: tailed(place).endswith(last))  # noqa: B023  # called before the next turn
    assert tailed(place) == "one\nafter 0\nafter 1\nafter 2\n"
    family.on_tail_stop(LogTailStop(session="t1"))
    (closed,) = place.until(lambda: place.uplink.of(LogTailClosed))
    assert (closed.session, closed.reason) == ("t1", "stopped")


@pytest.fixture
def telemetry(place: Endpoint) -> Iterator[Telemetry]:
    family = Telemetry(place.loop, place.pool, place.uplink, 3600.0, "9.9", lambda: 12.5, place.log)
    family.start()
    yield family
    family.stop()


def test_telemetry_answers_hello_with_a_whole_sample(place: Endpoint, telemetry: Telemetry) -> None:
    telemetry.on_hello()
    (stats,) = place.until(lambda: place.uplink.of(Stats))
    assert (stats.data.agent_version, stats.data.net_latency_ms) == ("9.9", 12.5)
    assert stats.data.cpu is not None
    assert "/" in [disk.mount for disk in stats.data.disk]
    assert not [record for record in place.log.records if record[0] in ("warning", "error")]


def test_telemetry_comes_back_after_its_worker_was_killed(
    place: Endpoint, telemetry: Telemetry
) -> None:
    (worker,) = place.until(lambda: [each for each in place.pool if each.pid])
    os.kill(worker.pid, signal.SIGKILL)
    place.until(lambda: [each for each in place.pool if each.pid not in (0, worker.pid)])
    telemetry.on_hello()
    place.until(lambda: place.uplink.of(Stats))


def key_syncs(place: Endpoint, server: KeyServer, account: str, **options: Any) -> KeySyncs:
    def make_spec(user: str) -> tuple[KeysSpec, str | None]:
        spec = KeysSpec(github_user=user, target_user=account, base_url=server.url, **options)
        return spec, account

    return KeySyncs(place.loop, place.pool, place.uplink, lambda: None, make_spec)


def test_key_sync_for_an_account_that_cannot_log_in(place: Endpoint) -> None:
    """The worker becomes that account, asks nobody and writes nothing."""
    require_root()
    with KeyServer() as server:
        server.body = ed25519(1).encode()
        key_syncs(place, server, "nobody").on_sync(SyncKeys(user="octocat"))
        (result,) = place.until(lambda: place.uplink.of(KeysSyncResult))
        assert (result.ok, result.error, result.user) == (False, "no_user", "octocat")
        assert server.requests == []


def test_key_sync_as_an_account_that_may_not_read_our_own_files(place: Endpoint) -> None:
    """All that a sync imports is there before the worker becomes the account."""
    require_root()
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    only_if("sync" in accounts and accounts["sync"].pw_dir == "/bin", "no account `sync` in /bin")
    with KeyServer() as server:
        server.body = ed25519(1).encode()
        key_syncs(place, server, "sync").on_sync(SyncKeys(user="octocat"))
        (result,) = place.until(lambda: place.uplink.of(KeysSyncResult))
        assert (result.ok, len(server.requests)) == (False, 1)
        assert result.error in ("unsafe_path", "EACCES")  # /bin is a link, or root's


def test_key_sync_for_a_missing_account(place: Endpoint) -> None:
    with KeyServer() as server:
        key_syncs(place, server, "no-such-account").on_sync(SyncKeys(user="octocat"))
        (result,) = place.until(lambda: place.uplink.of(KeysSyncResult))
        assert (result.ok, result.error) == (False, "no_user")


def test_key_sync_of_a_bad_login_names_it(place: Endpoint) -> None:
    account = pwd.getpwuid(os.geteuid()).pw_name
    with KeyServer() as server:
        key_syncs(place, server, account).on_sync(SyncKeys(user="../root"))
        (result,) = place.until(lambda: place.uplink.of(KeysSyncResult))
        assert (result.ok, result.error, result.user) == (False, "bad_user", "../root")
        assert server.requests == []
