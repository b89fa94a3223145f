"""Wait for a job that was asked for over the API.

Rules: polls, since these jobs take a second or two; Ctrl-C takes a queued one back.
"""

from __future__ import annotations

import time
from typing import Any

from hub.cli import exits, output
from hub.cli.client import Client
from hub.errors import CliError

LOOK_S = 0.3
NOTE_S = 1.5
OPEN = ("queued", "sent", "running")


def wait(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job once it has ended.

    Raises:
        CliError: interrupted.
    """
    began_s = time.monotonic()
    has_noted = False
    try:
        while job["state"] in OPEN:
            time.sleep(LOOK_S)
            job = client.get(f"/api/v1/jobs/{job['id']}")
            if job["state"] == "queued" and not has_noted and time.monotonic() - began_s > NOTE_S:
                output.note(f"the machine is not linked: queued until {job['expires_at']}")
                has_noted = True
    except KeyboardInterrupt:
        _take_back(client, job)
        raise CliError("interrupted", exits.FAILED) from None
    return job


def succeeded(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job once it has succeeded.

    Raises:
        CliError: it has not; the message is the machine's, where it said something.
    """
    ended = wait(client, job)
    if ended["state"] == "succeeded":
        return ended
    result = ended["result"] or {}
    said = result.get("stderr") or result.get("detail") or ended["error"] or ended["state"]
    code = exits.REFUSED if ended["error"] == "policy_denied" else exits.FAILED
    if ended["error"] in ("agent_offline", "skipped", "expired"):
        code = exits.UNAVAILABLE
    raise CliError(str(said).strip(), code, reason=ended["error"] or "")


def _take_back(client: Client, job: dict[str, Any]) -> None:
    try:
        client.post(f"/api/v1/jobs/{job['id']}/cancel")
    except CliError as error:
        output.note(str(error))
