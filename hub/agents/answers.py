"""A question to an agent, and its answer: matched by the request's id, given up after a time.

Rules: on the loop; a question lives in memory alone, since whoever asked waits. An answer counts
only from the machine that was asked.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from hub.agents.links import Link, Links
from hub.errors import AgentOfflineError, ConflictError, UnavailableError
from hub.ids import new_id
from wire.events import ToAgent

ANSWER_S = 15.0
MAX_OPEN = 64


class _Answer(Protocol):
    @property
    def request_id(self) -> str: ...


class Answers:
    """The questions that are open."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._open: dict[str, tuple[str, asyncio.Future[Any]]] = {}

    @staticmethod
    def new_id() -> str:
        """Return the id for a question."""
        return new_id()

    async def ask(self, asset_id: str, request_id: str, question: ToAgent) -> Any:
        """Ask a machine and wait for its answer.

        Raises:
            AgentOfflineError: it is not linked, or its link went meanwhile.
            UnsupportedError: it does not know the question.
            ConflictError: `busy`, too many questions are open there.
            UnavailableError: `no_answer` in time.
        """
        if sum(asked == asset_id for asked, _ in self._open.values()) >= MAX_OPEN:
            raise ConflictError("too many questions are open at this agent", code="busy")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[request_id] = (asset_id, answer)
        try:
            await self._links.send(asset_id, question)
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError as error:
            raise UnavailableError("the agent did not answer in time", code="no_answer") from error
        finally:
            del self._open[request_id]

    def take(self, link: Link, answer: _Answer) -> None:
        """An answer has come."""
        asset_id, waiting = self._open.get(answer.request_id, ("", None))
        if waiting is not None and asset_id == link.asset_id and not waiting.done():
            waiting.set_result(answer)

    def on_unlinked(self, link: Link) -> None:
        """Nobody will answer any more."""
        for asset_id, waiting in list(self._open.values()):
            if asset_id == link.asset_id and not waiting.done():
                waiting.set_exception(AgentOfflineError("the agent's link was lost"))
