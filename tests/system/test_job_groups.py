"""Jobs of a real agent in their control groups: bounded, told, and gone without a rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.pair import Pair, connected
from workers.cgroups import PREFIX, JobCgroup, Place, places

PLACES = places()
DAEMON = "setsid env -i sleep 3600 &"

pytestmark = pytest.mark.skipif(not PLACES, reason="no writable control group here")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected() as pair:
        yield pair


def with_controller(name: str) -> Place:
    found = [place for place in PLACES if name in place.controllers]
    if not found:
        pytest.skip(f"this machine: no {name} controller to write to")
    return found[0]


def row_of(pair: Pair, job: str) -> dict[str, Any]:
    return next(row for row in pair.agent.workers() if row["job"] == job)


def job_id_of(pair: Pair, job: str) -> str:
    """Return what the job's groups are named after."""
    for line in Path(f"/proc/{row_of(pair, job)['pid']}/cgroup").read_text().splitlines():
        name = line.rpartition("/")[2]
        if name.startswith(PREFIX):
            return name.removeprefix(PREFIX)
    raise AssertionError("the worker is in no group of its own")


def begun(pair: Pair, job: str) -> str:
    """Wait until a job's own process runs; return what its groups are named after."""
    rows = pair.agent.workers
    pair.agent.until(lambda: any(row["job"] == job and row["child_pid"] for row in rows()))
    return job_id_of(pair, job)


def is_empty(job_id: str) -> bool:
    group = JobCgroup.find(job_id, PLACES)
    return group is None or not group.members()


def is_removed(job_id: str) -> bool:
    return JobCgroup.find(job_id, PLACES) is None


def test_job_and_all_it_starts_are_in_its_groups_and_the_groups_go_with_it(pair: Pair) -> None:
    session = pair.shell()
    job_id = job_id_of(pair, session)
    group = JobCgroup.find(job_id, PLACES)
    assert group is not None
    pair.type(session, "sleep 3600 & echo pid=$!.\n")
    output = pair.hub.wait_for_output(session, ".\r\n").decode()
    child = int(output.rpartition("pid=")[2].split(".")[0])
    assert {row_of(pair, session)["pid"], child} <= group.members()
    assert os.getpid() not in group.members() and pair.agent.pid not in group.members()
    pair.hub.emit("shell_close", {"session": session})
    pair.hub.wait_for("shell_closed", session=session)
    pair.agent.until(lambda: is_removed(job_id))


def test_killed_worker_leaves_nobody_in_its_groups(pair: Pair) -> None:
    """Not even a daemon without the job's mark."""
    session = pair.shell()
    job_id = job_id_of(pair, session)
    pair.type(session, f"{DAEMON} echo do''ne\n")
    pair.hub.wait_for_output(session, "done\r\n")
    os.kill(row_of(pair, session)["pid"], 9)
    closed = pair.hub.wait_for("shell_closed", session=session).payload
    assert (closed["reason"], closed["signal"]) == ("worker_died", 9)
    pair.agent.until(lambda: is_empty(job_id))
    pair.agent.until(lambda: is_removed(job_id))


def test_background_process_of_a_command_that_ended_is_left_alone(pair: Pair) -> None:
    job = pair.begin(f"sh -c 'sleep 1; {DAEMON} echo $!'")
    job_id = begun(pair, job)
    assert pair.result(job)["result"]["summary"]["code"] == 0
    pair.agent.until(lambda: not pair.agent.workers("admin"))
    group = JobCgroup.find(job_id, PLACES)
    assert group is not None and len(group.members()) == 1
    for pid in group.members():
        os.kill(pid, 9)
    pair.agent.until(lambda: is_removed(job_id))


def test_fork_bomb_is_bounded_and_ends_with_its_shell(pair: Pair) -> None:
    place = with_controller("pids")
    session, other = pair.shell(), pair.shell()
    job_id = job_id_of(pair, session)
    limit = Path(place.directory, f"{PREFIX}{job_id}", "pids.max")
    assert limit.read_text() == "4096\n"
    limit.write_text("60\n")
    pair.type(session, "bomb() { bomb | bomb & }; bomb 2>/dev/null\n")
    group = JobCgroup.find(job_id, PLACES)
    assert group is not None
    pair.agent.until(lambda: len(group.members()) > 40)
    pair.type(other, "echo st''ill\n")
    pair.hub.wait_for_output(other, "still\r\n")
    for name in (session, other):
        pair.hub.emit("shell_close", {"session": name})
        pair.hub.wait_for("shell_closed", session=name)
    pair.agent.until(lambda: is_removed(job_id))


EAT = "x = b'x' * (1 << 30)"


def allow_memory(place: Place, job_id: str, count: int) -> None:
    name = "memory.max" if place.is_v2 else "memory.limit_in_bytes"
    Path(place.directory, f"{PREFIX}{job_id}", name).write_text(f"{count}\n")


def test_shell_that_uses_its_memory_up_is_closed_as_oom(pair: Pair) -> None:
    place = with_controller("memory")
    session = pair.shell()
    allow_memory(place, job_id_of(pair, session), 96 << 20)
    pair.type(session, f'exec python3 -c "{EAT}"\n')
    closed = pair.hub.wait_for("shell_closed", session=session).payload
    assert (closed["reason"], closed["signal"]) == ("oom", 9)


def test_command_that_uses_its_memory_up_says_so(pair: Pair, tmp_path: Path) -> None:
    place, go = with_controller("memory"), tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists('{go}'): time.sleep(0.02)\n"
    (tmp_path / "eat.py").write_text(f"{wait}{EAT}\n")
    job = pair.begin(f"python3 {tmp_path}/eat.py")
    job_id = begun(pair, job)
    allow_memory(place, job_id, 96 << 20)
    go.touch()
    outcome = pair.result(job)["result"]
    assert (outcome["summary"]["code"], outcome["error"]) == (137, "oom")
    assert "memory" in outcome["stderr"]
