"""The family of everything that can go wrong in this house, by where the fault lies.

Each error's docstring says what it means and what the caller should do. `docs/reference/errors.rst`
lists them.
"""

from __future__ import annotations

from typing import NamedTuple


class WorkersError(Exception):
    """Base of every error that this house raises on purpose."""


class AccountError(WorkersError):
    """The account does not exist, or this process may not become it: refuse the job (`no_user`)."""


class BackupError(WorkersError):
    """A backup cannot be made, or not go on: tell `reason`, a word, and the sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class CertificateError(WorkersError):
    """A key or a certificate cannot be used: enrol again, or mend the hub; the sentence says it."""


class CommandLineError(WorkersError):
    """The text is no command that can be run without a shell: refuse it (126, `bad_command`)."""


class ConfinementError(WorkersError):
    """A confined kind could not be confined at all: the worker must not go on."""


class DirectoryRefusedError(WorkersError):
    """A command's working directory is not allowed or not there: refuse the command (126)."""


class HttpsError(WorkersError):
    """A call to the hub brought no answer: back off, show `reason`, a word, and the sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class MailboxError(WorkersError):
    """A mailbox cannot be opened or has to be dropped: treat its worker as lost."""


class FrameError(MailboxError):
    """The peer sent bytes that are no frame of ours: drop the mailbox (`ipc_protocol`)."""


class MailboxFullError(MailboxError):
    """The peer does not read and too much waits for it: end that one job."""


class PeerError(MailboxError):
    """Who answers at an address is not who the job's record names: do not talk to it."""


class PolicyFault(NamedTuple):
    """One thing that is wrong with a policy: the dotted key, why, what stands there and where."""

    key: str
    reason: str
    value: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value is not None else ""
        source = f" ({self.source})" if self.source else ""
        return f"{self.key}{value}: {self.reason}{source}"


class PolicyError(WorkersError):
    """The policy cannot be used: print `faults`, one line each, and exit 78."""

    def __init__(self, faults: list[PolicyFault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class RecordError(WorkersError):
    """A job's record or spool in the state directory is unusable: report the job as lost."""


class TerminalError(WorkersError):
    """No pseudo-terminal can be had, or no shell starts in it: refuse (`pty unavailable`)."""
