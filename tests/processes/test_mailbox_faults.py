"""Peers that speak nonsense: a worker to the agent, a stranger or an agent to a worker."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from agent.worker import Gone, Worker
from tests.doubles.endpoint import Endpoint, endpoint, generations
from tests.doubles.pool import record_of
from wire.shell import ShellClosed, ShellInput, ShellOutput, ShellStart
from workers import frames, processes
from workers.jobs import JobRecord
from workers.messages import Beat, Dial, End, Finished, Hello, Result, ShellEnded, ToAgent, encode
from workers.messages import Log as Words
from workers.queues_posix import bind

Talk = Callable[[socket.socket], None]

# What a pickle would have called; a hook stays for the life of this process.
UNPICKLED: list[object] = []
sys.addaudithook(
    lambda event, about: UNPICKLED.append(about) if event == "pickle.find_class" else None
)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """No zygote tells how an impostor's process ended: that is not waited for as long."""
    monkeypatch.setattr("agent.worker.EXIT_REPORT_S", 0.1)
    with endpoint() as built:
        yield built


class Witness:
    """A family that keeps what it is told."""

    def __init__(self) -> None:
        self.ready: list[Hello] = []
        self.mail: list[ToAgent] = []
        self.output: list[bytes] = []
        self.results: list[Result] = []
        self.gone: list[Gone] = []

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        self.ready.append(hello)

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        self.mail.append(message)

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        self.output.append(data)

    def on_finished(self, worker: Worker, result: Result) -> None:
        self.results.append(result)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        self.gone.append(gone)


class Impostor:
    """A record's process that only sleeps, and somebody who answers at its address."""

    def __init__(self, place: Endpoint, talk: Talk) -> None:
        self._talk = talk
        self._conn: socket.socket | None = None
        # One that the endpoint's reaper collects: its exit is then seen like a worker's.
        self.pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
        started = processes.start_time(self.pid)
        assert started is not None
        address = f"{place.run}/w-impostor.sock"
        self._listening = bind(address)
        self.record = msgspec.structs.replace(
            record_of("shell", "s"),
            pid=self.pid,
            start_time=started,
            boot_id=processes.boot_id() or "",
            address=address,
        )
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._listening.settimeout(20)
        try:
            conn, _ = self._listening.accept()
        except OSError:
            return
        with conn:
            conn.settimeout(20)
            self._conn = conn
            try:
                self._talk(conn)
                while conn.recv(65536):
                    pass
            except OSError:
                return

    def close(self) -> None:
        self._listening.close()
        if self._conn is not None:
            with contextlib.suppress(OSError):  # closed already
                self._conn.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        assert not self._thread.is_alive()


def hello(job_id: str, **fields: Any) -> bytes:
    made = Hello(kind="shell", job_id=job_id, pid=1, started=True, finished=False, **fields)
    return frames.message_frame(encode(made))


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def flood(conn: socket.socket) -> None:
    """Ten thousand good frames a second, and more, without end."""
    beats = frames.message_frame(encode(Beat(progress=1))) * 1000
    while True:
        conn.sendall(beats)


def flood_empty_output(conn: socket.socket) -> None:
    nothing = frames.data_frame(0, 0, b"") * 1000
    while True:
        conn.sendall(nothing)


def send(data: bytes) -> Talk:
    return lambda conn: conn.sendall(data)


