"""One order for many machines: in waves, so many at once, until too many have failed. Pure.

Rules: a wave begins when the one before it has ended; once more have failed than may, nothing more
is begun, and what is under way is waited for. Who was never asked is not in the outcome.
Source: issue 5 "Commands" (bulk by tag with concurrency, waves and an error threshold).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from hub.cli import exits
from hub.errors import CliError


class Target(NamedTuple):
    """A machine."""

    asset_id: str
    name: str


class Outcome(NamedTuple):
    """What came of one machine: the command, if there is one, and what to say of it."""

    target: Target
    command: dict[str, Any] | None
    said: str
    exit_code: int


class Plan(NamedTuple):
    """Sizes of the waves, how many at once, and how many may fail (`5`, `10%`; None: all)."""

    waves: Sequence[int]
    concurrency: int
    max_failures: str | None


def waves(count: int, sizes: str | None) -> list[int]:
    """Read the sizes of waves, such as `1,10,50%`; the last one is repeated to the end.

    Raises:
        CliError: no such sizes.
    """
    if sizes is None:
        return [count]
    steps = [_amount(text, count, math.ceil) for text in sizes.split(",")]
    if not all(steps):
        raise CliError(f"--waves {sizes}: each wave has at least one", exits.USAGE)
    found: list[int] = []
    while (left := count - sum(found)) > 0:
        found.append(min(steps[min(len(found), len(steps) - 1)], left))
    return found


def carry_out(
    targets: Sequence[Target],
    plan: Plan,
    one: Callable[[Target], Outcome],
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Do something for each machine.

    Args:
        one: does it for one machine and never raises.
        tell: hears of each outcome as it comes.

    Raises:
        CliError: no such threshold.
    """
    allowed = len(targets)
    if plan.max_failures is not None:
        allowed = _amount(plan.max_failures, len(targets), math.floor)
    bulk = _Bulk(max(1, plan.concurrency), allowed, one, tell)
    start = 0
    with ThreadPoolExecutor(bulk.concurrency) as pool:
        for size in plan.waves:
            bulk.carry_out(pool, list(targets[start : start + size]))
            start += size
            if bulk.is_over:
                break
    return bulk.outcomes


class _Bulk:
    """What is under way."""

    def __init__(
        self,
        concurrency: int,
        allowed: int,
        one: Callable[[Target], Outcome],
        tell: Callable[[Outcome], None],
    ) -> None:
        self.concurrency = concurrency
        self._allowed = allowed
        self._one = one
        self._tell = tell
        self.outcomes: list[Outcome] = []

    @property
    def is_over(self) -> bool:
        """Have more failed than may?"""
        return sum(one.exit_code != exits.OK for one in self.outcomes) > self._allowed

    def carry_out(self, pool: ThreadPoolExecutor, waiting: list[Target]) -> None:
        """Do one wave."""
        running: set[Future[Outcome]] = set()
        while waiting or running:
            while waiting and len(running) < self.concurrency and not self.is_over:
                running.add(pool.submit(self._one, waiting.pop(0)))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                self.outcomes.append(future.result())
                self._tell(self.outcomes[-1])


def _amount(text: str, of: int, rounded: Callable[[float], int]) -> int:
    """Read a number, or a percentage of `of`."""
    number = text.strip()
    is_percent = number.endswith("%")
    try:
        value = int(number.removesuffix("%"))
    except ValueError as error:
        raise CliError(f"{text}: a number or a percentage is needed", exits.USAGE) from error
    if value < 0:
        raise CliError(f"{text}: a number or a percentage is needed", exits.USAGE)
    return rounded(of * value / 100) if is_percent else value
