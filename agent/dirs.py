"""Where the endpoint's four directories are, and whether they are safe to use.

Rules: imports nothing heavy, because `status` must answer in 150 ms; every check works on what was
opened, not on a name; a directory that is not as we left it is refused, never repaired, because
whoever changed it may have put something in it. What a command of root's does in the directory of a
service's account, it does as that account: `as_owner`.
Source: docs/reference/configuration.rst "Directories"; cases J "State dir modes".
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import DirectoryError

CONTROL_SOCKET = "control.sock"
GROUP_TIMEOUT_S = 5.0


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


def prepare(path: Path, *, group: int | None = None, may_be_passed: bool = False) -> None:
    """Make a directory of ours, 0700, or check that it still is one.

    Args:
        path: made with its parents (those 0755).
        group: id of a group that may pass through (mode 0710), to reach the control socket.
        may_be_passed: a group may have been let through before; it is not, when `group` is None.

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
    if sys.platform == "win32":
        return  # the parent's access list is inherited; installing sets it
    fd = _opened(path)
    try:
        passable = may_be_passed or group is not None
        _check(path, os.fstat(fd), os.geteuid(), may_be_passed=passable)
        if group is not None:
            os.fchown(fd, -1, group)
            os.fchmod(fd, 0o710)
        elif may_be_passed:
            os.fchmod(fd, 0o700)
    except OSError as e:
        raise DirectoryError(f"{path}: cannot be given to the control group: {e.strerror}") from e
    finally:
        os.close(fd)


def check(path: Path, *, owner: int | None = None, may_be_passed: bool = False) -> None:
    """Check that a directory is as `prepare` leaves it, and change nothing.

    Args:
        owner: whose it must be; None: ours.
        may_be_passed: as for `prepare`.

    Raises:
        DirectoryError: as for `prepare`.
    """
    if sys.platform == "win32":
        return
    fd = _opened(path)
    try:
        uid = os.geteuid() if owner is None else owner
        _check(path, os.fstat(fd), uid, may_be_passed=may_be_passed)
    finally:
        os.close(fd)


def owner_of(state: Path) -> int:
    """Return whose an endpoint's files are: ours, and for root those of the service's account.

    Root looks after agents that run as another; to be one itself, it must own the directories.
    """
    if sys.platform == "win32":
        return 0
    try:
        return state.lstat().st_uid if os.geteuid() == 0 else os.geteuid()
    except OSError:
        return os.geteuid()


@contextlib.contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Be the account that owns a directory, for what is done in it; only root becomes another.

    So what is written belongs to who must read it, and a link that this account has laid leads no
    further than the account may go by itself. For commands, never for a running agent: the whole
    process is that account meanwhile, with all its threads. It may not be able to read our program:
    what is done meanwhile imports nothing. A directory that is not there yet is ours.

    Raises:
        DirectoryError: it is another's and we are not root, or the way to it cannot be trusted.
    """
    if sys.platform == "win32":
        yield
        return
    refuse_links(directory)
    try:
        found = directory.lstat()
    except OSError:
        yield  # it is made, or cannot be entered, as whom we are
        return
    if found.st_uid == os.geteuid():
        yield
    elif os.geteuid() != 0:
        name = account_name(found.st_uid)
        cure = "run it as root" if found.st_uid == 0 else f"run it as root or as {name}"
        raise DirectoryError(f"{directory}: is owned by {_told(found.st_uid)}: {cure}")
    else:
        with _being(found.st_uid, _group_of(found)):
            yield


def refuse_links(path: Path) -> None:
    """Where root goes by name, refuse a way over a link that somebody else has laid.

    Raises:
        DirectoryError: there is one.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    for one in (*reversed(path.parents), path):
        try:
            found = one.lstat()
            if not stat.S_ISLNK(found.st_mode):
                continue
            if found.st_uid != 0:
                raise DirectoryError(
                    f"{one}: is a link of {_told(found.st_uid)}, which root does not follow"
                )
            one.stat()  # a ring of links ends here
        except OSError:
            return  # nothing is there, and nothing below it
        refuse_links(one.parent / os.readlink(one))


def service_group(state: Path) -> int | None:
    """Return the group of the account that owns the state directory, where root looks at another's.

    What root writes for that account (the configuration) is to be readable by it.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    try:
        found = state.lstat()
    except OSError:
        return None
    return None if found.st_uid == 0 else _group_of(found)


def account_name(uid: int) -> str:
    """Return the name of an account, or `uid N` where it has none."""
    if sys.platform != "win32":
        import pwd  # not on Windows

        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"


@functools.cache
def group_id(name: str | None) -> int | None:
    """Return the id of the control group; None without one, or when nobody tells it in time."""
    if name is None or sys.platform == "win32":
        return None
    import grp  # not on Windows
    import threading  # what is asked here may never answer, and the agent must start all the same

    found: list[int] = []

    def look_up() -> None:
        with contextlib.suppress(KeyError):
            found.append(grp.getgrnam(name).gr_gid)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(GROUP_TIMEOUT_S)
    return found[0] if found else None


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except OSError as e:
        raise DirectoryError(f"{path}: cannot be used as a directory: {e.strerror}") from e


def _check(path: Path, found: os.stat_result, owner: int, *, may_be_passed: bool) -> None:
    if found.st_uid != owner:
        cure = f"give it to {account_name(owner)}"
        if sys.platform != "win32" and owner == os.geteuid():
            cure = f"run it as {account_name(found.st_uid)}, or {cure}"
        raise DirectoryError(
            f"{path}: is owned by {_told(found.st_uid)}, not by {_told(owner)}: {cure}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o777 & ~(0o710 if may_be_passed else 0o700):
        raise DirectoryError(
            f"{path}: mode {mode:04o} lets others in; `chmod 700 {path}` after a look inside"
        )


def _told(uid: int) -> str:
    name = account_name(uid)
    return name if name.startswith("uid ") else f"uid {uid} ({name})"


def _group_of(found: os.stat_result) -> int:
    """The account's own group: the directory's may be root's, who has only given it away."""
    if sys.platform != "win32":
        import pwd  # not on Windows

        with contextlib.suppress(KeyError):
            return pwd.getpwuid(found.st_uid).pw_gid
    return found.st_gid


@contextlib.contextmanager
def _being(uid: int, gid: int) -> Iterator[None]:
    """Give root's rights up, and take them back in the opposite order."""
    if sys.platform == "win32":
        raise AssertionError("nobody becomes another there")
    with contextlib.ExitStack() as back:
        try:
            groups, group = os.getgroups(), os.getegid()
            os.setgroups([])
            back.callback(os.setgroups, groups)
            os.setegid(gid)
            back.callback(os.setegid, group)
            os.seteuid(uid)
            back.callback(os.seteuid, 0)
        except OSError as e:
            raise DirectoryError(f"root may not act as {_told(uid)}: {e.strerror}") from e
        yield


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
