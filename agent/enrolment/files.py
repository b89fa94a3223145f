"""What an enrolment leaves for the machine's owner: agent-config.json and policy.yaml.

Rules: neither is ever written over: what an owner has laid down stays. Both together say all that
this machine allows, in words, so that no hub can widen it: the profile, and roots for backups that
are not "any". Root's stay root's, and an agent that runs as another account may read them.

Source: architecture "Policy, one engine"; docs/reference/policy.rst.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from agent import dirs
from agent.errors import EnrolmentError
from agent.exits import FAILED, NOT_PERMITTED
from agent.identity import replace_file
from wire.enrolment import Profile

POLICY_FILE = "policy.yaml"
_POLICY = """\
# What this machine allows, whatever its hub may ask. `jackline policy show` prints what is in
# force, docs/reference/policy.rst explains each key.

# The most that is possible here. reporter: telemetry and inventory, no connection kept open.
# operator: also the commands listed below, backups, key sync. full: also shells.
profile: {profile}

admin:
  enableShell: {shells}
  # One command with its leading arguments per line; none is allowed that is not listed.
  allowedCommands: {commands}

backup:
  # Where backups may read from, write to and restore to. An empty list would mean: anywhere.
  allowedSourceRoots: {sources}
  allowedDestRoots: {dests}
  allowedRestoreRoots: {restores}
"""


def check(config_file: Path) -> None:
    """Ask whether `write` may write, before a token is burnt for a machine without a policy.

    Raises:
        EnrolmentError: it may not; exit 77.
    """
    dirs.refuse_links(config_file.parent)
    folder = next(one for one in config_file.parents if os.path.lexists(one))
    if _missing(config_file) and not os.access(folder, os.W_OK | os.X_OK):
        cure = f"run it as root, or lay {config_file.name} and {POLICY_FILE} down there"
        raise EnrolmentError(NOT_PERMITTED, f"{folder}: this account may not write there: {cure}")


def write(config_file: Path, profile: Profile, group: int | None = None) -> list[Path]:
    """Write the files that are not there yet; return what was written.

    Args:
        config_file: agent-config.json; policy.yaml stands beside it.
        group: of the agent's account, where that is not ours.

    Raises:
        EnrolmentError: one cannot be written.
    """
    written = []
    texts = {config_file: _config(), config_file.parent / POLICY_FILE: _policy(profile)}
    path = config_file.parent
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        readers = _readers(path, group)
        for path in _missing(config_file):
            if readers is None:
                mode, owner = 0o600 if path == config_file else 0o644, None
            else:
                mode, owner = 0o640, (0, readers)
            replace_file(path, texts[path].encode(), mode, owner)
            written.append(path)
    except OSError as e:
        raise EnrolmentError(FAILED, f"{path}: cannot be written: {e.strerror}") from e
    return written


def _missing(config_file: Path) -> list[Path]:
    both = (config_file, config_file.parent / POLICY_FILE)
    return [path for path in both if not os.path.lexists(path)]


def _readers(folder: Path, group: int | None) -> int | None:
    """Return the group that root lets read: the one that may enter the folder, else the account's.

    None: the files are for their owner as anywhere.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    found = folder.stat()
    is_for_one_group = found.st_gid != 0 and found.st_mode & 0o077 == 0o050
    return found.st_gid if is_for_one_group else group


def _config() -> str:
    """Server, client and token come from the identity; nothing else need be said."""
    return json.dumps({"logging": {"level": "info"}}, indent=2) + "\n"


def _policy(profile: Profile) -> str:
    sources, dest = _roots()
    return _POLICY.format(
        profile=profile,
        shells="true" if profile == "full" else "false",
        commands='["*"]' if profile == "full" else "[]",
        sources=json.dumps(sources),
        dests=json.dumps([dest]),
        restores=json.dumps([os.path.join(dest, "restored")]),
    )


def _roots() -> tuple[list[str], str]:
    if sys.platform == "win32":
        drive = os.environ.get("SYSTEMDRIVE", "C:")
        return [f"{drive}\\Users"], f"{drive}\\ProgramData\\Jackline\\backups"
    if os.geteuid() == 0:
        return ["/home", "/srv"], "/var/backups/jackline"
    home = os.path.expanduser("~")
    return [home], os.path.join(home, "backups")
