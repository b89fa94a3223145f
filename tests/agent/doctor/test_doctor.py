"""Doctor: each finding has a sentence and a cure, nothing hangs, the bundle holds no secret."""

from __future__ import annotations

import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import config, exits, killswitch, started_from
from agent.cli import doctor
from agent.doctor import bundle, configuration, examination, machine, network, service
from agent.doctor.finding import Finding, Scene

GOOD = {"clientId": "web-1", "serverUrl": "https://hub.example", "authToken": "s3cr3t/t0ken"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    names = ("CONFIG", "STATE", "RUN", "LOG")
    for name in names:
        (tmp_path / name.lower()).mkdir(mode=0o700)
    return {f"JACKLINE_{name}_DIR": str(tmp_path / name.lower()) for name in names}


def scene(environ: dict[str, str], status: Any = None, **more: Any) -> Scene:
    path = Path(environ["JACKLINE_CONFIG_DIR"]) / "agent-config.json"
    path.write_text(json.dumps({**GOOD, **more}))
    path.chmod(0o600)
    report = config.inspect(config.Options(config=path), environ)
    return Scene(report, status, environ)


def states(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


class Server:
    """A TCP server that answers every connection with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.received: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self._listener.getsockname()[1]  # noqa: UP031
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.received.append(connection.recv(65536))
                connection.sendall(self._answer)


@pytest.fixture
def web_server() -> Iterator[Server]:
    date = b"Thu, 01 Jan 2026 00:00:00 GMT"
    server = Server(b"HTTP/1.1 404 Not Found\r\nDate: " + date + b"\r\nContent-Length: 0\r\n\r\n")
    yield server
    server.close()


def test_doctor_tells_faults_and_warnings_of_the_configuration(environ: dict[str, str]) -> None:
    found = list(configuration.check(scene(environ, colour="red", statsIntervalSec="x")))
    assert {finding.state for finding in found} == {"failed", "warning"}
    assert all(finding.cure for finding in found)
    [fine] = configuration.check(scene(environ, admin={"allowedCommands": ["/bin/true"]}))
    assert fine.state == "ok"


def test_doctor_tells_a_directory_that_others_may_enter(environ: dict[str, str]) -> None:
    os.chmod(environ["JACKLINE_STATE_DIR"], 0o755)  # noqa: S103  # that is the case
    first, second = configuration.check_directories(scene(environ))
    assert (first.state, second.state) == ("failed", "ok")
    assert "lets others in" in first.sentence


def test_doctor_stops_at_a_name_that_is_none(environ: dict[str, str]) -> None:
    found = list(network.check(scene(environ, serverUrl="https://no-such-host.invalid")))
    assert [(finding.check, finding.state) for finding in found] == [("dns", "failed")]


def test_doctor_stops_at_a_closed_port(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = states(network.check(scene(environ, serverUrl=f"http://127.0.0.1:{port}")))
    assert found == {"dns": "ok", "tcp": "failed"}


def test_doctor_tells_clock_and_upgrade(environ: dict[str, str], web_server: Server) -> None:
    found = {f.check: f for f in network.check(scene(environ, serverUrl=web_server.url))}
    assert found["tls"].state == "warning"
    assert found["clock"].state == "failed"
    assert "off by" in found["clock"].sentence
    assert found["websocket"].state == "warning"
    assert "HTTP 404" in found["websocket"].sentence


def test_doctor_connects_as_nobody_while_the_agent_is_linked(
    environ: dict[str, str], web_server: Server
) -> None:
    linked = scene(environ, {"link": {"state": "up"}}, serverUrl=web_server.url)
    found = states(network.check(linked))
    assert (found["websocket"], found["auth"]) == ("ok", "ok")
    assert not any(b"clientId" in request for request in web_server.received)


@pytest.mark.parametrize(
    "packet, state, told",
    [
        ('40/agents,{"sid":"x"}', "ok", "accepted"),
        ('44/agents,{"message":"auth_failed"}', "failed", "auth_failed"),
        ('44/agents,{"message":"auth_expired"}', "failed", "auth_expired"),
    ],
)
def test_doctor_reads_the_servers_word_on_our_signature(packet: str, state: str, told: str) -> None:
    class Connection:
        packets = ['0{"sid":"1"}', "2", packet]
        sent: list[str] = []

        def recv(self) -> str:
            return self.packets.pop(0)

        def send(self, text: str) -> None:
            self.sent.append(text)

    finding = network._joined(Connection())
    assert (finding.state, told in finding.sentence) == (state, True)
    assert Connection.sent == ["40/agents,", "3"]


def test_doctor_tells_disk_terminals_and_cron(environ: dict[str, str]) -> None:
    here = scene(environ)
    for check in (machine.check_disk, machine.check_pty, machine.check_crontab):
        for finding in check(here):
            assert finding.state in ("ok", "warning")
            assert finding.sentence


def test_doctor_tells_a_full_disk(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage)
    assert "failed" in {finding.state for finding in machine.check_disk(scene(environ))}


def test_doctor_warns_of_a_supervisor_that_takes_jobs_along(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    units = {
        "jackline.service": {"LoadState": "loaded", "ActiveState": "active", "KillMode": "process"},
        "supervisor.service": {"LoadState": "loaded", "KillMode": "control-group"},
    }
    monkeypatch.setattr(service, "shown", lambda unit: units.get(unit, {"LoadState": "not-found"}))
    monkeypatch.setattr(service, "_parent_is", lambda _scene, _name: True)
    found = list(service.check(scene(environ)))
    assert [(f.check, f.state) for f in found] == [
        ("agent", "warning"),
        ("service", "ok"),
        ("service", "warning"),
    ]
    assert "KillMode=process" in found[-1].cure


def test_doctor_leaves_a_check_that_hangs_behind(environ: dict[str, str]) -> None:
    release = threading.Event()

    def hang(_scene: Scene) -> Iterator[Finding]:
        yield Finding("hang", "ok", "so far")
        release.wait(60)

    def crash(_scene: Scene) -> Iterator[Finding]:
        raise RuntimeError("a bug")
        yield

    found = list(examination.examine(scene(environ), (("hang", hang, 0.1), ("crash", crash, 5.0))))
    release.set()
    assert [finding.state for finding in found] == ["ok", "failed", "failed"]
    assert "no answer within" in found[1].sentence
    assert "a bug" in found[2].sentence


def test_doctor_bundle_holds_no_secret(environ: dict[str, str], tmp_path: Path) -> None:
    log = Path(environ["JACKLINE_LOG_DIR"]) / "agent.log"
    log.write_text('leaked "s3cr3t/t0ken" and s3cr3t%2Ft0ken\n')
    here = scene(environ, {"note": "s3cr3t/t0ken"})
    path = tmp_path / "bundle.tar.gz"
    bundle.write(path, here, [Finding("x", "ok", "s3cr3t/t0ken")])
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        contents = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        texts = {name: file.read() for name, file in contents.items() if file}
    assert {name.rpartition("/")[2] for name in texts} == {
        "doctor.json",
        "status.json",
        "config.json",
        "machine.json",
        "agent.log",
    }
    assert not any(b"t0ken" in text for text in texts.values())
    with pytest.raises(FileExistsError):
        bundle.write(path, here, [])


def test_doctor_bundle_does_not_wait_for_a_pipe_in_the_log_s_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    os.mkfifo(path)
    assert bundle._log(path) == f"{path}: is not a regular file\n".encode()


def test_doctor_command_prints_findings_and_exit_code(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    scene(environ, serverUrl="https://no-such-host.invalid")
    assert doctor.run([]) == exits.FAILED
    assert "-> check serverUrl" in capsys.readouterr().out
    assert doctor.run(["--json", "--bundle"]) == exits.FAILED
    assert {"check", "state", "sentence", "cure"} == set(json.loads(capsys.readouterr().out)[0])
    assert len(list(tmp_path.glob("jackline-doctor-*.tar.gz"))) == 1


def test_doctor_tells_an_agent_that_does_not_answer_and_leaves_its_link_alone(
    environ: dict[str, str], web_server: Server
) -> None:
    here = replace(scene(environ, serverUrl=web_server.url), silence="the agent (pid 7) hangs")
    first, *_ = service.check(here)
    assert (first.check, first.state) == ("agent", "failed")
    assert "pid 7" in first.sentence
    found = states(network.check(here))
    assert found["websocket"] == "skipped"
    assert "auth" not in found
    assert not any(b"clientId" in request for request in web_server.received)


def test_doctor_tells_what_the_agent_itself_complains_of(environ: dict[str, str]) -> None:
    config_file = Path(environ["JACKLINE_CONFIG_DIR"]) / "agent-config.json"
    policy_file = config_file.with_name("policy.yaml")
    files = started_from.marks((config_file, policy_file))
    status = {
        "link": {"state": "up"},
        "degraded": ["disk_full"],
        "outbox": {"parked": 2},
        "files": json.loads(json.dumps(files)),
    }
    here = scene(environ, status)
    policy_file.write_text("profile: reporter\n")
    killswitch.turn_on(Path(environ["JACKLINE_STATE_DIR"]))
    found = [f for f in service.check(here) if f.check == "agent"]
    assert [f.state for f in found] == ["ok", *["warning"] * 5]
    told = " ".join(f.sentence for f in found)
    for word in ("disk_full", "2 results", str(config_file), str(policy_file), "paused"):
        assert word in told
    assert all(f.cure for f in found[1:])


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner takes root")
def test_doctor_run_by_root_takes_the_services_account_for_the_owner(
    environ: dict[str, str],
) -> None:
    for name in ("STATE", "RUN"):
        os.chown(environ[f"JACKLINE_{name}_DIR"], 65534, 65534)
    assert [f.state for f in configuration.check_directories(scene(environ))] == ["ok", "ok"]
    os.chown(environ["JACKLINE_RUN_DIR"], 0, 0)
    assert [f.state for f in configuration.check_directories(scene(environ))] == ["ok", "failed"]


@pytest.mark.parametrize(("state", "wanted"), [("up", "ok"), ("down", "warning")])
def test_doctor_of_a_machine_that_wants_no_link_looks_at_its_heartbeat(
    environ: dict[str, str], state: str, wanted: str
) -> None:
    status = {"pid": 1, "link": {"state": "off"}, "heartbeat": {"state": state}}
    assert states(service.check(scene(environ, status)))["agent"] == wanted
