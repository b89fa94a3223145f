"""A tenant's policy as its agents are told it: one section for each machine, the strictest of all.

Rules: read from the database every few seconds and kept; a tenant without one tells nothing, which
leaves an agent with what it was told last. Of several lists of commands an entry stays that all of
them allow; of several profiles the least.
Source: contract part 2 (`policy`); docs/reference/policy.rst.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.policy.document import PolicyDocument, Section
from hub.policy.models import TenantPolicy
from hub.policy.verdicts import split

_PROFILES = ("reporter", "operator", "full")


class Policies:
    """What the tenants say, as of the last look."""

    def __init__(self) -> None:
        self._documents: dict[str, PolicyDocument] = {}
        self._told: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}

    def know(self, documents: dict[str, PolicyDocument]) -> None:
        """Take what the database has."""
        self._documents, self._told = documents, {}

    def of_machine(self, tenant_id: str, tags: Sequence[str]) -> dict[str, Any] | None:
        """Return what a machine with these tags is told; None: nothing."""
        document = self._documents.get(tenant_id)
        if document is None:
            return None
        key = (tenant_id, tuple(tags))
        if key not in self._told:  # every beat asks
            self._told[key] = merged(document, tags)
        return self._told[key]


def read(session: Session) -> dict[str, PolicyDocument]:
    """Return every tenant's policy, in the system's scope."""
    rows = session.execute(select(TenantPolicy.tenant_id, TenantPolicy.document))
    return {tenant_id: PolicyDocument.model_validate(said) for tenant_id, said in rows}


def merged(document: PolicyDocument, tags: Sequence[str]) -> dict[str, Any]:
    """Return the strictest of what counts for a machine with these tags."""
    sections = [section for _, section in document.sections(list(tags))]
    told: dict[str, Any] = {}
    profiles = [section.profile for section in sections if section.profile is not None]
    if profiles:
        told["profile"] = min(profiles, key=_PROFILES.index)
    if admin := _admin(sections):
        told["admin"] = admin
    return told


def _admin(sections: list[Section]) -> dict[str, Any]:
    admin: dict[str, Any] = {}
    shells = [one.admin.enableShell for one in sections if one.admin.enableShell is not None]
    if shells:
        admin["enableShell"] = all(shells)
    lists = [one.admin.allowedCommands for one in sections if one.admin.allowedCommands is not None]
    if lists:
        entries = dict.fromkeys(entry for one in lists for entry in one)
        admin["allowedCommands"] = [
            entry for entry in entries if all(_allows(one, entry) for one in lists)
        ]
    return admin


def _allows(allowed: list[str], entry: str) -> bool:
    """Does a list allow all that an entry allows?"""
    if "*" in allowed:
        return True
    words = split(entry) or []
    leads = (split(one) or [] for one in allowed)
    return entry != "*" and any(lead and words[: len(lead)] == lead for lead in leads)
