"""The family of everything that can go wrong in this house, by where the fault lies.

Each error's docstring says what it means and what the caller should do. `docs/reference/errors.rst`
lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


class AgentError(Exception):
    """Base of every error that this house raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the configuration.

    `key` is dotted as in the file, or a file's path; `value` is what stands there, shortened, and
    never a secret; `reason` is a sentence without its full stop; `source` says where it was read.
    """

    key: str
    reason: str
    value: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value is not None else ""
        source = f" ({self.source})" if self.source else ""
        return f"{self.key}{value}: {self.reason}{source}"


class ConfigError(AgentError):
    """The configuration cannot be used: print `faults`, one line each, and exit 78."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class DirectoryError(AgentError):
    """A directory of ours is not as we left it (owner, mode, a link): exit 78, change nothing."""


class AlreadyRunningError(AgentError):
    """Another agent holds this state directory's lock: exit 75, change nothing."""


class IdentityError(AgentError):
    """The identity is not as we left it, or cannot be written: exit 78, change nothing."""


class EnrolmentError(AgentError):
    """The hub did not take this machine in: say the sentence, exit with `code`."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class LogFileError(AgentError):
    """The log file cannot be used as it stands; the log goes to stderr and tries again."""


class ControlError(AgentError):
    """A request on the control socket was refused.

    `code` is one of `bad_request not_found refused busy failed unavailable not_permitted`, what a
    client turns into its exit code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BackupPlanError(AgentError):
    """A backup plan is not there, or cannot be read: `unknown_plan`, exit 4."""


class LocalWorkerError(AgentError):
    """A worker for a command of this machine could not be started or has died: exit 1."""


class NoAgentError(ControlError):
    """Nobody answers on the control socket: say so and exit 69."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


class SilentAgentError(NoAgentError):
    """An agent is there and does not answer: it is stopped, or hangs; `kill -9` costs no job."""


class DoctorError(AgentError):
    """A check could not even be carried out; reported as that check's own finding."""


class LinkError(AgentError):
    """An attempt to connect failed, or the link ended: back off, show `reason` and the sentence.

    `reason` is a short code (`tls_refused`, `proxy_refused`, …; docs/reference/errors.rst); the
    sentence is fit for the log and `status` and holds neither query nor password.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class MalformedError(AgentError):
    """The server sent a packet that is none: count it, log it once; the link stays up."""


class OutboxError(AgentError):
    """The outbox's file cannot be used as it stands; it was moved aside, or the disk is full."""
