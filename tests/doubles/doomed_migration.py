"""Migrations in processes that end themselves by `kill -9` at a chosen step.

Rules: a step is a statement that was executed, or a commit that is about to be made. Run as a
script it is the process that migrates what is to live and forks a child for each that is to die: it
has imported and compiled by then what a start of Python for each would do again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]


class Migrations:
    """The test's end."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.doomed_migration"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def up(self, url: str, to: str) -> list[str]:
        """Migrate a database up to a revision; return its steps."""
        return list(self._order(url=url, to=to)["steps"])

    def killed(self, url: str, to: str, at: int) -> None:
        """Migrate a database up, and be killed at a step."""
        told = self._order(url=url, to=to, at=at)
        assert os.WIFSIGNALED(told["status"]), told
        assert os.WTERMSIG(told["status"]) == signal.SIGKILL, told

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told


# -- the other end ------------------------------------------------------------------------------


def _migrate(url: str, to: str, at: int | None) -> list[str]:
    from sqlalchemy import event

    from hub.db import migrate
    from hub.db.database import Database

    steps: list[str] = []

    def step(said: str) -> None:
        steps.append(said)
        if len(steps) - 1 == at:
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(url)
    writer = database.engines.writer
    event.listen(writer, "after_cursor_execute", lambda _c, _cursor, said, *_: step(said))
    event.listen(writer, "commit", lambda _connection: step("COMMIT"))
    migrate.upgrade(database, to)
    database.close()
    return steps


def _carry_out(url: str, to: str, at: int | None = None) -> dict[str, Any]:
    if at is None:
        return {"steps": _migrate(url, to, None)}
    child = os.fork()
    if child == 0:
        _migrate(url, to, at)
        os._exit(0)
    return {"status": os.waitpid(child, 0)[1]}


def _serve() -> None:
    for line in sys.stdin:
        print(json.dumps(_carry_out(**json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
