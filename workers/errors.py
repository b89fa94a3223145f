"""The family of everything that can go wrong in this house, by where the fault lies.

Each error's docstring says what it means and what the caller should do. `docs/reference/errors.rst`
lists them.
"""

from __future__ import annotations


class WorkersError(Exception):
    """Base of every error that this house raises on purpose."""


class AccountError(WorkersError):
    """The account does not exist, or this process may not become it: refuse the job (`no_user`)."""


class ConfinementError(WorkersError):
    """A confined kind could not be confined at all: the worker must not go on."""
