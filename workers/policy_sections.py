"""The sections of configuration and policy.yaml that decide what this machine allows.

Pure schema: attributes are the file's camelCase keys in snake_case, None means *absent*, and the
defaults are those of a fielded agent. `agent/config.py` reads these sections from
`agent-config.json`; `workers/policy_file.py` reads the same ones from `policy.yaml`. Verdicts:
`workers/policy.py`.

Source: contract part 3; architecture "Policy, one engine".
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Profile = Literal["reporter", "operator", "full"]
ToolAnswer = Literal["allow", "ask", "deny"]


class _Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    pass


class AdminSection(_Section, frozen=True):
    """`admin`: commands, and the numbers that bound commands and shells together.

    `allowedCommands` absent or empty denies every command; `allowedCwds` and `allowedEnv` absent
    or empty refuse any cwd and any variable. A number of 0 or less means its default (for
    `rateLimitMax`: no limit).
    """

    enable_shell: bool = False
    allowed_commands: list[str] | None = None
    allowed_cwds: list[str] | None = None
    allowed_env: list[str] | None = None
    max_concurrent: int = 1
    default_timeout_sec: float = 30.0
    require_token: bool = False
    command_token: str = ""
    rate_limit_max: int = 0
    rate_limit_window_sec: float = 60.0
    path: str | None = None
    run_as: str | None = None

    def __post_init__(self) -> None:
        for name, default in (
            ("max_concurrent", 1),
            ("default_timeout_sec", 30.0),
            ("rate_limit_window_sec", 60.0),
        ):
            if getattr(self, name) <= 0:
                msgspec.structs.force_setattr(self, name, default)

    def __repr__(self) -> str:
        """Leave the command token out: a representation ends up in a log sooner or later."""
        values = msgspec.structs.asdict(self) | {"command_token": "…" if self.command_token else ""}
        return f"AdminSection({', '.join(f'{name}={value!r}' for name, value in values.items())})"


class ShellSection(_Section, frozen=True):
    """`shell`: what `shell_start` starts. `command` set and `args` not: no arguments."""

    command: str | None = None
    args: list[str] | None = None
    run_as: str | None = None
    detached_timeout_sec: float = 900.0


class KeysSection(_Section, frozen=True):
    """`keys`: whose authorized_keys, from where."""

    target_user: str | None = None
    base_url: str = "https://github.com"
    mode: Literal["add-only", "mirror"] = "add-only"


class DirBrowseSection(_Section, frozen=True):
    """`dirBrowse`: absent or empty `allowedRoots` means any directory. The rest is not used."""

    allowed_roots: list[str] | None = None
    ssh_host_key_policy: Any = None
    smb_profiles: Any = None


class BackupSshSection(_Section, frozen=True):
    """`backup.ssh`: files that the machine's owner names, never a message."""

    identity_file: str | None = None
    known_hosts_file: str | None = None
    config_file: str | None = None


class BackupSection(_Section, frozen=True):
    """`backup`: absent or empty roots mean any. Layout and deletions are the owner's choice.

    `exclude_globs`: never backed up, whatever a plan says; those of both sides add up.
    `limit_kib_per_sec`: 0 means none.
    """

    allowed_source_roots: list[str] | None = None
    allowed_dest_roots: list[str] | None = None
    allowed_restore_roots: list[str] | None = None
    exclude_globs: list[str] | None = None
    layout: Literal["mirror", "snapshot"] = "mirror"
    delete: bool = False
    max_concurrent: int = 1
    max_age_hours: float | None = None
    limit_kib_per_sec: int = 0
    one_file_system: bool = True
    retention: dict[str, int] | None = None
    hooks: dict[str, Any] | None = None
    sources: list[dict[str, Any]] | None = None
    schedules: list[dict[str, Any]] | None = None
    ssh: BackupSshSection = BackupSshSection()


class ArgumentRule(_Section, frozen=True):
    """A constraint on one argument of a tool: every field that is given must hold."""

    one_of: list[Any] | None = None
    under: list[str] | None = None
    maximum: float | None = None


class ToolRule(_Section, frozen=True):
    """`rule`, for calls whose arguments meet all of `args` (none: every call)."""

    rule: ToolAnswer
    args: dict[str, ArgumentRule] = {}


class Sections(_Section, frozen=True):
    """Everything that decides, of one side. `tools`: by tool name, `*` for those not named."""

    profile: Profile = "full"
    admin: AdminSection = AdminSection()
    shell: ShellSection = ShellSection()
    keys: KeysSection = KeysSection()
    dir_browse: DirBrowseSection = DirBrowseSection()
    backup: BackupSection = BackupSection()
    tools: dict[str, ToolAnswer | list[ToolRule]] = {}
