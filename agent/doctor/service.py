"""Check who starts the agent, and whether that one would take its jobs along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from agent import dirs, killswitch, started_from
from agent.doctor.finding import Finding, Scene

UNIT = "jackline.service"
SUPERVISORS = ("supervisor.service", "supervisord.service")
TIMEOUT_S = 5.0
_RESTART = "`systemctl restart jackline` or `supervisorctl restart agent`"
DROP_IN = "/etc/systemd/system/{unit}.d/jackline.conf"


def check(scene: Scene) -> Iterator[Finding]:
    """Tell whether an agent runs, who keeps it, and whether jobs survive that one's restart."""
    yield from _agent(scene)
    if sys.platform != "linux":
        yield Finding("service", "skipped", "only systemd and supervisord are looked at")
        return
    unit = shown(UNIT)
    if unit is None:
        yield Finding("service", "skipped", "this machine is not run by systemd")
    elif unit.get("LoadState") == "loaded":
        yield _unit(unit)
    for name in SUPERVISORS:
        found = shown(name)
        if found is not None and found.get("LoadState") == "loaded":
            yield _supervisor(name, found, is_ours=_parent_is(scene, "supervisord"))


def _agent(scene: Scene) -> Iterator[Finding]:
    if scene.silence:
        yield Finding("agent", "failed", scene.silence, "`jackline logs` may say what it hangs in")
    elif scene.status is None:
        cure = "`systemctl start jackline`, `supervisorctl start agent` or `jackline run`"
        yield Finding("agent", "warning", "no agent runs", cure)
    else:
        yield _link(scene, scene.status)
        yield from _troubles(scene.status)
    if killswitch.is_on(dirs.find(scene.environ).state):
        yield Finding("agent", "warning", "paused: no job is taken", "`jackline resume` ends that")


def _link(scene: Scene, status: Mapping[str, Any]) -> Finding:
    link: Any = status.get("link") or {}
    told = f"pid {status.get('pid')}, link {link.get('state')}"
    if scene.is_linked:
        return Finding("agent", "ok", f"an agent runs: {told}")
    if link.get("state") == "off":
        return _beats(status)
    refusal = link.get("last_refusal") or {}
    why = f"; last refusal: {refusal.get('reason')}" if refusal else ""
    return Finding("agent", "warning", f"an agent runs: {told}{why}", "see the findings below")


def _beats(status: Mapping[str, Any]) -> Finding:
    """No link is wanted (profile `reporter`): the heartbeat says how it is."""
    heartbeat: Any = status.get("heartbeat") or {}
    told = f"an agent runs: pid {status.get('pid')}, heartbeat alone, {heartbeat.get('state')}"
    if heartbeat.get("state") == "up":
        return Finding("agent", "ok", told)
    failure = heartbeat.get("last_failure") or {}
    why = f"; last failure: {failure.get('reason')}" if failure else ""
    return Finding("agent", "warning", f"{told}{why}", "see the findings below")


def _troubles(status: Mapping[str, Any]) -> Iterator[Finding]:
    """Tell what the agent itself complains of."""
    for what in status.get("degraded") or ():
        yield Finding("agent", "warning", f"degraded: {what}", "`jackline logs` says why")
    parked = (status.get("outbox") or {}).get("parked")
    if parked:
        cure = "`jackline outbox ls` shows them, `jackline outbox flush` tries them again"
        yield Finding("agent", "warning", f"{parked} results cannot be delivered", cure)
    for sentence in started_from.warnings(status.get("files")):
        yield Finding("agent", "warning", sentence, _RESTART)


def _unit(unit: dict[str, str]) -> Finding:
    state = unit.get("ActiveState", "unknown")
    if unit.get("KillMode") not in ("process", "mixed", "none") or unit["KillMode"] == "mixed":
        cure = "`jackline service install` writes KillMode=process again"
        return Finding("service", "warning", f"stopping {UNIT} would end every job", cure)
    if state != "active":
        cure = f"`systemctl enable --now {UNIT}`; `journalctl -u {UNIT}` says why it ended"
        return Finding("service", "warning", f"{UNIT} is {state}", cure)
    return Finding("service", "ok", f"{UNIT} is active; its jobs outlive its restart")


def _supervisor(name: str, unit: dict[str, str], *, is_ours: bool) -> Finding:
    if unit.get("KillMode") == "process":
        return Finding("service", "ok", f"jobs outlive a restart of {name}")
    if not is_ours:
        return Finding("service", "ok", f"{name} is here and does not run our agent")
    cure = (
        f"put `[Service]` and `KillMode=process` into {DROP_IN.format(unit=name)} "
        "(packaging/systemd has the file), then `systemctl daemon-reload`"
    )
    return Finding("service", "warning", f"restarting {name} would end every job", cure)


def shown(unit: str) -> dict[str, str] | None:
    """Return a unit's properties; None where systemd does not run this machine."""
    program = shutil.which("systemctl", path="/usr/bin:/bin")
    if program is None or not os.path.isdir("/run/systemd/system"):
        return None
    try:
        done = subprocess.run(
            [program, "show", unit, "-p", "LoadState,ActiveState,KillMode,UnitFileState"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _parent_is(scene: Scene, name: str) -> bool:
    pid = (scene.status or {}).get("pid")
    if not isinstance(pid, int):
        return False
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            parent = file.read().rpartition(")")[2].split()[1]
        with open(f"/proc/{parent}/comm", encoding="utf-8", errors="replace") as file:
            comm = file.read().strip()
        with open(f"/proc/{parent}/cmdline", "rb") as file:
            return comm == name or name.encode() in file.read()
    except (OSError, IndexError):
        return False
