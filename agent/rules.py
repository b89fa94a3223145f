"""The machine's policy in the words of each family: what is refused how, and what is run instead.

Rules: asked on the core thread for every request, never remembered; a full disk and an agent that
is stopping refuse new jobs like the kill switch does. Source: contract 1.3 to 1.6; architecture
"Policy, one engine".
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.command_results import BAD_TOKEN, DENIED, Refusal
from wire.admin import Command
from wire.reasons import BusyDetail, Reason
from wire.shell import ShellStart
from workers import policy_environment
from workers.errors import BackupError
from workers.messages import AdminSpec, KeysSpec, ShellSpec
from workers.policy import Launch, Policy, Verdict
from workers.policy_programs import DEFAULT_PATH, Programs, is_bare

TERM = "xterm-256color"


class Rules:
    """See the module; implements what `commands`, `shells`, `keys` and `files` ask.

    Args:
        proxies: for a key fetch.
        ca_file: likewise.
    """

    def __init__(
        self,
        policy: Policy,
        proxies: Mapping[str, str],
        ca_file: str | None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._policy = policy
        self._proxies = dict(proxies)
        self._ca_file = ca_file
        sections = policy.sections
        path = sections.admin.path or DEFAULT_PATH
        self._environ = policy_environment.built(environ, path)
        self._programs = Programs(path)
        self.is_disk_full = False
        self.is_stopping = False

    def token_refusal(self, token: str | None) -> Refusal | None:
        """Is the command token wrong?"""
        verdict = self._policy.command_token(token)
        return None if verdict.allowed else Refusal(BAD_TOKEN, verdict.sentence)

    def lock_refusal(self) -> Refusal | None:
        """Is the kill switch on, the disk full, or the agent on its way out?"""
        if self.is_stopping:
            return Refusal(DENIED, "the agent is stopping", "agent_stopped")
        locked = self._policy.locked()
        if locked is not None:
            return Refusal(DENIED, locked.sentence, locked.reason)
        if self.is_disk_full:
            sentence = "the endpoint's disk is full: results could not be stored"
            return Refusal(DENIED, sentence, BusyDetail.DISK_FULL)
        return None

    def launch(self, command: Command) -> Refusal | tuple[AdminSpec, str | None]:
        """Parse, judge and complete a command."""
        judged = self._policy.command(command.command, cwd=command.cwd, env=command.env)
        if not isinstance(judged, Launch):
            return Refusal(judged.code, judged.sentence, judged.reason or None)
        timeout_s = command.timeout_sec or self._policy.sections.admin.default_timeout_sec
        return judged.spec(timeout_s), judged.run_as

    def shell_refusal(self) -> tuple[str, str | None] | None:
        """Why no shell is started: (reason, detail), or None."""
        if self.is_stopping:
            return Reason.AGENT_STOPPED, None
        if self.is_disk_full:
            return Reason.BUSY, BusyDetail.DISK_FULL
        verdict = self._policy.shell()
        if verdict.allowed:
            return None
        if verdict.reason == "locked_by_host":
            return Reason.BUSY, verdict.reason
        return verdict.reason, verdict.sentence

    def shell_spec(self, message: ShellStart) -> tuple[ShellSpec, str | None]:
        """The machine's shell, for this request."""
        shell = self._policy.sections.shell
        if shell.command is None:
            argv = ["/bin/bash", "-l"] if os.name != "nt" else ["cmd.exe"]
        else:
            argv = [self._program(shell.command)]
        if shell.args is not None:
            argv = [argv[0], *shell.args]
        env = {**self._environ, "TERM": TERM}
        if message.operator:
            env["JACKLINE_OPERATOR"] = message.operator.replace("\0", "")
        spec = ShellSpec(
            argv=argv, env=env, cwd="", cols=message.cols or 80, rows=message.rows or 24
        )
        return spec, shell.run_as

    def keys_refusal(self) -> str | None:
        """Why keys are not synchronised, or None."""
        return self._word(self._policy.keys())

    def keys_spec(self, user: str) -> tuple[KeysSpec, str | None]:
        """Whose keys go where."""
        keys = self._policy.sections.keys
        spec = KeysSpec(
            github_user=user,
            target_user=keys.target_user or "",
            base_url=keys.base_url,
            mode=keys.mode,
            ca_file=self._ca_file,
            proxies=self._proxies,
        )
        return spec, keys.target_user

    def backup_refusal(self) -> BackupError | None:
        """Why no backup job is taken now, or None."""
        if self.is_stopping:
            return BackupError(Reason.AGENT_STOPPED, "the agent is stopping")
        if self.is_disk_full:
            return BackupError(Reason.BUSY, BusyDetail.DISK_FULL)
        if self._policy.locked() is not None:
            return BackupError(Reason.BUSY, BusyDetail.LOCKED_BY_HOST)
        verdict = self._policy.family("backup")
        return None if verdict.allowed else BackupError(verdict.reason, verdict.sentence)

    def tail_refusal(self) -> str | None:
        """Why the log is not followed, or None."""
        return self._word(self._policy.tail())

    def listing_refusal(self, path: str) -> str | None:
        """Why a directory is not listed, or None."""
        return self._word(self._policy.listing(path))

    def listing_roots(self) -> list[list[str]]:
        """Where listings must lie, as `policy_roots.holds` takes it."""
        return self._policy.listing_roots()

    def _program(self, name: str) -> str:
        """Look up a bare name as a command's is: never in the home that the shell starts in."""
        found = self._programs.find(name) if is_bare(name) else None
        return name if found is None else found.path

    def _word(self, verdict: Verdict) -> str | None:
        if self.is_stopping:
            return Reason.AGENT_STOPPED
        return None if verdict.allowed else verdict.reason
