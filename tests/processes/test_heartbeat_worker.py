"""The heartbeat and inventory kinds: confined in real workers, and what a call can meet."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.desk import DeskDouble
from tests.doubles.endpoint import Endpoint, endpoint
from tests.doubles.http_hub import Enrolled, HttpHub, RefuseError
from tests.doubles.proxy import AuthProxy
from tests.doubles.sockets import Listener
from wire import bodies, inventory, paths
from wire.inventory import Inventory
from workers import certificates
from workers.heartbeat.worker import HeartbeatWorker
from workers.messages import End, Stopped
from workers.messages_heartbeat import (
    Collected,
    HeartbeatSpec,
    HubAnswer,
    HubCall,
    HubSilence,
    InventorySpec,
    Renew,
    Renewed,
)


class Silent(Listener):
    """Takes connections and says what a test wants, or nothing."""

    def __init__(self, said: bytes = b"", drip: bool = False) -> None:
        self.said = said
        self.drip = drip
        self.over = threading.Event()
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"}"):
            asked += connection.recv(65536)
        if self.drip:
            while not self.over.wait(0.05):
                connection.sendall(self.said)
        else:
            connection.sendall(self.said)
            if not self.said:
                self.over.wait(30)


def started(spec: HeartbeatSpec, deadline_s: float = 60.0) -> tuple[DeskDouble, HeartbeatWorker]:
    desk = DeskDouble()
    confined: list[bool] = []
    worker = HeartbeatWorker(desk, lambda _: confined.append(True), deadline_s)
    worker.on_start(spec)
    assert confined == [True]
    return desk, worker


def post(desk: DeskDouble, worker: HeartbeatWorker, path: str = paths.HEARTBEAT) -> Any:
    worker.on_data(b'{"a":')
    worker.on_data(b"1}")
    worker.on_message(HubCall(call_id=7, path=path))
    desk.run_until(lambda: desk.sent)
    return desk.sent[-1]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
            "redirect",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 600_000, "too_large"),
        (b"nonsense\r\n\r\n", "unreachable"),
    ],
)
def test_answer_that_is_none_is_a_silence_with_its_reason(said: bytes, reason: str) -> None:
    with Silent(said) as server:
        desk, worker = started(HeartbeatSpec(base_url=f"http://127.0.0.1:{server.port}"))
        answer = post(desk, worker)
    assert isinstance(answer, HubSilence) and (answer.call_id, answer.reason) == (7, reason)


def test_page_of_a_portal_is_passed_on_as_it_is() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    with Silent(page) as server:
        desk, worker = started(HeartbeatSpec(base_url=f"http://127.0.0.1:{server.port}"))
        answer = post(desk, worker)
    assert isinstance(answer, HubAnswer) and answer.body == b"<html>"


@pytest.mark.parametrize("drip", [False, True])
def test_call_that_never_ends_ends_the_worker(drip: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with Silent(head if drip else b"", drip) as server:
        spec = HeartbeatSpec(base_url=f"http://127.0.0.1:{server.port}")
        desk, worker = started(spec, deadline_s=1.0)
        answer = post(desk, worker)
        assert isinstance(answer, HubSilence) and answer.reason == "timeout"
        assert desk.result() == Stopped(reason="timeout")
        server.over.set()


def test_second_call_is_told_to_wait() -> None:
    with Silent() as server:
        desk, worker = started(HeartbeatSpec(base_url=f"http://127.0.0.1:{server.port}"))
        worker.on_message(HubCall(call_id=1, path="/"))
        worker.on_message(HubCall(call_id=2, path="/"))
        desk.run_until(lambda: desk.sent)
        assert desk.sent == [HubSilence(call_id=2, reason="busy", sentence="one at a time")]
        worker.on_message(End())
        assert desk.result() == Stopped(reason="closed")
        server.over.set()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://192.0.2.1", "bad_url"),
        ("ftp://127.0.0.1", "bad_url"),
        ("https://", "bad_url"),
        ("http://[", "bad_url"),
    ],
)
def test_hub_that_may_not_be_called_ends_the_worker(url: str, reason: str) -> None:
    desk = DeskDouble()
    worker = HeartbeatWorker(desk, lambda _: None)
    worker.on_start(HeartbeatSpec(base_url=url))
    assert [(m.call_id, m.reason) for m in desk.sent if isinstance(m, HubSilence)] == [(0, reason)]
    assert desk.results == [Stopped(reason=reason)]


def test_ca_that_is_none_believes_nobody() -> None:
    desk = DeskDouble()
    worker = HeartbeatWorker(desk, lambda _: None)
    worker.on_start(HeartbeatSpec(base_url="https://127.0.0.1:1", ca_data="no certificate"))
    assert desk.results == [Stopped(reason="tls")]


@pytest.mark.parametrize("exempt", [False, True])
def test_hub_is_reached_through_the_proxy_unless_it_is_exempt(tmp_path: Path, exempt: bool) -> None:
    with HttpHub(tmp_path) as hub, AuthProxy() as proxy:
        assert hub.authority is not None
        spec = HeartbeatSpec(
            base_url=hub.url,
            ca_data=hub.authority.ca_file.read_text(),
            proxies={"all": proxy.url, "no": "127.0.0.1" if exempt else "example.org"},
        )
        desk, worker = started(spec)
        assert post(desk, worker).status == 401
        assert bool(proxy.tunnels) is not exempt


def test_proxy_that_wants_other_credentials_is_told(tmp_path: Path) -> None:
    with HttpHub(tmp_path) as hub, AuthProxy() as proxy:
        proxies = {"https": proxy.url_without_credentials}
        spec = HeartbeatSpec(base_url=hub.url, ca_data=None, proxies=proxies)
        desk, worker = started(spec)
        answer = post(desk, worker)
        assert isinstance(answer, HubSilence) and answer.reason == "proxy"
        assert hub.requests == []


def test_renewal_brings_a_new_key_with_its_certificate(tmp_path: Path) -> None:
    with HttpHub(tmp_path) as hub:
        assert hub.authority is not None
        agent = _known(hub)
        spec = HeartbeatSpec(
            base_url=hub.url, bearer=agent.bearer, ca_data=hub.authority.ca_file.read_text()
        )
        desk, worker = started(spec)
        worker.on_message(Renew(call_id=3))
        desk.run_until(lambda: desk.sent)
        (renewed,) = desk.sent
        assert isinstance(renewed, Renewed) and renewed.call_id == 3
        assert certificates.life(renewed.certificate, renewed.key).not_after == renewed.not_after
        hub.refusals[paths.RENEW] = RefuseError(403, "agent_revoked")
        worker.on_message(Renew(call_id=4))
        desk.run_until(lambda: len(desk.sent) > 1)
        assert desk.sent[1] == HubSilence(call_id=4, reason="agent_revoked", sentence="not renewed")


def _known(hub: HttpHub) -> Any:
    known = Enrolled("agent-1", "", "bearer", "auth", "token")
    hub.agents["agent-1"] = known
    return known


# -- in real workers ----------------------------------------------------------------------------


class Owner:
    """Keeps what a worker says."""

    def __init__(self) -> None:
        self.mail: list[Any] = []
        self.text = b""
        self.result: Any = None
        self.gone: Any = None

    def on_ready(self, worker: Any, hello: Any) -> None:
        return None

    def on_mail(self, worker: Any, message: Any) -> None:
        self.mail.append(message)

    def on_output(self, worker: Any, stream: int, offset: int, data: bytes) -> None:
        assert offset == len(self.text)
        self.text += data

    def on_finished(self, worker: Any, result: Any) -> None:
        self.result = result
        worker.forget()

    def on_gone(self, worker: Any, gone: Any) -> None:
        self.gone = gone


@pytest.fixture
def place() -> Iterator[Endpoint]:
    with endpoint() as made:
        yield made


def test_confined_worker_calls_over_tls_and_shows_its_certificate(
    place: Endpoint, tmp_path: Path
) -> None:
    with HttpHub(tmp_path) as hub:
        assert hub.authority is not None and hub.agents_url is not None
        key = certificates.new_key()
        certificate = hub.authority.sign(certificates.request(key, "x"), "agent-1")
        spec = HeartbeatSpec(
            base_url=hub.agents_url,
            certificate=certificate,
            key=key,
            ca_data=hub.authority.ca_file.read_text(),
        )
        owner = Owner()
        worker = place.pool.spawn("heartbeat", "heartbeat", spec, owner, {}, lease_s=2.0)
        hub.enforces_mtls = True
        worker.send_data(b"{}")
        worker.send(HubCall(call_id=1, path=paths.HEARTBEAT))
        place.until(lambda: owner.mail or owner.gone)
        assert owner.gone is None
        (answer,) = owner.mail
        assert (answer.status, json.loads(answer.body)["code"]) == (403, "cert_unknown")
        assert _is_confined(worker.pid)
        worker.send(End())
        place.until(lambda: owner.result)


def test_confined_stocktaker_reads_all_it_needs_and_not_the_secrets(place: Endpoint) -> None:
    secret = Path(place.state) / "identity"
    secret.mkdir(mode=0o700)
    owner = _Onlooker()
    spec = InventorySpec(version="1", profile="full", policy_digest="d")
    place.pool.spawn("inventory", "stock", spec, owner, {}, lease_s=2.0)
    place.until(lambda: owner.result or owner.gone)
    assert owner.saw_confined
    assert isinstance(owner.result, Collected) and owner.result.error is None, owner.gone
    assert len(owner.text) == owner.result.bytes
    told = bodies.decode(Inventory, owner.text, len(owner.text))
    assert inventory.digest(told) == owner.result.digest
    assert told.packages and told.users and told.os.kernel == os.uname().release
    assert told.interfaces or not _has_interfaces()
    assert told.hardware.memory_bytes


class _Onlooker(Owner):
    """Looks at a worker that has worked and has not been let go."""

    saw_confined = False

    def on_finished(self, worker: Any, result: Any) -> None:
        self.saw_confined = _is_confined(worker.pid)
        super().on_finished(worker, result)


def _has_interfaces() -> bool:
    return any(name != "lo" for name in os.listdir("/sys/class/net"))


def _is_confined(pid: int) -> bool:
    """As the kernel tells: no new privileges, a call filter, no right of root but to read."""
    told = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    may_read = 1 << 2  # CAP_DAC_READ_SEARCH
    rights = int(told["CapEff"], 16)
    return (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2") and rights in (0, may_read)
