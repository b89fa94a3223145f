"""A real agent that a hub knows: enrolled by the real command, then run."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.doubles.agent_process import JACKLINE, AgentProcess


class EnrolledAgent(AgentProcess):
    """See the module; its configuration names no server: the identity does.

    Args:
        token: as it is pasted; None: it is not enrolled yet.
        words: more of the command line of `enroll`.
        prefix: as for AgentProcess; `enroll` runs behind it, too.
    """

    def __init__(
        self,
        token: str | None,
        *words: str,
        prefix: list[str] | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__("", config={"statsIntervalSec": 0.2, **(config or {})}, prefix=prefix)
        for key in ("clientId", "authToken", "serverUrl", "admin"):
            del self.config[key]
        if token is not None:
            done = self.enroll("--token-stdin", *words, stdin=token)
            assert done.returncode == 0, done.stderr

    def enroll(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `jackline enroll`."""
        return subprocess.run(
            [*self.prefix, *JACKLINE, "enroll", *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def heartbeat(self) -> dict[str, Any]:
        """Return the heartbeat's part of `status`."""
        told: dict[str, Any] = self.ask("status")["heartbeat"]
        return told

    @property
    def link(self) -> str:
        """Return the state of the live link."""
        state: str = self.ask("status")["link"]["state"]
        return state

    @property
    def identity(self) -> dict[str, Any]:
        """Return the identity as it stands on the disk."""
        path = self.state_dir / "identity" / "identity.json"
        read: dict[str, Any] = json.loads(path.read_text())
        return read
