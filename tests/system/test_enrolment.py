"""`jackline enroll` and `unenroll` against a scripted hub: one identity, whatever gets lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.agent_process import JACKLINE, AgentProcess
from tests.doubles.http_hub import HttpHub, RefuseError
from tests.doubles.tls import RecordingServer, self_signed
from tests.facilities import require_root
from wire import enroltoken, paths
from wire.problem import Code


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HttpHub]:
    with HttpHub(tmp_path) as hub:
        yield hub


ACCOUNT = 65534
# Who gives the commands owns the state directory, or is root and an account of the service's does.
WHOSE = pytest.mark.parametrize("endpoint", ["ours", "the service's"], indirect=True)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Iterator[AgentProcess]:
    """An endpoint; with WHOSE also one that is another account's, in which nothing is root's."""
    agent = AgentProcess("http://127.0.0.1:9")
    is_service = getattr(request, "param", "ours") != "ours"
    try:
        if is_service:
            require_root()
            agent.root.chmod(0o711)
            os.chown(agent.state_dir, ACCOUNT, ACCOUNT)
        yield agent
        if is_service:
            assert {path.lstat().st_uid for path in agent.state_dir.rglob("*")} == {ACCOUNT}
    finally:
        agent.close()


def pasted(hub: HttpHub) -> str:
    return enroltoken.carrying(hub.make_token(), hub.url, hub.ca_sha256)


def enroll(
    endpoint: AgentProcess, *words: str, stdin: str = "", timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JACKLINE, "enroll", *words],
        env=endpoint.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def identity_of(endpoint: AgentProcess) -> dict[str, str]:
    read: dict[str, str] = json.loads(
        (endpoint.state_dir / "identity" / "identity.json").read_text()
    )
    return read


@WHOSE
def test_pasted_token_alone_enrols_and_pins_the_hub(hub: HttpHub, endpoint: AgentProcess) -> None:
    done = enroll(endpoint, "--token-stdin", "--json", stdin=pasted(hub) + "\n")
    assert done.returncode == 0, done.stderr
    known = identity_of(endpoint)
    assert json.loads(done.stdout)["agent_id"] == known["agent_id"] in hub.agents
    assert known["service_account_token"] == hub.agents[known["agent_id"]].bearer
    assert "BEGIN PRIVATE KEY" in known["key"] and "BEGIN CERTIFICATE" in known["certificate"]
    assert hub.authority is not None
    assert known["server_ca"].strip() == hub.authority.ca_file.read_text().strip()
    assert hub.requests[0] == ("GET", paths.CA)
    for path in endpoint.state_dir.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == wanted, path


def test_files_say_all_that_the_machine_allows(hub: HttpHub, endpoint: AgentProcess) -> None:
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 0
    shown = endpoint.command("policy", "show", "--json")
    rows = {row["key"]: row["value"] for row in json.loads(shown.stdout)["keys"]}
    assert rows["profile"] == "reporter"
    for key in ("allowedSourceRoots", "allowedDestRoots", "allowedRestoreRoots"):
        assert rows[f"backup.{key}"], key
    shown = endpoint.command("config", "show", "--json")
    assert identity_of(endpoint)["auth_token"] not in shown.stdout
    assert endpoint.command("config", "check").returncode == 0


def test_owner_s_files_are_never_written_over(hub: HttpHub, endpoint: AgentProcess) -> None:
    policy = endpoint.root / "config" / "policy.yaml"
    policy.write_text("profile: operator\n")
    assert enroll(endpoint, "--token-stdin", "--profile", "full", stdin=pasted(hub)).returncode == 0
    assert policy.read_text() == "profile: operator\n"


def test_files_are_written_where_the_configuration_is_named(
    hub: HttpHub, endpoint: AgentProcess, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere" / "agent.json"
    done = enroll(endpoint, "--token-stdin", "--config", str(place), stdin=pasted(hub))
    assert done.returncode == 0, done.stderr
    assert place.exists() and (place.parent / "policy.yaml").exists()
    assert not (endpoint.root / "config" / "policy.yaml").exists()


@WHOSE
def test_token_is_taken_out_of_the_file_it_was_read_from(
    hub: HttpHub, endpoint: AgentProcess, tmp_path: Path
) -> None:
    alone, among = tmp_path / "token", tmp_path / "install.conf"
    token = pasted(hub)
    alone.write_text(token + "\n")
    assert enroll(endpoint, "--token-file", str(alone)).returncode == 0
    assert not alone.exists()
    assert endpoint.command("unenroll").returncode == 0
    token = pasted(hub)
    among.write_text(f'COLOUR=green\nTOKEN="{token}"\n')
    assert enroll(endpoint, "--token-file", str(among)).returncode == 0
    assert among.read_text() == 'COLOUR=green\nTOKEN=""\n'


@WHOSE
def test_refused_token_stays_in_its_file(
    hub: HttpHub, endpoint: AgentProcess, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    other = enroltoken.carrying(enroltoken.make(b"0" * 16), hub.url, hub.ca_sha256)
    path.write_text(other)
    done = enroll(endpoint, "--token-file", str(path))
    assert (done.returncode, path.read_text()) == (5, other)
    assert "does not know this token" in done.stderr
    assert not (endpoint.state_dir / "identity" / "identity.json").exists()


def test_token_in_an_argument_warns(hub: HttpHub, endpoint: AgentProcess) -> None:
    done = enroll(endpoint, "--token", pasted(hub))
    assert done.returncode == 0 and "warning: --token" in done.stderr


@pytest.mark.parametrize("cut", [1, 9])
def test_cut_token_is_told_before_anybody_is_asked(
    hub: HttpHub, endpoint: AgentProcess, cut: int
) -> None:
    done = enroll(endpoint, "--token-stdin", stdin=pasted(hub)[:-cut])
    assert done.returncode == 2 and hub.requests == []


@WHOSE
@pytest.mark.parametrize("lost", [1, 2])
def test_lost_reply_ends_with_one_identity_on_both_sides(
    hub: HttpHub, endpoint: AgentProcess, lost: int
) -> None:
    hub.lost[paths.ENROLL] = lost
    done = enroll(endpoint, "--token-stdin", stdin=pasted(hub))
    assert done.returncode == 0, done.stderr
    (agent,) = hub.agents.values()
    known = identity_of(endpoint)
    assert (known["agent_id"], known["service_account_token"]) == (agent.agent_id, agent.bearer)
    assert hub.enrols == lost + 2  # lost, then without the proof, then with it


@WHOSE
def test_interrupted_enrolment_goes_on_with_the_key_that_burnt_the_token(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    token = pasted(hub)
    hub.lost[paths.ENROLL] = 1000
    with subprocess.Popen(
        [*JACKLINE, "enroll", "--token-stdin"],
        env=endpoint.env,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as first:
        assert first.stdin is not None
        first.stdin.write(token.encode())
        first.stdin.close()
        hub.until(lambda: hub.enrols)
        first.kill()
    hub.lost[paths.ENROLL] = 0
    done = enroll(endpoint, "--token-stdin", stdin=token)
    assert done.returncode == 0, done.stderr
    assert len(hub.agents) == 1 and identity_of(endpoint)["agent_id"] in hub.agents
    assert not (endpoint.state_dir / "identity" / "pending.json").exists()


def test_another_machine_gets_nothing_for_a_burnt_token(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    token = pasted(hub)
    assert enroll(endpoint, "--token-stdin", stdin=token).returncode == 0
    other = AgentProcess("http://127.0.0.1:9")
    try:
        done = enroll(other, "--token-stdin", stdin=token)
        assert done.returncode == 5 and "used already" in done.stderr
    finally:
        other.close()


def test_busy_hub_is_asked_again_after_its_time(hub: HttpHub, endpoint: AgentProcess) -> None:
    hub.refusals[paths.ENROLL] = RefuseError(503, Code.UNAVAILABLE, retry_after_s=0)
    done = enroll(endpoint, "--token-stdin", stdin=pasted(hub))
    assert done.returncode == 5 and len(hub.requests) == 1 + 6


def test_hub_with_another_ca_than_the_token_names_hears_no_secret(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    token = enroltoken.carrying(hub.make_token(), hub.url, "0" * 64)
    done = enroll(endpoint, "--token-stdin", stdin=token)
    assert done.returncode == 5 and "fingerprint" in done.stderr
    assert hub.requests == [("GET", paths.CA)]


def test_unpinned_hub_that_nobody_vouches_for_hears_nothing(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    done = enroll(endpoint, "--hub", hub.url, "--token-stdin", stdin=hub.make_token())
    assert done.returncode == 5 and "certificate is refused" in done.stderr
    assert hub.requests == []


def test_ca_file_is_believed_instead(hub: HttpHub, endpoint: AgentProcess) -> None:
    assert hub.authority is not None
    words = ["--hub", hub.url, "--token-stdin", "--ca-file", str(hub.authority.ca_file)]
    done = enroll(endpoint, *words, stdin=hub.make_token())
    assert done.returncode == 0, done.stderr


def test_plain_http_is_for_loopback_alone(endpoint: AgentProcess) -> None:
    token = enroltoken.make(b"1" * 16)
    done = enroll(endpoint, "--hub", "http://192.0.2.1:8080", "--token-stdin", stdin=token)
    assert done.returncode == 2 and "neither https nor http to loopback" in done.stderr


@WHOSE
def test_device_code_is_shown_waited_for_and_used_with_the_key_it_named(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    assert hub.authority is not None
    hub.device_answers = [RefuseError(400, Code.AUTHORIZATION_PENDING), None]
    words = ["--hub", hub.url, "--device", "--ca-file", str(hub.authority.ca_file)]
    done = enroll(endpoint, *words)
    assert done.returncode == 0, done.stderr
    assert "BCDF-GHJK" in done.stderr and f"{hub.url}/device" in done.stderr
    (agent,) = hub.agents.values()
    assert list(hub.device_codes.values()) == [agent.thumbprint]
    assert agent.thumbprint in done.stderr


@pytest.mark.parametrize("code", [Code.ACCESS_DENIED, Code.EXPIRED_TOKEN])
def test_denied_and_expired_codes_end_it(hub: HttpHub, endpoint: AgentProcess, code: Code) -> None:
    assert hub.authority is not None
    hub.device_answers = [RefuseError(400, code)]
    words = ["--hub", hub.url, "--device", "--ca-file", str(hub.authority.ca_file)]
    done = enroll(endpoint, *words)
    assert done.returncode == 5 and hub.agents == {}


@WHOSE
def test_enrolled_machine_is_not_enrolled_again_by_accident(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 0
    first = identity_of(endpoint)
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 5
    assert identity_of(endpoint) == first
    assert enroll(endpoint, "--token-stdin", "--replace", stdin=pasted(hub)).returncode == 0
    second = identity_of(endpoint)
    assert second["agent_id"] != first["agent_id"]
    assert second["asset_id"] == first["asset_id"]


@WHOSE
def test_unenrolled_machine_is_forgotten_on_both_sides(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 0
    assert endpoint.command("unenroll").returncode == 0
    assert hub.agents == {}
    assert not (endpoint.state_dir / "identity" / "identity.json").exists()
    assert endpoint.command("unenroll").returncode == 4


def test_hub_that_is_gone_keeps_the_identity_unless_forced(
    hub: HttpHub, endpoint: AgentProcess
) -> None:
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 0
    hub.stop_listening()
    assert endpoint.command("unenroll").returncode == 69
    assert identity_of(endpoint)
    assert endpoint.command("unenroll", "--force").returncode == 0


@pytest.mark.parametrize("fault", ["truncated", "empty", "mode", "owner", "link"])
def test_agent_with_a_broken_identity_exits_78_with_one_line(
    hub: HttpHub, endpoint: AgentProcess, tmp_path: Path, fault: str
) -> None:
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 0
    path = endpoint.state_dir / "identity" / "identity.json"
    match fault:
        case "truncated":
            path.write_bytes(path.read_bytes()[:100])
        case "empty":
            path.write_bytes(b"")
        case "mode":
            path.chmod(0o644)
        case "owner":
            os.chown(path, 12345, -1)
        case "link":
            path.rename(tmp_path / "moved")
            path.symlink_to(tmp_path / "moved")
        case _:
            raise AssertionError(fault)
    asked = len(hub.requests)
    done = endpoint.command("run", "--config", str(endpoint.root / "config" / "agent-config.json"))
    assert done.returncode == 78
    assert len(done.stderr.strip().splitlines()) == 1 and "identity" in done.stderr
    assert enroll(endpoint, "--token-stdin", stdin=pasted(hub)).returncode == 78
    assert os.path.lexists(path) and len(hub.requests) == asked


def test_no_secret_of_an_enrolment_is_shown(hub: HttpHub, endpoint: AgentProcess) -> None:
    token = pasted(hub)
    done = enroll(endpoint, "--token-stdin", "--json", stdin=token)
    known = identity_of(endpoint)
    shown = done.stdout + done.stderr
    for secret in (token, known["service_account_token"], known["auth_token"], known["key"]):
        assert secret not in shown


def test_hub_with_a_certificate_of_nobody_is_refused_whatever_it_says(
    endpoint: AgentProcess, tmp_path: Path
) -> None:
    with RecordingServer(self_signed(tmp_path)) as server:
        url = f"https://127.0.0.1:{server.port}"
        token = enroltoken.make(b"2" * 16)
        done = enroll(endpoint, "--hub", url, "--token-stdin", stdin=token)
        assert done.returncode == 5
        assert all(not exchange.plaintext for exchange in server.exchanges)
