"""Carry out every check, each bounded in time, and give the findings as they come.

A check that hangs (a name service, a dead mount) is left behind in its thread and reported; the
process ends without waiting for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent import config, control_client
from agent.doctor import configuration, machine, network, service
from agent.doctor.finding import Check, Finding, Scene
from agent.errors import ControlError, SilentAgentError

CHECKS: tuple[tuple[str, Check, float], ...] = (
    ("configuration", configuration.check, 5.0),
    ("directories", configuration.check_directories, 5.0),
    ("agent and service", service.check, 20.0),
    ("network", network.check, 30.0),
    ("disk", machine.check_disk, 5.0),
    ("pty", machine.check_pty, 5.0),
    ("crontab", machine.check_crontab, 8.0),
)


def scene(config_file: Path | None, environ: Mapping[str, str]) -> Scene:
    """Look at what is known before the first check."""
    report = config.inspect(config.Options(config=config_file), environ)
    try:
        status = control_client.ask("status", timeout_s=3.0, environ=environ)
    except SilentAgentError as e:
        return Scene(report, None, environ, silence=str(e))
    except ControlError:
        return Scene(report, None, environ)
    return Scene(report, status, environ)


def examine(on: Scene, checks: tuple[tuple[str, Check, float], ...] = CHECKS) -> Iterator[Finding]:
    """Yield every finding, in the order of the checks."""
    for name, check, timeout_s in checks:
        yield from _bounded(name, check, on, timeout_s)


def _bounded(name: str, check: Check, on: Scene, timeout_s: float) -> Iterator[Finding]:
    found: queue.Queue[Finding | None] = queue.Queue()

    def carry_out() -> None:
        try:
            for finding in check(on):
                found.put(finding)
        except Exception as e:  # noqa: BLE001  # one check must not cost the others
            sentence = f"the check failed: {type(e).__name__}: {e}"
            found.put(Finding(name, "failed", sentence, "report this as a bug"))
        found.put(None)

    threading.Thread(target=carry_out, daemon=True).start()
    while True:
        try:
            finding = found.get(timeout=timeout_s)
        except queue.Empty:
            yield Finding(name, "failed", f"no answer within {timeout_s:.0f} s", "see what hangs")
            return
        if finding is None:
            return
        yield finding
