"""Many askers, one unit of work at a time: what gathers while one runs is asked together.

Rules: on the loop; answers come in the order of the questions; a failure is everybody's of its
batch. Source: "group commit".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
MAX_BATCH = 128


class Batches(Generic[Q, A]):
    """See the module.

    Args:
        run: gets a batch of questions, returns as many answers.
        gather_s: how long a batch waits for company; what costs is the batch, not its size.
    """

    def __init__(self, run: Callable[[list[Q]], Awaitable[list[A]]], gather_s: float = 0.0) -> None:
        self._run = run
        self._gather_s = gather_s
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Ask, and wait for the answer.

        Raises:
            what the batch's run raises.
        """
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None:
            self._task = asyncio.ensure_future(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            if len(self._waiting) < MAX_BATCH:
                await asyncio.sleep(self._gather_s)
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            await self._answer(batch)
        self._task = None

    async def _answer(self, batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._run([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001  (it belongs to those who asked)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
