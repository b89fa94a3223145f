"""Commands: a job is known by its `jobId` from its acceptance on, whatever became of the agent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from agent.command_results import Refusal, digest_of
from agent.limits import MOST_WAITING, MOST_WAITING_BYTES
from tests.doubles.families import Core
from tests.doubles.pool import record_of
from wire.admin import AdminResult, AdminRun, Command
from workers.jobs import JobRecord
from workers.messages import CommandEnded

REQUEST = AdminRun(token="t", job_id="j1", cmd=Command(command="/bin/true"))


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(features=frozenset({"ack"}))
    yield made
    made.close()


def earlier() -> JobRecord:
    """What an agent before this one wrote down of the request."""
    wire = {"request": msgspec.to_builtins(REQUEST), "digest": digest_of(REQUEST)}
    return record_of("admin", "j1", wire)


def test_commands_lost_job_asked_for_before_its_final_is_stored_is_not_run_again(
    core: Core,
) -> None:
    """The disk may be slower than the link: until then only memory knows that it ran."""
    core.uplink.disk_full = True
    dropped: list[str] = []
    core.commands.recover(earlier(), None, lambda: dropped.append("j1"))
    core.commands.on_run(REQUEST)
    core.turn()
    assert core.pool.workers == []
    (told,) = core.said(AdminResult)
    assert (told.job_id, told.result.error) == ("j1", "unknown_outcome")
    assert (core.commands.states(), dropped) == ([], [])

    core.uplink.store()
    core.known["j1"] = (digest_of(REQUEST), told)
    core.commands.on_run(REQUEST)
    assert (core.pool.workers, dropped) == ([], ["j1"])
    assert core.said(AdminResult) == [told, told]


def test_commands_lost_job_is_no_name_for_another_command(core: Core) -> None:
    core.uplink.disk_full = True
    core.commands.recover(earlier(), None, lambda: None)
    core.commands.on_run(msgspec.structs.replace(REQUEST, cmd=Command(command="/bin/false")))
    assert core.pool.workers == []
    assert [one.result.error for one in core.said(AdminResult)] == ["unknown_outcome", "id_reused"]


def asked(job_id: str, command: str = "/bin/true") -> AdminRun:
    return AdminRun(job_id=job_id, cmd=Command(command=command, timeout_sec=600.0))


def test_commands_in_line_are_not_begun_on_a_machine_that_was_paused_meanwhile() -> None:
    core = Core(features=frozenset({"ack"}), places=1)
    core.commands.on_run(asked("first"))
    core.commands.on_run(asked("second"))
    core.rules.lock = Refusal(126, "paused", "locked_by_host")
    (first,) = core.pool.workers
    first.ends(CommandEnded(code=0, duration_ms=1))
    core.turn()
    assert len(core.pool.workers) == 1 and core.slots.taken == 0
    _, told = core.said(AdminResult)
    assert (told.job_id, told.result.summary.code, told.result.error) == (
        "second", 126, "locked_by_host",
    )  # fmt: skip
    assert core.commands.states() == []
    core.close()


def test_commands_refuse_what_would_only_fill_the_memory() -> None:
    core = Core(features=frozenset({"ack"}), places=1)
    for number in range(MOST_WAITING + 3):
        core.commands.on_run(asked(f"j{number}"))
    told = core.said(AdminResult)
    assert [one.job_id for one in told] == [f"j{MOST_WAITING + 1}", f"j{MOST_WAITING + 2}"]
    assert {(one.result.summary.code, one.result.error) for one in told} == {(429, "busy")}
    core.close()


def test_commands_in_line_are_bounded_by_their_size_and_give_it_back() -> None:
    core = Core(features=frozenset({"ack"}), places=1)
    large = "/bin/echo " + "x" * 100_000
    most = MOST_WAITING_BYTES // len(large)
    for number in range(most + 2):
        core.commands.on_run(asked(f"j{number}", large))
    assert [one.job_id for one in core.said(AdminResult)] == [f"j{most + 1}"]
    core.pool.workers[0].ends(CommandEnded(code=0, duration_ms=1))
    core.turn()
    core.commands.on_run(asked("again", large))
    assert "again" not in [one.job_id for one in core.said(AdminResult)]
    core.close()


@pytest.mark.parametrize(("code", "is_kept"), [(126, True), (429, True), (401, False)])
def test_commands_a_refusal_is_the_answer_to_its_job_id_from_then_on(
    core: Core, code: int, is_kept: bool
) -> None:
    """The hub was told that it did not run: then it does not, however often it is delivered."""
    refusal = Refusal(code, "no")
    if code == 401:
        core.rules.token = refusal
    else:
        core.rules.lock = refusal
    core.commands.on_run(REQUEST)
    assert core.uplink.digests == [digest_of(REQUEST) if is_kept else None]
