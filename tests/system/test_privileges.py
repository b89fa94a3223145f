"""What the kernel says of each kind of worker that a real agent has started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.pair import Pair, connected
from tests.facilities import only_if

FILTERED = "2"  # proc(5): SECCOMP_MODE_FILTER


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected() as both:
        yield both


def facts(pid: int) -> dict[str, str]:
    """Return /proc/<pid>/status as a mapping."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def rights(pid: int) -> tuple[str, ...]:
    """Effective, permitted and bounding capabilities, no_new_privs, seccomp."""
    told = facts(pid)
    return tuple(told[name] for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"))


def core_limit(pid: int | str) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if "core file" in line)


def worker(pair: Pair, kind: str) -> int:
    pid: int = pair.agent.until(lambda: [w["pid"] for w in pair.agent.workers(kind) if w["pid"]])[0]
    return pid


@pytest.mark.parametrize("kind", ["telemetry", "tail"])
def test_confined_worker_has_no_rights_left(pair: Pair, kind: str) -> None:
    only_if(Path("/proc/sys/kernel/seccomp").exists(), "the kernel has no seccomp")
    if kind == "tail":
        pair.hub.emit("log_tail_start", {"session": "t"})
        pair.hub.wait_for("log_tail_output", session="t")
    told = facts(worker(pair, kind))
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", FILTERED)
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(told[name], 16) == 0
    if os.geteuid() == 0:
        assert int(told["CapBnd"], 16) == 0


def test_listing_keeps_its_way_through_directories_alone(pair: Pair, tmp_path: Path) -> None:
    """It lives for a moment: asked again until one was seen at work."""
    only_if(Path("/proc/sys/kernel/seccomp").exists(), "the kernel has no seccomp")
    for number in range(5_000):
        os.mknod(tmp_path / f"{number}")
    zygote = pair.agent.ask("status")["zygote_pid"]
    children = Path(f"/proc/{zygote}/task/{zygote}/children")
    request = {"clientId": "a", "mode": "local", "path": str(tmp_path)}

    def at_work() -> list[dict[str, str]]:
        asked = pair.name()
        pair.hub.emit("dir_list_request", {**request, "requestId": asked})
        seen = []
        while not pair.hub.events("dir_list_response", requestId=asked):
            for pid in children.read_text().split():
                with contextlib.suppress(OSError, KeyError):
                    told = facts(int(pid))
                    if told["Name"] == "jackline-listin" and told["Seccomp"] == FILTERED:
                        seen.append(told)
        return seen

    kept = 1 << 2 if os.geteuid() == 0 else 0  # CAP_DAC_READ_SEARCH
    for told in pair.agent.until(at_work):
        assert told["NoNewPrivs"] == "1"
        assert int(told["CapEff"], 16) | int(told["CapPrm"], 16) | kept == kept


def test_zygote_shell_and_command_have_the_agents_own_rights(pair: Pair) -> None:
    """What the agent or the zygote set on themselves, every shell would inherit: they do not."""
    own = rights(os.getpid())
    session = pair.shell()
    pair.begin("sleep 600", "sleeper")
    pids = {"agent": pair.agent.pid, "zygote": pair.agent.ask("status")["zygote_pid"]}
    for kind in ("shell", "admin"):
        row = pair.agent.until(lambda: [w for w in pair.agent.workers(kind) if w["child_pid"]])[0]  # noqa: B023  # called before the next turn
        pids |= {kind: row["pid"], f"{kind}'s child": row["child_pid"]}
    assert {who: rights(pid) for who, pid in pids.items()} == dict.fromkeys(pids, own)
    assert core_limit(pids["shell's child"]) == core_limit("self")
    pair.hub.emit("shell_close", {"session": session})


def test_memory_scores_spare_the_agent_and_not_its_jobs(pair: Pair) -> None:
    session = pair.shell()
    (shell,) = pair.agent.workers("shell")
    is_told = any("memory score" in one.get("what", "") for one in pair.agent.log_records())
    score = Path(f"/proc/{pair.agent.pid}/oom_score_adj").read_text()
    assert (score == "-500\n") != is_told  # lowering it is a right that not even each root has
    for pid in (shell["pid"], shell["child_pid"], worker(pair, "telemetry")):
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
    pair.hub.emit("shell_close", {"session": session})
