"""The family of everything that can go wrong in this house, by where the fault lies.

Each error's docstring says what it means and what the caller should do. `docs/reference/errors.rst`
lists them.
"""

from __future__ import annotations


class WorkersError(Exception):
    """Base of every error that this house raises on purpose."""


class AccountError(WorkersError):
    """The account does not exist, or this process may not become it: refuse the job (`no_user`)."""


class CommandLineError(WorkersError):
    """The text is no command that can be run without a shell: refuse it (126, `bad_command`)."""


class ConfinementError(WorkersError):
    """A confined kind could not be confined at all: the worker must not go on."""


class MailboxError(WorkersError):
    """A mailbox cannot be opened or has to be dropped: treat its worker as lost."""


class FrameError(MailboxError):
    """The peer sent bytes that are no frame of ours: drop the mailbox (`ipc_protocol`)."""


class MailboxFullError(MailboxError):
    """The peer does not read and too much waits for it: end that one job."""


class PeerError(MailboxError):
    """Who answers at an address is not who the job's record names: do not talk to it."""


class RecordError(WorkersError):
    """A job's record or spool in the state directory is unusable: report the job as lost."""


class TerminalError(WorkersError):
    """No pseudo-terminal can be had, or no shell starts in it: refuse (`pty unavailable`)."""
