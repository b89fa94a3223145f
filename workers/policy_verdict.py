"""The answer of the policy, and the two sides that give it: this machine and the hub's tenant.

A side is one set of sections and where each key of it is written. The machine's silence has the
defaults of contract part 3; the tenant's silence narrows nothing. Pure.
Source: architecture "Policy, one engine"; docs/reference/policy.rst "Profiles".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from workers.policy_sections import Profile, Sections

Family = Literal[
    "telemetry", "collection", "updates", "admin", "backup", "files", "keys", "tools", "shell"
]
# Reasons, as `docs/reference/errors.rst` lists them.
Reason = Literal["", "bad_command", "disabled", "locked_by_host", "not_found", "policy_denied"]

_REPORTER: tuple[Family, ...] = ("telemetry", "collection", "updates")
_OPERATOR: tuple[Family, ...] = (*_REPORTER, "admin", "backup", "files", "keys", "tools")
# The most that each profile allows.
FAMILIES: Mapping[Profile, tuple[Family, ...]] = {
    "reporter": _REPORTER,
    "operator": _OPERATOR,
    "full": (*_OPERATOR, "shell"),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Allowed, or why not.

    `sentence` says it to a person and names the cure; `rule` is the key that decided and `where`
    the place it is written at; `code` is the command's (126, 127, 401); `reason` the wire's.
    `asks`: allowed once a person has said yes.
    """

    allowed: bool
    sentence: str
    rule: str = ""
    where: str = ""
    code: int = 0
    reason: Reason = ""
    asks: bool = False


@dataclass(frozen=True)
class Side:
    """What one side lays down. `where` tells at which place a dotted key is written."""

    name: str
    sections: Sections
    where: Callable[[str], str] = field(repr=False)
    says: Callable[[str], bool] = field(repr=False, default=lambda _key: True)
    """Whether this side speaks of a key at all: the machine always does."""

    def allow(self, sentence: str, rule: str) -> Verdict:
        return Verdict(allowed=True, sentence=sentence, rule=rule, where=self.where(rule))

    def ask(self, sentence: str, rule: str) -> Verdict:
        return replace(self.allow(sentence, rule), asks=True)

    def refuse(
        self, sentence: str, rule: str, *, reason: Reason = "policy_denied", code: int = 126
    ) -> Verdict:
        return Verdict(
            allowed=False,
            sentence=sentence,
            rule=rule,
            where=self.where(rule),
            reason=reason,
            code=code,
        )

    def family(self, family: Family) -> Verdict:
        """Tell whether the profile reaches as far as `family`."""
        profile = self.sections.profile
        if family in FAMILIES[profile]:
            return self.allow(f"profile {profile} includes {family}", "profile")
        needed = next(name for name, families in FAMILIES.items() if family in families)
        return self.refuse(
            f"profile {profile} of {self.name} does not include {family}; it needs {needed}",
            "profile",
        )


def first_refusal(verdicts: list[Verdict]) -> Verdict:
    """Return the first refusal, else the first that asks, else the first; a deny always wins."""
    for verdict in verdicts:
        if not verdict.allowed:
            return verdict
    return next((verdict for verdict in verdicts if verdict.asks), verdicts[0])
