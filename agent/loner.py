"""Owner of workers that nobody waits for: what an earlier agent sampled, followed or listed."""

from __future__ import annotations

from agent.pool import Pool
from agent.worker import Gone, Worker
from workers.messages import Hello, Result, ToAgent


class Loner:
    """Lets every worker of its go."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_ready(self, worker: Worker, hello: Hello) -> None:
        """It has been told to end."""

    def on_mail(self, worker: Worker, message: ToAgent) -> None:
        """Nobody listens."""

    def on_output(self, worker: Worker, stream: int, offset: int, data: bytes) -> None:
        """Nobody listens."""

    def on_finished(self, worker: Worker, result: Result) -> None:
        """Let it go."""
        self._pool.release(worker)

    def on_gone(self, worker: Worker, gone: Gone) -> None:
        """It has gone."""
        self._pool.drop_record(worker.record.job_id)
