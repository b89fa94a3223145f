"""End a command that runs: find its worker, and restart that; a command is not run again.

The contract has no message that ends a command, but `worker_restart` ends the one that a worker is
at work on. A command that still waits for its turn in the agent has no worker yet: it is looked for
again until it has one, or has ended. Foreign agents cannot be asked.
Source: contract 1.7 `workers`; docs/reference/cli.rst, "worker restart".
"""

from __future__ import annotations

import asyncio

from hub.agents.links import Link, Links
from hub.errors import HubError
from wire.workers import WorkerList, WorkerRestart, Workers

LOOK_S = 1.0
_PREFIX = "cancel:"
_SHOWN_CHARS = 80


class Cancelling:
    """See the module."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._wanted: dict[str, asyncio.Event] = {}

    async def ask(self, job_id: str, link: Link) -> None:
        """Ask until the command has ended, or the link has."""
        if job_id in self._wanted:
            return
        ended = self._wanted[job_id] = asyncio.Event()
        try:
            while not ended.is_set() and self._links.of(link.asset_id) is link:
                self._links.send_nowait(link, WorkerList(request_id=_PREFIX + job_id))
                try:
                    async with asyncio.timeout(LOOK_S):
                        await ended.wait()
                except TimeoutError:
                    continue
        finally:
            del self._wanted[job_id]

    def ended(self, job_id: str) -> None:
        """The command has its result."""
        if job_id in self._wanted:
            self._wanted[job_id].set()

    def on_workers(self, link: Link, message: Workers) -> None:
        """The agent has said which workers it has."""
        job_id = message.request_id.removeprefix(_PREFIX)
        if not message.request_id.startswith(_PREFIX) or job_id not in self._wanted:
            return
        for item in message.items:
            if item.kind == "admin" and item.job == job_id[:_SHOWN_CHARS]:
                request = WorkerRestart(request_id=message.request_id, worker_id=item.id)
                try:
                    self._links.send_nowait(link, request)
                except HubError:
                    return
