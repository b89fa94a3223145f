"""What a tenant's policy may say: the keys of a machine's `policy.yaml`, which it can only narrow.

Rules: an absent key narrows nothing; an empty list denies all; a section under `tags` counts for
the machines that bear the tag, besides the tenant's own: the strictest wins.
Source: docs/reference/policy.rst; product "Profiles".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_ENTRIES = 500
Entry = Annotated[str, Field(min_length=1, max_length=1024)]
Entries = Annotated[list[Entry], Field(max_length=MAX_ENTRIES)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Profile = Literal["reporter", "operator", "full"]


class AdminSection(BaseModel):
    """Commands and shells."""

    model_config = ConfigDict(extra="forbid")

    allowedCommands: Entries | None = None  # noqa: N815  (the key of policy.yaml)
    enableShell: bool | None = None  # noqa: N815


class Section(BaseModel):
    """What is narrowed; `profile` is the most that is allowed."""

    model_config = ConfigDict(extra="forbid")

    profile: Profile | None = None
    admin: AdminSection = AdminSection()


class PolicyDocument(Section):
    """A tenant's policy."""

    tags: Annotated[dict[Tag, Section], Field(max_length=100)] = {}

    def sections(self, tags: list[str]) -> list[tuple[str, Section]]:
        """Return what counts for a machine with these tags, each with its name."""
        mine = [(f"tags.{tag}", self.tags[tag]) for tag in tags if tag in self.tags]
        return [("the tenant's policy", self), *mine]
