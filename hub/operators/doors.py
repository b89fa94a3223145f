"""How often people and machines may fail at each door; kept together so that one page tells all.

Rules: see hub.throttle. A code that is asked for costs a row, so asking counts, failed or not.
"""

from __future__ import annotations

from hub.throttle import Failures


class Doors:
    """One count for each door of the device flow."""

    def __init__(self) -> None:
        self.codes = Failures(30, 60)
        """Device codes asked for, by address."""
        self.polls = Failures(20, 60)
        """Device codes that nobody was given, by address."""
        self.guesses = Failures(6, 600)
        """Wrong user codes, by who typed them."""
