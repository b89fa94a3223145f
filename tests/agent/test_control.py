"""The control socket: requests and answers, later ones too, and clients that misbehave."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import control, control_client
from agent.control import ControlServer, Reply
from agent.errors import ControlError, DirectoryError, NoAgentError, SilentAgentError
from workers.loop import Loop


class Core:
    """A loop in a thread with a server on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop()
        self.waiting: list[Reply] = []
        self.clients: list[socket.socket] = []
        self.errors: list[Exception] = []
        self.server = ControlServer(
            self.loop,
            path,
            {
                "echo": lambda request, reply: reply(said=request.get("say")),
                "later": lambda _request, reply: self.waiting.append(reply),
                "release": self._release,
                "twice": self._twice,
                "refuse": self._refuse,
                "crash": lambda _request, _reply: 1 / 0,  # type: ignore[dict-item]
                "big": lambda _request, reply: reply(text="x" * 3_000_000),
            },
            on_error=self.errors.append,
        )
        self.server.open()
        self._thread = threading.Thread(target=self.loop.run, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> None:
        done = threading.Event()
        self.loop.call_threadsafe(lambda: (function(), done.set()))
        assert done.wait(10)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.call(self.server.close)
        self.loop.call_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def _release(self, request: dict[str, Any], reply: Reply) -> None:
        self.waiting.pop()(done=True)
        reply(released=True)

    def _twice(self, request: dict[str, Any], reply: Reply) -> None:
        reply(count=1)
        reply(count=2)

    def _refuse(self, request: dict[str, Any], reply: Reply) -> None:
        raise ControlError("not_found", "no such worker")


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = Core(tmp_path / "control.sock")
    yield made
    made.close()


def connect(core: Core) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    core.clients.append(client)
    client.settimeout(10)
    client.connect(str(core.path))
    return client


def lines(client: socket.socket, count: int) -> list[dict[str, Any]]:
    with client.makefile("rb") as file:
        return [json.loads(file.readline()) for _ in range(count)]


def test_control_answers_a_request(core: Core) -> None:
    assert control_client.ask_at(core.path, "echo", say="é") == {"said": "é"}
    assert stat.S_IMODE(core.path.stat().st_mode) == 0o600


def test_control_refusal_has_its_code(core: Core) -> None:
    with pytest.raises(ControlError, match="no such worker") as caught:
        control_client.ask_at(core.path, "refuse")
    assert caught.value.code == "not_found"


def test_control_answer_may_come_later(core: Core) -> None:
    slow = connect(core)
    slow.sendall(b'{"do": "later"}\n')
    while not core.waiting:
        control_client.ask_at(core.path, "echo")
    assert control_client.ask_at(core.path, "release") == {"released": True}
    assert lines(slow, 1) == [{"done": True, "ok": True}]


def test_control_client_that_left_before_its_answer_harms_nobody(core: Core) -> None:
    gone = connect(core)
    gone.sendall(b'{"do": "later"}\n')
    while not core.waiting:
        control_client.ask_at(core.path, "echo")
    gone.close()
    assert control_client.ask_at(core.path, "release") == {"released": True}


def test_control_requests_of_one_client_are_answered_in_order(core: Core) -> None:
    client = connect(core)
    client.sendall(b"".join(b'{"do":"echo","say":%d}\n' % number for number in range(500)))
    assert [answer["said"] for answer in lines(client, 500)] == list(range(500))


def test_control_answers_once(core: Core) -> None:
    client = connect(core)
    client.sendall(b'{"do":"twice"}\n{"do":"echo","say":"next"}\n')
    assert [answer.get("count") for answer in lines(client, 2)] == [1, None]


def test_control_large_answer_arrives_whole(core: Core) -> None:
    assert len(control_client.ask_at(core.path, "big")["text"]) == 3_000_000


def test_control_handler_that_raises_is_told_and_the_next_one_served(core: Core) -> None:
    with pytest.raises(ControlError, match="could not answer"):
        control_client.ask_at(core.path, "crash")
    assert isinstance(core.errors[0], ZeroDivisionError)
    assert control_client.ask_at(core.path, "echo") == {"said": None}


@pytest.mark.parametrize(
    "line", [b"no json", b"[]", b"{}", b'{"do": 5}', b'{"do": "nothing"}', b"\xff", b"[" * 50_000]
)
def test_control_bad_request_is_refused(core: Core, line: bytes) -> None:
    client = connect(core)
    client.sendall(line + b"\n")
    [answer] = lines(client, 1)
    assert answer["error"] == "bad_request"


def test_control_line_without_end_is_cut_off(core: Core) -> None:
    client = connect(core)
    try:
        client.sendall(b"x" * (control.MAX_LINE_BYTES * 4))
        assert client.recv(1) == b""
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert control_client.ask_at(core.path, "echo") == {"said": None}


def test_control_clients_are_bounded_and_silent_ones_go(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "SILENCE_S", 0.2)
    crowd = [connect(core) for _ in range(control.MAX_CLIENTS)]
    extra = connect(core)
    assert extra.recv(1) == b""
    for client in crowd:
        assert client.recv(1) == b""
    assert control_client.ask_at(core.path, "echo") == {"said": None}


def test_control_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(NoAgentError, match="no agent runs here"):
        control_client.ask_at(path, "echo")
    core = Core(path)
    try:
        assert control_client.ask_at(path, "echo") == {"said": None}
    finally:
        core.close()
    assert not path.exists()


def test_control_path_too_long_is_a_directory_error(tmp_path: Path) -> None:
    loop = Loop()
    server = ControlServer(loop, tmp_path / ("x" * 120), {})
    with pytest.raises(DirectoryError):
        server.open()
    loop.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root")
@pytest.mark.parametrize(
    "uid, gid, groups, allowed",
    [(0, 0, [], True), (65534, 65534, [], False), (65534, 4242, [], True), (1, 1, [4242], True)],
)
def test_control_asks_the_kernel_who_asks(
    uid: int, gid: int, groups: list[int], allowed: bool
) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0jackline-test-{os.getpid()}-{uid}-{gid}")
    listener.listen(1)
    ready, done = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        client = socket.socket(socket.AF_UNIX)
        client.connect(listener.getsockname())
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    connection, _ = listener.accept()
    try:
        assert control.may_ask(connection, 4242) is allowed
        if uid:
            assert control.may_ask(connection, None) is False
    finally:
        os.write(done[1], b"x")
        os.waitpid(pid, 0)
        connection.close()
        listener.close()
        for fd in (*ready, *done):
            os.close(fd)


def test_control_client_without_an_agent_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoAgentError, match="no agent runs here"):
        control_client.ask("status", environ={"JACKLINE_RUN_DIR": str(tmp_path)})


@pytest.mark.parametrize("said", [b"", b"hello\n", b"[]\n", b'{"ok": false}\n'])
def test_control_client_survives_a_stranger(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "control.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(said)
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(ControlError):
        control_client.ask_at(path, "status")
    thread.join(10)
    listener.close()


def test_control_peer_credentials_have_three_words() -> None:
    assert struct.calcsize("3i") == 12


def test_control_client_names_the_agent_that_does_not_answer(tmp_path: Path) -> None:
    """A stopped agent still listens: that none runs would be a lie, and kill no cure for it."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        with pytest.raises(SilentAgentError, match=f"pid {os.getpid()}.*kill -9"):
            control_client.ask("status", timeout_s=0.1, environ={"JACKLINE_RUN_DIR": str(tmp_path)})
