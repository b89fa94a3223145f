"""Where the endpoint's four directories are, and whether they are safe to use.

Rules: imports nothing heavy, because `status` must answer in 150 ms; every check works on what was
opened, not on a name; a directory that is not as we left it is refused, never repaired, because
whoever changed it may have put something in it.
Source: docs/reference/configuration.rst "Directories"; cases J "State dir modes".
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import DirectoryError

CONTROL_SOCKET = "control.sock"


@dataclass(frozen=True)
class Dirs:
    """The four directories. Nothing is said about whether they exist."""

    config: Path
    state: Path
    run: Path
    log: Path

    @property
    def control_socket(self) -> Path:
        return self.run / CONTROL_SOCKET


def find(environ: Mapping[str, str] = os.environ) -> Dirs:
    """Return the directories of this machine and user.

    Args:
        environ: `JACKLINE_CONFIG_DIR`, `JACKLINE_STATE_DIR`, `JACKLINE_RUN_DIR` and
            `JACKLINE_LOG_DIR` each move one; an empty one counts as unset.

    Returns:
        Absolute paths.
    """
    named = {
        which: Path(value).absolute()
        for which in ("config", "state", "run", "log")
        if (value := environ.get(f"JACKLINE_{which.upper()}_DIR"))
    }
    if len(named) == 4:
        return Dirs(**named)
    default = defaults(environ)
    return Dirs(
        config=named.get("config", default.config),
        state=named.get("state", default.state),
        run=named.get("run", default.run),
        log=named.get("log", default.log),
    )


def defaults(environ: Mapping[str, str] = os.environ) -> Dirs:
    """Return the platform's directories: the system's for root and for the service's own user."""
    system = system_dirs(environ)
    return system if _is_ours(system.state) else _user_dirs(environ)


def system_dirs(environ: Mapping[str, str] = os.environ) -> Dirs:
    """Return the directories of an endpoint that the system starts."""
    if sys.platform == "win32":
        root = Path(environ.get("ProgramData") or r"C:\ProgramData") / "Jackline"
        return Dirs(root, root / "state", root / "run", root / "log")
    if sys.platform == "darwin":
        root = Path("/Library/Application Support/Jackline")
        return Dirs(root, root / "state", Path("/var/run/jackline"), Path("/Library/Logs/Jackline"))
    return Dirs(
        Path("/etc/jackline"),
        Path("/var/lib/jackline"),
        Path("/run/jackline"),
        Path("/var/log/jackline"),
    )


def control_sockets(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return where an agent may answer, the likeliest first.

    A member of the control group is not root and has directories of its own, yet wants the
    system's agent; a run directory that was named is the only place then.
    """
    mine = find(environ).control_socket
    if environ.get("JACKLINE_RUN_DIR"):
        return [mine]
    return list(dict.fromkeys([mine, system_dirs(environ).control_socket]))


def prepare(path: Path, *, group: int | None = None) -> None:
    """Make a directory of ours, 0700, or check that it still is one.

    Args:
        path: made with its parents (those 0755).
        group: id of a group that may pass through (mode 0710), to reach the control socket.

    Raises:
        DirectoryError: it cannot be made, is a link, is not ours, or others may look into it.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    except OSError as e:
        raise DirectoryError(f"{path}: cannot be made: {e.strerror}") from e
    check(path, group=group)


def check(path: Path, *, group: int | None = None) -> None:
    """Check that a directory is ours alone, and let the control group pass if there is one.

    Raises:
        DirectoryError: as for `prepare`.
    """
    if sys.platform == "win32":
        return  # the parent's access list is inherited; installing sets it
    wanted = 0o700 if group is None else 0o710
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise DirectoryError(f"{path}: cannot be used as a directory: {e.strerror}") from e
    try:
        _check(path, os.fstat(fd), wanted)
        if group is not None:
            os.fchown(fd, -1, group)
            os.fchmod(fd, wanted)
    except OSError as e:
        raise DirectoryError(f"{path}: cannot be given to the control group: {e.strerror}") from e
    finally:
        os.close(fd)


def _check(path: Path, found: os.stat_result, wanted: int) -> None:
    if sys.platform == "win32":
        return
    if found.st_uid != os.geteuid():
        raise DirectoryError(f"{path}: is owned by uid {found.st_uid}, not by us ({os.geteuid()})")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o777 & ~wanted:
        raise DirectoryError(
            f"{path}: mode {mode:04o} lets others in; `chmod {wanted:o} {path}` after a look inside"
        )


def _is_ours(path: Path) -> bool:
    """Root's answer is always yes; the service's own user is known by what it owns."""
    if sys.platform == "win32":
        return True
    if os.geteuid() == 0:
        return True
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _user_dirs(environ: Mapping[str, str]) -> Dirs:
    import platformdirs

    name = "jackline"
    state = platformdirs.user_state_path(name, appauthor=False)
    return Dirs(
        config=platformdirs.user_config_path(name, appauthor=False),
        state=state,
        run=_user_run_dir(environ, name, state),
        log=platformdirs.user_log_path(name, appauthor=False),
    )


def _user_run_dir(environ: Mapping[str, str], name: str, state: Path) -> Path:
    """Without a login session there is no directory in memory for us: then below the state's.

    Never below /tmp, which is anybody's place.
    """
    if sys.platform == "linux":
        for folder in (environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
            if folder and _is_ours(Path(folder)):
                return Path(folder) / name
    return state / "run"
