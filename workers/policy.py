"""Policy: what this machine allows, one engine for every family."""

from __future__ import annotations

from workers.policy_sections import (
    AdminSection,
    BackupSection,
    DirBrowseSection,
    KeysSection,
    Profile,
    Sections,
    ShellSection,
)

__all__ = [
    "AdminSection",
    "BackupSection",
    "DirBrowseSection",
    "KeysSection",
    "Profile",
    "Sections",
    "ShellSection",
]
