"""A directory as the API shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from wire.files import DirListResponse


class EntryOut(BaseModel):
    """One name in a directory."""

    name: str
    type: Literal["dir", "file"]
    size: float | None


class DirectoryOut(BaseModel):
    """A directory; `error` is the machine's own: then there are no entries."""

    path: str
    entries: list[EntryOut]
    error: str | None
    truncated: bool

    @classmethod
    def of(cls, found: DirListResponse) -> DirectoryOut:
        """Show what an agent answered."""
        return cls(
            path=found.path,
            entries=[
                EntryOut(name=one.name, type=one.type, size=one.size) for one in found.entries
            ],
            error=found.error,
            truncated=bool(found.truncated),
        )
