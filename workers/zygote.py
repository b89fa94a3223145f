"""The zygote: a small, single-threaded process that forks workers in about 2 ms.

A fresh exec in its own session with the worker modules loaded and the garbage collector frozen, so
that workers share their pages. It holds no secret of its own, listens in the run directory so that
the next agent finds it, reports every worker's exit (kept until an agent has taken note of it), and
survives the agent. An upgrade starts a second one beside it: its address carries the version.

Rules: only a process of the same user (or root) may dial, one at a time; it never runs job code;
with no agent it stays while a worker or an unread exit is left (one that tells of a killing, and
for 15 minutes), else it ends.
Source: architecture, "Endpoint processes".
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys

from workers import frames, jobs, trees
from workers.entry import KINDS, Office, _may_dial
from workers.errors import FrameError, RecordError, WorkersError
from workers.loop import Loop
from workers.messages import encode
from workers.messages_zygote import (
    Exited,
    ForgetExit,
    FromZygote,
    Quit,
    Ready,
    Spawn,
    Spawned,
    SpawnFailed,
    decode_to_zygote,
)
from workers.queues import Mailbox

assert sys.platform != "win32"

from workers.hardening import harden_worker, settle_memory  # noqa: E402 - POSIX from here on
from workers.job_groups import JobGroups  # noqa: E402
from workers.processes import start_time  # noqa: E402
from workers.queues_posix import SocketListener, bind  # noqa: E402
from workers.reaper import Reaper  # noqa: E402
from workers.strays import Strays  # noqa: E402
from workers.trees_posix import become_subreaper  # noqa: E402

# Loaded once, in pages that all workers share; requests, which few need, is not.
PRELOADED = (KINDS["shell"], KINDS["admin"], KINDS["telemetry"], "workers.confine", "psutil")
LONELY_S = 5.0
UNREAD_S = 900.0


def run(argv: list[str]) -> int:
    """Entry point of `jackline _zygote FD ADDRESS STATE_DIR`.

    FD is the socket that the agent has bound to ADDRESS and listens on already: it can dial before
    this process is up.
    """
    listening_fd, address, state_dir = argv
    for module in PRELOADED:
        # What is broken breaks its own kind, when a worker of that needs it, and no other.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    become_subreaper()
    title("jackline-zygote")
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    zygote = Zygote(socket.socket(fileno=int(listening_fd)), address, state_dir)
    settle_memory()
    zygote.loop.run()
    zygote.close()
    return 0


class Zygote:
    """Forks workers for one agent at a time."""

    def __init__(self, listening: socket.socket, address: str, state_dir: str) -> None:
        self.loop = Loop()
        self._state_dir = state_dir
        self._address = address
        self._address_node = _node(address)
        self._listener = SocketListener(self.loop, listening, _may_dial, self._on_peer)
        self._agent: Mailbox | None = None
        self._workers: dict[int, Spawn] = {}
        self._unread: dict[int, Exited] = {}
        self._strays = Strays()
        self._groups = JobGroups()
        self._reaper = Reaper()
        self._reaper.attach(self.loop)
        self._look_if_lonely()

    def close(self) -> None:
        """Stop listening; the address goes first, unless it is another zygote's by now."""
        if _node(self._address) == self._address_node:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._address)
        self._listener.close()
        self._groups.tidy()

    def _on_peer(self, peer: Mailbox) -> None:
        if self._agent is not None:
            self._agent.close()  # the older one is an agent that died half-way
        self._agent = peer
        peer.on_frame = self._on_frame
        peer.on_closed = lambda _reason: self._on_agent_gone(peer)
        self._send(Ready(pid=os.getpid()))
        for exited in list(self._unread.values()):
            self._send(exited)

    def _on_agent_gone(self, peer: Mailbox) -> None:
        if self._agent is peer:
            self._agent = None

    def _look_if_lonely(self) -> None:
        self._groups.tidy()
        if self._agent is None and not self._workers and not self._unread:
            self.loop.stop()
        self.loop.call_later(LONELY_S, self._look_if_lonely)

    def _send(self, message: FromZygote) -> None:
        if self._agent is not None:
            self._agent.put(frames.message_frame(encode(message)))

    def _on_frame(self, kind: int, body: bytes) -> None:
        try:
            if kind != frames.MESSAGE:
                raise FrameError("the zygote takes no data frames")
            message = decode_to_zygote(body)
        except FrameError:
            if self._agent is not None:
                self._agent.close()
                self._agent = None
            return
        if isinstance(message, Spawn):
            self._spawn(message)
        elif isinstance(message, ForgetExit):
            self._unread.pop(message.pid, None)
        elif isinstance(message, Quit):
            self.loop.stop()

    def _spawn(self, spawn: Spawn) -> None:
        try:
            listening = bind(spawn.address)
        except (OSError, WorkersError) as e:
            self._send(SpawnFailed(job_id=spawn.job_id, error=str(e)))
            return
        try:
            pid = self._groups.fork(spawn.job_id, spawn.kind)
        except OSError as e:
            listening.close()
            os.unlink(spawn.address)
            self._send(SpawnFailed(job_id=spawn.job_id, error=str(e)))
            return
        if pid == 0:
            self._become_worker(spawn, listening)
        listening.close()
        self._workers[pid] = spawn
        self._reaper.watch(pid, lambda status: self._on_exit(pid, status))
        self._send(Spawned(job_id=spawn.job_id, pid=pid, start_time=start_time(pid) or 0))

    def _on_exit(self, pid: int, status: int) -> None:
        spawn = self._workers.pop(pid)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spawn.address)
        oom = self._groups.ended(pid, status)
        exited = Exited(job_id=spawn.job_id, pid=pid, status=status, out_of_memory=oom)
        self._unread[pid] = exited
        self._send(exited)
        self.loop.call_later(UNREAD_S if status else 0.0, lambda: self._give_up(exited))
        for orphan in self._strays.arrived(self._workers):
            if status != 0:
                self._end(trees.kill_tree(orphan, trees.AT_ONCE))

    def _give_up(self, exited: Exited) -> None:
        """Nobody came to read it: what an orderly end has to say is in the spool anyway."""
        if self._unread.get(exited.pid) is exited:
            del self._unread[exited.pid]

    def _end(self, kill: trees.TreeKill) -> None:
        """Drive the end of what a killed worker has left to us."""
        wait_s = kill.step(self.loop.clock())
        if wait_s is not None:
            self.loop.call_later(wait_s, lambda: self._end(kill))

    def _become_worker(self, spawn: Spawn, listening: socket.socket) -> None:
        """Never returns: the child's whole life."""
        code = 70
        try:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.loop.abandon()
            if self._agent is not None:
                self._agent.close()
            self._listener.close()
            become_subreaper()
            harden_worker()
            title(f"jackline-{spawn.kind}")
            spool_fd = jobs.open_spool(spawn.spool)
            office = Office(spawn.job_id, spawn.kind, spawn.token, spool_fd, self._state_dir)
            office.listen(listening)
            code = office.run()
        except RecordError:
            code = jobs.EXIT_NO_SPOOL
        finally:
            os._exit(code)


def _node(path: str) -> tuple[int, int] | None:
    """Return what names a file whatever it is called; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def title(name: str) -> None:
    """Set the name that `ps` and `top` show (15 bytes)."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name[:15])
