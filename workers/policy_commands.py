"""May this command run, and if so, what exactly is run?

Rules: both sides are asked and a refusal of either decides; the program is the one that the machine
listed, as an absolute path; the working directory is only looked at by the worker, which resolves
it (see `policy_roots`). No step reads more than the owner's own directories.
Source: contract 1.4.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers import policy_environment, policy_roots
from workers.commandline import recognise_crontab
from workers.errors import CommandLineError, PolicyFault
from workers.messages import AdminSpec
from workers.policy_programs import ANY, AllowList, Entry, Found, Programs, is_bare
from workers.policy_verdict import Side, Verdict

if sys.platform == "win32":
    from workers.commandline_windows import split
else:
    from workers.commandline import split

LIST = "admin.allowedCommands"
_CURE = 'list the commands to allow there, or ["*"] for all of them'


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command that is allowed.

    `argv[0]` is the absolute program; `cwd` empty: the account's home; `cwd_roots`: the worker
    refuses a `cwd` that, resolved, does not lie in one directory of each list.
    """

    verdict: Verdict
    argv: list[str]
    env: dict[str, str] = field(repr=False)
    cwd: str = ""
    cwd_roots: list[list[str]] = field(default_factory=list)
    stdin: bytes = field(default=b"", repr=False)
    keep_crontab: bool = False
    run_as: str | None = None

    def spec(self, timeout_s: float, *, stream: bool = False) -> AdminSpec:
        """Return the job for a worker."""
        return AdminSpec(
            argv=self.argv,
            env=self.env,
            cwd=self.cwd,
            cwd_roots=self.cwd_roots,
            timeout_s=timeout_s,
            stdin=self.stdin,
            stream=stream,
            keep_crontab=self.keep_crontab,
        )


class CommandRules:
    """What one side says on commands."""

    def __init__(self, side: Side, entries: Sequence[Entry], programs: Programs) -> None:
        self.side = side
        self.list = AllowList(entries, programs)

    def program(self, argv: Sequence[str]) -> tuple[Verdict, Found | None]:
        """Tell whether the allow list covers `argv`, and which program it leads to."""
        side = self.side
        if not side.says(LIST):
            return side.allow(f"{side.name} does not narrow the commands", LIST), Found(argv[0])
        if not self.list.entries:
            return side.refuse(f"no command is allowed: {LIST} is empty; {_CURE}", LIST), None
        if not is_bare(argv[0]) and not policy_roots.is_absolute(argv[0]):
            return side.refuse("a program is named by a bare name or an absolute path", LIST), None
        match = self.list.match(argv)
        if match is None:
            return side.refuse(self._unlisted(argv[0]), LIST), None
        rule = f"{LIST}[{match.entry.index}]"
        return side.allow(f"{side.name} lists {' '.join(match.entry.argv)}", rule), match.program

    def cwd(self, cwd: str) -> Verdict:
        """Tell whether any working directory may be asked for."""
        side, key = self.side, "admin.allowedCwds"
        if not side.says(key):
            return side.allow(f"{side.name} does not narrow the directories", key)
        if not side.sections.admin.allowed_cwds:
            return side.refuse(f"no cwd is allowed: {key} is empty; list directories there", key)
        reason = policy_roots.unfit(cwd)
        if reason is not None:
            return side.refuse(f"cwd {reason}", key)
        return side.allow("the worker looks at the directory itself", key)

    def env(self, env: Mapping[str, str]) -> Verdict:
        """Tell whether all of `env` may be set."""
        side, key = self.side, "admin.allowedEnv"
        allowed = side.sections.admin.allowed_env or []
        refusal = policy_environment.refusal(env, allowed if side.says(key) else env)
        if refusal is not None:
            return side.refuse(refusal, key)
        return side.allow("every variable is listed", key)

    def _unlisted(self, program: str) -> str:
        shown = program if len(program) <= 80 else f"{program[:77]}…"
        names = {entry.argv[0].casefold() for entry in self.list.entries}
        hint = " (upper and lower case matter)" if program.casefold() in names else ""
        if program in {entry.argv[0] for entry in self.list.entries}:
            hint = " with these arguments"
        return f"{shown} is not in {LIST}{hint}; {_CURE}"


def entries(listed: Sequence[str] | None, where: str) -> tuple[list[Entry], list[PolicyFault]]:
    """Read an allow list.

    Returns:
        The entries, and everything that is wrong with the others: a reason not to start.
    """
    found: list[Entry] = []
    faults: list[PolicyFault] = []
    for index, text in enumerate(listed or []):
        try:
            argv = tuple(split(text))
            if argv[0] != ANY and not is_bare(argv[0]) and not policy_roots.is_absolute(argv[0]):
                raise CommandLineError("name the program by a bare name or an absolute path")
            found.append(Entry(index, argv))
        except CommandLineError as e:
            faults.append(PolicyFault(f"{LIST}[{index}]", str(e), repr(text)[:60], where))
    return found, faults


def parse(command: str) -> tuple[list[str], bytes | None]:
    """Return a command's arguments and, where it is the cron form, what is fed to it.

    Raises:
        CommandLineError: refuse it (126, `bad_command`).
    """
    crontab = recognise_crontab(command)
    return (split(command), None) if crontab is None else (["crontab", "-"], crontab)
