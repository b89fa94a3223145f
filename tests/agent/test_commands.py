"""Commands: a job is known by its `jobId` from its acceptance on, whatever became of the agent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from agent.command_results import digest_of
from tests.doubles.families import Core
from tests.doubles.pool import record_of
from wire.admin import AdminResult, AdminRun, Command
from workers.jobs import JobRecord

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
