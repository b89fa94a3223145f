"""Errors of the workers' house, by where the fault lies."""

from __future__ import annotations


class WorkersError(Exception):
    """Base of every error that leaves this house."""


class MailboxError(WorkersError):
    """A mailbox cannot be opened or has to be dropped."""


class FrameError(MailboxError):
    """The peer sent bytes that are no frame of ours; the mailbox is dropped."""


class MailboxFullError(MailboxError):
    """The peer does not read: more waits for it than the mailbox may hold."""


class PeerError(MailboxError):
    """Who answers at that address is not who the job's record names."""


class RecordError(WorkersError):
    """A job's record or spool in the state directory cannot be used."""


class TerminalError(WorkersError):
    """No pseudo-terminal can be had, or the shell cannot be started in it."""
