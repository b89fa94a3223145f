"""Policy: what this machine allows, one engine for every family.

Two sides are asked, this machine's owner and the hub's tenant, and a deny of either wins: the hub
can only narrow. The machine's side is, weakest first: the defaults, `agent-config.json`,
`policy.yaml`, the environment. A kill-switch file in the state directory refuses everything but
telemetry and what keeps the agent alive.
Rules: answers are given in the agent's own thread, so they are pure and fast; the only look at the
disk is at the kill switch and in the owner's own directories (`policy_programs`). What a path of a
message resolves to is for the worker to find out (`policy_roots`).
Source: architecture "Policy, one engine"; contract 1.4 and part 3; docs/reference/policy.rst.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers import (
    policy_commands,
    policy_environment,
    policy_file,
    policy_roots,
    policy_sides,
    policy_tools,
    policy_warnings,
)
from workers.errors import CommandLineError, PolicyError, PolicyFault
from workers.policy_commands import CommandRules, Launch
from workers.policy_file import Document
from workers.policy_programs import DEFAULT_PATH, Found, Programs
from workers.policy_sections import (
    AdminSection,
    BackupSection,
    DirBrowseSection,
    KeysSection,
    Profile,
    Sections,
    ShellSection,
)
from workers.policy_verdict import Family, Side, Verdict, first_refusal

__all__ = [
    "KILL_SWITCH",
    "AdminSection",
    "BackupSection",
    "DirBrowseSection",
    "Document",
    "KeysSection",
    "Launch",
    "Policy",
    "PolicyError",
    "PolicyFault",
    "Profile",
    "Sections",
    "ShellSection",
    "Verdict",
    "load",
    "tenant_document",
]

KILL_SWITCH = "paused"  # in the state directory; `jackline pause` makes it


def load(
    sections: Sections,
    policy_file_path: Path,
    *,
    state_dir: Path,
    origins: Mapping[str, str] | None = None,
    tenant: Document | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Policy:
    """Return the policy of this machine.

    Args:
        sections: what `agent-config.json` and the environment say.
        policy_file_path: policy.yaml beside the configuration; need not exist.
        state_dir: where the kill switch is.
        origins: where each dotted key of `sections` came from, `environment NAME` among them.
        tenant: what the hub's tenant says; it only narrows.
        environ: what language and time zone are taken from.

    Raises:
        PolicyError: with every fault; print them and exit 78.
    """
    document = policy_file.read(policy_file_path)
    faults = [] if tenant is None else policy_file.check(tenant)
    if faults:
        raise PolicyError(faults)
    return Policy(
        sections,
        document,
        state_dir=state_dir,
        origins=origins or {},
        tenant=tenant,
        environ=environ,
    )


def tenant_document(said: Mapping[str, Any] | None) -> Document | None:
    """Return what the tenant says, as the hub gave it, for `load` and `Policy.narrow`."""
    return None if said is None else Document("the tenant's policy", said)


class Policy:
    """The engine. Arguments as for `load`, the file already read."""

    def __init__(
        self,
        sections: Sections,
        document: Document | None = None,
        *,
        state_dir: Path | None = None,
        origins: Mapping[str, str] | None = None,
        tenant: Document | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        machine = policy_sides.machine(sections, document, origins or {})
        self.sections = machine.sections
        self._sides = [machine, *([] if tenant is None else [policy_sides.tenant(tenant)])]
        self._kill_switch = None if state_dir is None else str(state_dir / KILL_SWITCH)
        self._path = self.sections.admin.path or DEFAULT_PATH
        self._environ = policy_environment.built(environ or {}, self._path)
        self._commands = self._command_rules()

    # -- everything ----------------------------------------------------------------------------

    def locked(self) -> Verdict | None:
        """Return the refusal of the kill switch, or None. Asked for each job, never remembered."""
        if self._kill_switch is None:
            return None
        try:
            os.lstat(self._kill_switch)
        except FileNotFoundError:
            return None
        except OSError:
            pass  # cannot be looked at: nobody knows that work is wanted
        return Verdict(
            allowed=False,
            sentence="this machine is paused by its owner; `jackline resume` ends that",
            rule=KILL_SWITCH,
            where=self._kill_switch,
            code=126,
            reason="locked_by_host",
        )

    def narrow(self, tenant: Document | None) -> None:
        """Put the tenant's side in place of what it said before; the machine's stays.

        Raises:
            PolicyError: with every fault; what was said before still holds.
        """
        faults = [] if tenant is None else policy_file.check(tenant)
        if faults:
            raise PolicyError(faults)
        sides = self._sides
        added = [] if tenant is None else [policy_sides.tenant(tenant)]
        self._sides = [sides[0], *added]
        try:
            self._commands = self._command_rules()
        except PolicyError:
            self._sides = sides
            raise

    def family(self, family: Family) -> Verdict:
        """Tell whether `family` is within the profiles of both sides, kill switch aside."""
        return first_refusal([side.family(family) for side in self._sides])

    def telemetry(self) -> Verdict:
        """Telemetry is never refused."""
        return self.family("telemetry")

    def warnings(self) -> list[str]:
        """Return what the owner should look at again, one sentence each."""
        entries = self._commands[0].list.entries
        has_commands = self.family("admin").allowed
        return policy_warnings.of(self.sections, entries, has_commands=has_commands)

    def rows(self) -> Iterator[tuple[str, str, Any, str]]:
        """Return side, dotted key, value and place of everything that decides; no secret."""
        for side in self._sides:
            for key, value, where in policy_sides.rows(side):
                yield side.name, key, value, where

    # -- shells and commands -------------------------------------------------------------------

    def shell(self) -> Verdict:
        """Tell whether a shell may be started."""
        return self.locked() or first_refusal(
            [verdict for side in self._sides for verdict in _shell_verdicts(side)]
        )

    def command_token(self, token: str | None) -> Verdict:
        """Tell whether a command that carries `token` is listened to (401)."""
        admin, machine = self.sections.admin, self._sides[0]
        if not admin.require_token:
            return machine.allow("no token is asked for", "admin.requireToken")
        given, wanted = (token or "").encode(errors="replace"), admin.command_token.encode()
        if wanted and hmac.compare_digest(given, wanted):
            return machine.allow("the token is right", "admin.commandToken")
        sentence = "the command token is missing or wrong" if wanted else "no token is configured"
        return machine.refuse(sentence, "admin.requireToken", code=401)

    def command(
        self, command: str, *, cwd: str | None = None, env: Mapping[str, str] | None = None
    ) -> Launch | Verdict:
        """Tell whether a command may run, and what exactly is run.

        Args:
            command: as the message has it, the cron form included.
            cwd: absent or empty: the account's home.
            env: variables to be set.

        Returns:
            A Launch, or the refusal, whose `code` is 126 or 127.
        """
        refusal = self._refused("admin")
        if refusal is not None:
            return refusal
        try:
            argv, crontab = policy_commands.parse(command)
        except CommandLineError as e:
            return Verdict(allowed=False, sentence=str(e), code=126, reason="bad_command")
        verdicts, program = self._judge(argv, cwd, env)
        verdict = first_refusal(verdicts)
        if not verdict.allowed:
            return verdict
        if program is None or not program.runs:
            return _not_there(verdict, argv[0], is_found=program is not None)
        return Launch(
            verdict=verdict,
            argv=[program.path, *argv[1:]],
            env={**self._environ, **(env or {})},
            cwd=cwd or "",
            cwd_roots=self._roots("admin.allowedCwds") if cwd else [],
            stdin=crontab or b"",
            keep_crontab=os.path.basename(argv[0]) == "crontab" and argv[1:] == ["-"],
            run_as=self.sections.admin.run_as,
        )

    def _judge(
        self, argv: list[str], cwd: str | None, env: Mapping[str, str] | None
    ) -> tuple[list[Verdict], Found | None]:
        judged = [rules.program(argv) for rules in self._commands]
        verdicts = [verdict for verdict, _ in judged]
        for rules in self._commands:
            if cwd:
                verdicts.append(rules.cwd(cwd))
            if env:
                verdicts.append(rules.env(env))
        return verdicts, judged[0][1]

    def _command_rules(self) -> list[CommandRules]:
        rules, faults = [], _path_faults(self._path, self._sides[0])
        for side in self._sides:
            listed = side.sections.admin.allowed_commands
            entries, wrong = policy_commands.entries(listed, side.where(policy_commands.LIST))
            faults += wrong
            names = [e.argv[0] for e in entries if policy_roots.is_absolute(e.argv[0])]
            rules.append(CommandRules(side, entries, Programs(self._path, names)))
        if faults:
            raise PolicyError(faults)
        return rules

    # -- the other families --------------------------------------------------------------------

    def keys(self) -> Verdict:
        """Tell whether public keys may be synchronised."""
        return self._refused("keys") or self.family("keys")

    def tail(self) -> Verdict:
        """Tell whether the agent's own log may be followed."""
        return self._refused("files") or self.family("files")

    def listing(self, path: str) -> Verdict:
        """Tell whether a directory may be listed; the worker looks where `path` really leads."""
        refusal = self._refused("files") or self._unfit(path, "dirBrowse.allowedRoots")
        return refusal or self._sides[0].allow("the worker looks at the path", "dirBrowse")

    def listing_roots(self) -> list[list[str]]:
        """Return the directories that a listing must lie in, as `policy_roots.holds` takes them."""
        return self._roots("dirBrowse.allowedRoots")

    def backup(self, path: str, roots: str) -> Verdict:
        """Tell whether a backup may touch `path`; the worker looks where it really leads.

        Args:
            path: a source directory, a destination or where something is restored to.
            roots: `allowedSourceRoots`, `allowedDestRoots` or `allowedRestoreRoots`.
        """
        key = f"backup.{roots}"
        refusal = self._refused("backup") or self._unfit(path, key)
        return refusal or self._sides[0].allow("the worker looks at the path", key)

    def backup_roots(self, roots: str) -> list[list[str]]:
        """Return what `backup` means by `roots`, as `policy_roots.holds` takes it."""
        return self._roots(f"backup.{roots}")

    def backup_excludes(self) -> list[str]:
        """Return the globs that are never backed up, of both sides."""
        lists = [side.sections.backup.exclude_globs or [] for side in self._sides]
        return list(dict.fromkeys(glob for each in lists for glob in each))

    def tool(self, tool: str, args: Mapping[str, Any]) -> Verdict:
        """Tell whether a local tool may be called; `asks` says that a person must agree."""
        refusal = self._refused("tools")
        return refusal or first_refusal(
            [policy_tools.judge(side, tool, args) for side in self._sides]
        )

    # -- parts of answers ----------------------------------------------------------------------

    def _refused(self, family: Family) -> Verdict | None:
        locked = self.locked()
        if locked is not None:
            return locked
        verdict = self.family(family)
        return None if verdict.allowed else verdict

    def _unfit(self, path: str, key: str) -> Verdict | None:
        reason = policy_roots.unfit(path)
        if reason is not None:
            return self._sides[0].refuse(f"the path {reason}", key)
        roots = self._roots(key)
        if len(roots) > 1 and not policy_roots.overlap(roots[0], roots[1]):
            return self._sides[-1].refuse("no directory is allowed by both sides", key)
        return None

    def _roots(self, key: str) -> list[list[str]]:
        """A side that names none allows any; by text nobody knows what both lead to."""
        found = [policy_sides.get(side.sections, key) for side in self._sides]
        return [list(each) for each in found if each]


def _shell_verdicts(side: Side) -> Iterator[Verdict]:
    key = "admin.enableShell"
    profile = side.family("shell")
    if not profile.allowed:
        yield profile
    elif side.sections.admin.enable_shell or not side.says(key):
        yield side.allow(f"{side.name} allows shells", key)
    else:
        yield side.refuse(f"shells are off: set {key} to allow them", key, reason="disabled")


def _not_there(verdict: Verdict, name: str, *, is_found: bool) -> Verdict:
    return Verdict(
        allowed=False,
        sentence=f"{name} " + ("may not be executed" if is_found else "is not found in admin.path"),
        rule=verdict.rule,
        where=verdict.where,
        code=126 if is_found else 127,
        reason="policy_denied" if is_found else "not_found",
    )


def _path_faults(path: str, side: Side) -> list[PolicyFault]:
    """A relative directory in the path would let the working directory decide what runs."""
    return [
        PolicyFault(
            "admin.path", "must hold absolute directories", folder, side.where("admin.path")
        )
        for folder in path.split(os.pathsep)
        if not policy_roots.is_absolute(folder)
    ]
