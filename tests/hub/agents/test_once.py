"""A signed query is good once, whatever order, restarts and sweeps it meets: on both databases."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hub.agents import once
from hub.db.database import Database
from wire.limits import ONE_TIME_TTL_S

TTL_MS = ONE_TIME_TTL_S * 1000
SIGS = st.sampled_from([f"{n:064x}" for n in range(6)])


class OneTimeCache(RuleBasedStateMachine):
    """The model: which query was used when. The thing itself: rows, through kills of the hub."""

    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jl-once-"))
        shutil.copy(self.template, self.folder / "hub.db")
        self.database = self._open()
        self.now_ms = 1_000_000
        self.used: dict[str, int] = {}

    def _open(self) -> Database:
        return Database(f"sqlite:///{self.folder}/hub.db")

    @rule(sigs=st.lists(SIGS, min_size=1, max_size=8))
    def use(self, sigs: list[str]) -> None:
        expected = []
        for sig in sigs:
            expected.append(sig not in self.used)
            self.used.setdefault(sig, self.now_ms)
        uses = [once.Use(sig, self.now_ms) for sig in sigs]
        assert self.database.write_now(None, lambda s: once.use(s, uses)) == expected

    @rule(sigs=st.lists(SIGS, min_size=1, max_size=4))
    def fail_after_using(self, sigs: list[str]) -> None:
        """A unit that fails has used nothing."""
        uses = [once.Use(sig, self.now_ms) for sig in sigs]

        def work(session: Any) -> None:
            once.use(session, uses)
            raise ValueError("the unit fails")

        with pytest.raises(ValueError, match="the unit fails"):
            self.database.write_now(None, work)

    @rule(ms=st.integers(1, TTL_MS))
    def let_time_pass(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def sweep(self) -> None:
        self.database.write_now(None, lambda s: once.forget(s, self.now_ms))
        self.used = {s: at for s, at in self.used.items() if at + TTL_MS > self.now_ms}

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.database = self._open()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            shutil.rmtree(self.folder)


def test_the_one_time_cache_answers_as_its_model(sqlite_template: Path) -> None:
    OneTimeCache.template = sqlite_template
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OneTimeCache,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_of_one_batch_the_first_of_equal_queries_wins(database: Database) -> None:
    uses = [once.Use("a" * 64, 1), once.Use("b" * 64, 1), once.Use("a" * 64, 1)]
    assert database.write_now(None, lambda s: once.use(s, uses)) == [True, True, False]
    assert database.write_now(None, lambda s: once.use(s, uses[:1])) == [False]


def test_what_is_out_of_its_time_is_forgotten(database: Database) -> None:
    database.write_now(None, lambda s: once.use(s, [once.Use("a" * 64, 1000)]))
    assert database.write_now(None, lambda s: once.forget(s, 1000 + TTL_MS - 1)) == 0
    assert database.write_now(None, lambda s: once.forget(s, 1000 + TTL_MS)) == 1
