"""What a check says: one finding, and what every check is given.

A finding is a sentence about this machine and, unless all is well, a cure: what to do, as exactly
as can be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.config import Report, Settings

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    state: State
    sentence: str
    cure: str = ""


@dataclass(frozen=True)
class Scene:
    """What is known before the first check: the configuration and a running agent's own word.

    `silence`: what is known of an agent that is there and does not answer.
    """

    report: Report
    status: Mapping[str, Any] | None
    environ: Mapping[str, str] = field(repr=False)
    silence: str = ""

    @property
    def settings(self) -> Settings | None:
        return self.report.settings

    @property
    def is_linked(self) -> bool:
        """Does a running agent say that its link is up?"""
        link = (self.status or {}).get("link")
        return isinstance(link, Mapping) and link.get("state") == "up"

    @property
    def may_connect(self) -> bool:
        """May anything connect under the agent's name? The server would drop a good link for it."""
        return not self.is_linked and not self.silence


Check = Callable[[Scene], Iterator[Finding]]