@pytest.mark.parametrize(
    "talk",
    [
        send(b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94."),
        send(struct.pack(">IB", 1 << 31, frames.DATA)),
        send(struct.pack(">iB", -1, frames.MESSAGE)),
        send(struct.pack(">IB", frames.MAX_BODY_BYTES + 1, frames.MESSAGE)),
        send(struct.pack(">IB", 4, 77) + b"abcd"),
        send(frames.message_frame(b"\xc1")),
        send(frames.message_frame(b"")),
        send(frames.message_frame(msgspec.msgpack.encode({"m": "no-such-message"}))),
        send(frames.message_frame(msgspec.msgpack.encode({"m": "beat", "progress": "much"}))),
        send(frames.message_frame(b"\x82\xa1m\xa3log\xa5level\xa2\xff\xfe")),
        send(frames.message_frame(msgspec.msgpack.encode([1] * 1000))),
        send(frames.message_frame(b"\x91" * 100_000)),
        send(frames.header(frames.DATA, 3) + b"abc"),
        send(hello("another-job")),
        flood,
        flood_empty_output,
    ],
    ids=[
        "pickle",
        "2 GiB",
        "negative",
        "too long",
        "unknown type",
        "no msgpack",
        "empty",
        "unknown message",
        "wrong field",
        "bad UTF-8",
        "list",
        "deep",
        "short data",
        "another job",
        "flood",
        "empty data",
    ],
)
def test_worker_that_speaks_nonsense_is_dropped(place: Endpoint, talk: Talk) -> None:
    """Its mailbox is closed, it is killed, its owner hears it once; memory stays what it was."""
    impostor = Impostor(place, talk)
    witness = Witness()
    before = resident_bytes()
    UNPICKLED.clear()
    worker = place.pool.adopt(impostor.record, witness)
    assert worker is not None
    try:
        place.until(lambda: witness.gone)
        place.until(lambda: not list(place.pool))
    finally:
        impostor.close()
    (gone,) = witness.gone
    assert gone.reason == "worker_died"
    assert (gone.detail or "").startswith("ipc_protocol")
    assert processes.state(impostor.pid) in (None, "Z")
    assert resident_bytes() - before < 4 << 20
    assert UNPICKLED == []
    assert witness.results == []


def test_words_of_a_worker_are_in_the_log_under_its_name_and_bounded(place: Endpoint) -> None:
    """What went wrong in a worker is seen; one that never stops talking fills no disk."""
    impostor: list[Impostor] = []

    def talk(conn: socket.socket) -> None:
        conn.sendall(hello(impostor[0].record.job_id))
        fields = {"msg": "another", "long": "x" * 10_000}
        for number in range(200):
            said = Words(level="error", sentence=f"number {number}" + "y" * 500, fields=fields)
            conn.sendall(frames.message_frame(encode(said)))
        conn.sendall(frames.message_frame(encode(Finished(result=ShellEnded(reason="exit")))))

    impostor.append(Impostor(place, talk))
    witness = Witness()
    worker = place.pool.adopt(impostor[0].record, witness)
    assert worker is not None
    place.until(lambda: witness.results)
    impostor[0].close()
    lines = [record for record in place.log.records if record[1].startswith("number")]
    assert 20 <= len(lines) <= 25
    level, sentence, about = lines[0]
    assert level == "error" and sentence.startswith("number 0") and len(sentence) <= 200
    assert about["worker"] == worker.id and len(repr(about)) < 6_000
    assert witness.mail == []


def test_worker_that_ends_in_the_middle_of_a_frame_has_died(place: Endpoint) -> None:
    impostor: list[Impostor] = []

    def half(conn: socket.socket) -> None:
        conn.sendall(hello(impostor[0].record.job_id))
        conn.sendall(frames.data_frame(0, 0, b"whole") + frames.data_frame(0, 5, b"cut off")[:-2])
        os.kill(impostor[0].pid, signal.SIGKILL)
        raise OSError

    impostor.append(Impostor(place, half))
    witness = Witness()
    place.pool.adopt(impostor[0].record, witness)
    place.until(lambda: witness.gone)
    impostor[0].close()
    assert witness.gone[0].reason == "worker_died"
    assert witness.output == [b"whole"]


def test_worker_that_gives_two_results_is_heard_once(place: Endpoint) -> None:
    impostor: list[Impostor] = []

    def twice(conn: socket.socket) -> None:
        result = Finished(result=ShellEnded(reason="exit", code=1))
        conn.sendall(hello(impostor[0].record.job_id))
        conn.sendall(frames.message_frame(encode(result)) * 3)

    impostor.append(Impostor(place, twice))
    witness = Witness()
    worker = place.pool.adopt(impostor[0].record, witness)
    assert worker is not None
    place.until(lambda: witness.results)
    worker.kill(Gone(reason="closed"))
    place.until(lambda: not list(place.pool))
    impostor[0].close()
    assert len(witness.results) == 1 and witness.gone == []


def test_worker_that_never_reads_is_dropped_and_costs_a_bounded_queue(place: Endpoint) -> None:
    """8 MiB wait for it at the most; then it is hung."""
    impostor: list[Impostor] = []
    release = threading.Event()

    def deaf(conn: socket.socket) -> None:
        conn.sendall(hello(impostor[0].record.job_id))
        release.wait(30)
        raise OSError

    impostor.append(Impostor(place, deaf))
    witness = Witness()
    worker = place.pool.adopt(impostor[0].record, witness)
    assert worker is not None
    place.until(lambda: witness.ready)
    for _ in range(200):
        worker.send_data(b"x" * 100_000)
        place.loop.turn(0)
    place.until(lambda: witness.gone)
    release.set()
    impostor[0].close()
    assert witness.gone[0].reason == "worker_stalled"


def test_address_that_is_another_user_s_is_not_talked_to(
    place: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record says where; who listens there must be us."""
    monkeypatch.setattr("agent.worker.REDIALS", 5)
    if os.geteuid() != 0:
        pytest.skip("this machine: another user's socket needs root")
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    started = processes.start_time(pid)
    assert started is not None
    address = f"{place.run}/w-stranger.sock"
    os.chmod(place.root, 0o711)  # noqa: S103 - the stranger must get at its socket
    os.chown(place.run, 65534, 65534)
    ready_r, ready_w = os.pipe()
    stranger = os.fork()
    if stranger == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            listening = bind(address)
            os.write(ready_w, b"x")
            listening.accept()
            time.sleep(60)
        finally:
            os._exit(0)
    os.read(ready_r, 1)
    os.close(ready_r)
    os.close(ready_w)
    record = msgspec.structs.replace(
        record_of("shell", "s"),
        pid=pid,
        start_time=started,
        boot_id=processes.boot_id() or "",
        address=address,
    )
    witness = Witness()
    place.pool.adopt(record, witness)
    try:
        place.until(lambda: witness.gone)
    finally:
        os.kill(stranger, signal.SIGKILL)
    assert witness.ready == []
    assert "ipc_protocol" in (witness.gone[0].detail or "")


# -- to a worker ------------------------------------------------------------------------------


def text(place: Endpoint) -> str:
    return "".join(m.data for m in place.uplink.of(ShellOutput))


def open_shell(place: Endpoint) -> tuple[Any, JobRecord]:
    shells = place.shells()
    shells.on_start(ShellStart(session="s"))
    shells.on_input(ShellInput(session="s", data="echo $((40+2))\n"))
    place.until(lambda: "42" in text(place))
    (worker,) = list(place.pool)
    return shells, worker.record


def dial(record: JobRecord) -> socket.socket:
    conn = socket.socket(socket.AF_UNIX)
    conn.settimeout(20)
    while True:
        try:
            conn.connect(record.address)
        except BlockingIOError:  # more at once than it has taken yet
            time.sleep(0.005)
        else:
            return conn


def is_closed(conn: socket.socket) -> bool:
    try:
        return conn.recv(1) == b""
    except ConnectionResetError:
        return True


def framed(message: Any) -> bytes:
    return frames.message_frame(encode(message))


@pytest.mark.parametrize(
    "first",
    [
        framed(Dial(token=b"wrong" * 6 + b"xx")),
        framed(Dial(token=b"")),
        framed(End()),
        frames.message_frame(b"\xc1"),
        frames.message_frame(msgspec.msgpack.encode({"m": "of a newer version"})),
        frames.data_frame(0, 0, b"exit\n"),
        frames.header(frames.DATA, 3) + b"abc",
        struct.pack(">IB", 1 << 31, 1),
    ],
    ids=["token", "no token", "no dial", "nonsense", "unknown", "input", "short", "2 GiB"],
)
def test_stranger_at_a_worker_is_sent_away_and_its_job_goes_on(
    place: Endpoint, first: bytes
) -> None:
    shells, record = open_shell(place)
    with dial(record) as conn:
        conn.sendall(first)
        assert is_closed(conn)
    shells.on_input(ShellInput(session="s", data="echo still-$((40+3))\n"))
    place.until(lambda: "still-43" in text(place))
    assert place.uplink.of(ShellClosed) == []


def test_second_dialler_with_the_token_is_refused_while_the_first_lives(place: Endpoint) -> None:
    shells, record = open_shell(place)
    with dial(record) as conn:
        conn.sendall(framed(Dial(token=record.token)) + framed(End()))
        assert is_closed(conn)
    shells.on_input(ShellInput(session="s", data="echo still-$((40+3))\n"))
    place.until(lambda: "still-43" in text(place))


def test_diallers_that_say_nothing_keep_nobody_out(place: Endpoint) -> None:
    shells, record = open_shell(place)
    """Each is sent away after a while: they must not use up its descriptors either."""
    silent = [dial(record) for _ in range(40)]
    shells.on_input(ShellInput(session="s", data="echo still-$((40+3))\n"))
    place.until(lambda: "still-43" in text(place))
    for conn in silent:
        assert is_closed(conn)
        conn.close()


def test_agent_that_speaks_nonsense_is_dropped_and_the_next_one_is_heard() -> None:
    """An agent of another version must not be able to end a job by what it says."""
    with generations() as agents:
        first = agents.next()
        _, record = open_shell(first)
        agents.abandon()
        for nonsense in (
            frames.message_frame(b"\xc1"),
            frames.message_frame(msgspec.msgpack.encode({"m": "of a newer version"})),
            frames.header(frames.DATA, 3) + b"abc",
            struct.pack(">IB", 1 << 31, 1),
        ):
            with attach(record) as conn:
                conn.sendall(nonsense)
                while not is_closed(conn):
                    pass
        with attach(record) as conn:
            assert conn.recv(1)
        assert processes.is_same(record.pid, record.start_time)


def attach(record: JobRecord) -> socket.socket:
    """Dial until the worker has noticed that the one before is gone."""
    deadline_s = time.monotonic() + 20
    while True:
        conn = dial(record)
        conn.sendall(framed(Dial(token=record.token)))
        try:
            if conn.recv(5, socket.MSG_PEEK):
                return conn
        except ConnectionResetError:
            pass
        conn.close()
        assert time.monotonic() < deadline_s, "never taken"
        time.sleep(0.01)
