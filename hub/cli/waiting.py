"""Wait for a job that was asked for over the API.

Rules: polls, since these jobs take a second or two; a hub that is away is asked again for
`PATIENCE_S`; Ctrl-C asks for the job's end, or leaves it alone where its family says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hub.cli import exits, output
from hub.cli.client import Client
from hub.errors import CliError

LOOK_S = 0.3
NOTE_S = 1.5
PATIENCE_S = 120.0
OPEN = ("queued", "sent", "running")


def wait(
    client: Client,
    job: dict[str, Any],
    *,
    on_look: Callable[[dict[str, Any]], None] | None = None,
    goes_on: str = "",
) -> dict[str, Any]:
    """Return a job once it has ended.

    Args:
        on_look: called with the job at each look.
        goes_on: what to tell whoever presses Ctrl-C, where the job is then left alone.

    Raises:
        KeyboardInterrupt: somebody pressed Ctrl-C; CliError: the hub is away for too long.
    """
    began_s = time.monotonic()
    has_noted = False
    try:
        while job["state"] in OPEN:
            time.sleep(LOOK_S)
            job = _look(client, job["id"])
            if job["state"] == "queued" and not has_noted and time.monotonic() - began_s > NOTE_S:
                output.note(f"the machine is not linked: queued until {job['expires_at']}")
                has_noted = True
            if on_look is not None:
                on_look(job)
    except KeyboardInterrupt:
        if goes_on:
            output.note(goes_on)
        else:
            _take_back(client, job)
        raise
    return job


def succeeded(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job once it has succeeded.

    Raises:
        CliError: it has not; the message is the machine's, where it said something.
    """
    ended = wait(client, job)
    if ended["state"] == "succeeded":
        return ended
    raise failed(ended)


def failed(job: dict[str, Any]) -> CliError:
    """Return what to raise of a job that has not succeeded."""
    result, error = job["result"] or {}, job["error"] or ""
    said = str(result.get("stderr") or result.get("detail") or error or job["state"]).strip()
    code = exits.REFUSED if error == "policy_denied" else exits.FAILED
    if error in ("agent_offline", "skipped", "expired"):
        code = exits.UNAVAILABLE
    return CliError(said if error in said else f"{said} ({error})", code, reason=error)


def _look(client: Client, job_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            found: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}")
        except CliError as error:
            if error.exit_code != exits.UNAVAILABLE or time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_S)
        else:
            return found


def _take_back(client: Client, job: dict[str, Any]) -> None:
    try:
        client.post(f"/api/v1/jobs/{job['id']}/cancel")
    except CliError as error:
        output.note(str(error))
