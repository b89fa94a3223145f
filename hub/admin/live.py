"""Live output of commands: from the agent to whoever watches, in bounded memory.

Rules: on the loop. Agents send only what they were granted; the grant for what has come goes back
when no watcher owes more than `WINDOW_BYTES` of taken notices, so a slow watcher slows the command
down, for `STALL_S` at most: then it is told `lagging` and watches no more. With nobody watching,
output is granted at once and let go. The newest `REPLAY_BYTES` of each job, `TOTAL_BYTES` of all,
are kept for who comes later. The result has heads and tails of it all whatever happens here.
Source: contract 1.7 `stream`, `credit`; fault cases C ("slow console consumer").
"""

from __future__ import annotations

import base64
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub.agents.links import Link
from wire import features
from wire.admin import AdminCredit, AdminOutput
from wire.limits import CREDIT_INITIAL_BYTES, CREDIT_MAX_BYTES

WINDOW_BYTES = CREDIT_MAX_BYTES
REPLAY_BYTES = 64 * 1024
TOTAL_BYTES = 32 * 1024 * 1024
STALL_S = 30.0
FORGOTTEN_S = 3600.0
GROW_AFTER = 4


class Watcher(Protocol):
    """A client of the console."""

    @property
    def id(self) -> str: ...
    def emit(self, event: str, payload: object) -> None: ...


Key = tuple[str, str]
"""The machine and the job: what another machine says of the job is another's output."""
Grant = Callable[[Link, AdminCredit], None]


@dataclass
class _Watch:
    client: Watcher
    owed: int = 0
    moved_s: float = field(default_factory=time.monotonic)


@dataclass
class _Job:
    link: Link | None = None
    ungranted: int = 0
    received: int = 0
    window: int = CREDIT_INITIAL_BYTES
    heard_s: float = field(default_factory=time.monotonic)
    kept_bytes: int = 0
    kept: deque[dict[str, Any]] = field(default_factory=deque)
    watches: dict[str, _Watch] = field(default_factory=dict)


class LiveOutput:
    """See the module.

    Args:
        grant: sends credit over a link; a link that is gone is nobody's concern.
    """

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._jobs: OrderedDict[Key, _Job] = OrderedDict()
        self._kept_bytes = 0

    def watch(self, key: Key, client: Watcher) -> None:
        """Let a client see a job's output, from what is kept of it."""
        job = self._jobs.setdefault(key, _Job())
        watch = job.watches[client.id] = _Watch(client)
        for event in job.kept:
            watch.owed += event["bytes"]
            client.emit("admin_output", event)

    def unwatch(self, key: Key, client: Watcher) -> None:
        """A client has seen enough."""
        job = self._jobs.get(key)
        if job is not None and job.watches.pop(client.id, None) is not None:
            self._settle(key, job)
            if job.link is None and not job.watches:
                self.ended(key)

    def closed(self, client: Watcher) -> None:
        """A client is gone."""
        for key in [one for one, job in self._jobs.items() if client.id in job.watches]:
            self.unwatch(key, client)

    def taken(self, job_id: str, client: Watcher, count: int) -> None:
        """A client has written out so many bytes."""
        for key, job in self._jobs.items():
            watch = job.watches.get(client.id)
            if key[1] == job_id and watch is not None:
                watch.owed = max(0, watch.owed - count)
                watch.moved_s = time.monotonic()
                self._settle(key, job)
                return

    def on_output(self, link: Link, message: AdminOutput) -> None:
        """Output has come."""
        try:
            data = base64.b64decode(message.data) if message.encoding else message.data.encode()
        except ValueError:
            return
        key = (link.asset_id, message.job_id)
        job = self._jobs.setdefault(key, _Job())
        self._jobs.move_to_end(key)
        self._count(job, link, len(data))
        event = {
            "job_id": message.job_id,
            "stream": message.stream,
            "offset": message.offset,
            "bytes": len(data),
            "data": base64.b64encode(data).decode(),
        }
        for watch in list(job.watches.values()):
            watch.owed += len(data)
            watch.client.emit("admin_output", event)
        self._keep(job, event)
        self._settle(key, job)

    def ended(self, key: Key) -> None:
        """A job has its result: nothing more comes."""
        job = self._jobs.pop(key, None)
        if job is not None:
            self._kept_bytes -= job.kept_bytes

    def look(self) -> None:
        """Let go of watchers that have not moved, and of jobs that say nothing any more."""
        now_s = time.monotonic()
        for key, job in list(self._jobs.items()):
            for watch in list(job.watches.values()):
                if watch.owed >= WINDOW_BYTES and now_s - watch.moved_s > STALL_S:
                    watch.client.emit("admin_lagging", {"job_id": key[1]})
                    self.unwatch(key, watch.client)
            if not job.watches and now_s - job.heard_s > FORGOTTEN_S:
                self.ended(key)

    def _count(self, job: _Job, link: Link, count: int) -> None:
        if job.link is not link:
            # What the link before was granted and did not use is void; the agent begins anew.
            job.link, job.ungranted, job.window = link, 0, CREDIT_INITIAL_BYTES
        job.ungranted += count
        job.received += count
        job.heard_s = time.monotonic()

    def _settle(self, key: Key, job: _Job) -> None:
        """Grant what has come, when every watcher keeps up."""
        if any(watch.owed >= WINDOW_BYTES for watch in job.watches.values()):
            return
        count, job.ungranted = job.ungranted, 0
        if job.window < CREDIT_MAX_BYTES and job.received >= GROW_AFTER * job.window:
            count += job.window
            job.window *= 2
        if count and job.link is not None and features.CREDIT in (job.link.features or ()):
            self._grant(job.link, AdminCredit(job_id=key[1], bytes=count))

    def _keep(self, job: _Job, event: dict[str, Any]) -> None:
        job.kept.append(event)
        job.kept_bytes += event["bytes"]
        self._kept_bytes += event["bytes"]
        while job.kept_bytes > REPLAY_BYTES:
            self._let_go(job)
        for other in self._jobs.values():
            if self._kept_bytes <= TOTAL_BYTES:
                return
            while other.kept:
                self._let_go(other)

    def _let_go(self, job: _Job) -> None:
        count = job.kept.popleft()["bytes"]
        job.kept_bytes -= count
        self._kept_bytes -= count
