"""What a backup request says, checked as text before any process starts.

Pure: nothing is looked up. Where a path really leads is for the worker to find out. A host that
could be read as an option, a path with a `..`, a destination that is the system's own: refused
here, with the reason that the peer is told.
Source: contract 1.5; cases H.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import msgspec

from workers.errors import BackupError

MAX_PATH_CHARS = 4096
MAX_SOURCES = 256
SSH_PORT = 22

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?")
_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,31})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Nothing below these is anybody's backup; of the second kind only the directory itself is not.
_NEVER_BELOW = (
    "/bin /boot /dev /etc /lib /lib32 /lib64 /proc /sbin /sys /usr/bin /usr/lib /usr/sbin"
)
_NEVER_ITSELF = "/ /home /opt /root /run /srv /tmp /usr /usr/local /var /var/lib /var/tmp"
# In a destination root: what is ours there.
OWN_NAME = ".jackline"


class Request(msgspec.Struct, frozen=True):
    """A request as understood: blank fields are None, 22 is the absent port."""

    sources: tuple[str, ...]
    dest_root: str
    host: str | None = None
    user: str | None = None
    port: int | None = None
    globs: tuple[str, ...] = ()


def normalised(
    sources: Sequence[str],
    dest_root: str,
    host: str | None,
    user: str | None,
    port: int | str | None,
    globs: Sequence[str] | None,
) -> Request:
    """Return the request in the one form in which two of them are compared.

    Raises:
        BackupError: `bad_port`.
    """
    number = _port(port)
    return Request(
        sources=tuple(map(_trimmed, sources)),
        dest_root=_trimmed(dest_root),
        host=host or None,
        user=user or None,
        port=None if number in (0, SSH_PORT) else number,
        globs=tuple(globs or ()),
    )


def check(request: Request) -> None:
    """Refuse what can be refused by its text alone.

    Raises:
        BackupError: `bad_host`, `bad_user`, `bad_port`, `bad_source` or `bad_dest`.
    """
    _check_remote(request)
    if not request.sources or len(request.sources) > MAX_SOURCES:
        raise BackupError("bad_source", f"between 1 and {MAX_SOURCES} source directories, please")
    for source in request.sources:
        _check_path(source, "bad_source")
    _check_names(request.sources)
    _check_path(request.dest_root, "bad_dest")
    check_place(request.dest_root)


def check_place(dest_root: str) -> None:
    """Refuse a destination root that belongs to the system; raises BackupError `bad_dest`."""
    path = os.path.normpath(dest_root)
    path = "/" + path.lstrip("/")
    below = any(path == each or path.startswith(each + "/") for each in _NEVER_BELOW.split())
    if below or path in _NEVER_ITSELF.split():
        raise BackupError(
            "bad_dest", f"{dest_root} belongs to the system; name a directory of its own"
        )


def name_of(source: str) -> str:
    """Return the name that a source has in its copies."""
    return os.path.basename(source)


def difference(one: Request, other: Request) -> str | None:
    """Return the wire's name of the first field in which two requests differ."""
    pairs = (
        ("host", one.host, other.host),
        ("user", one.user, other.user),
        ("port", one.port, other.port),
        ("sourceDirs", one.sources, other.sources),
        ("destRoot", one.dest_root, other.dest_root),
        ("ignoreGlobs", one.globs, other.globs),
    )
    return next((name for name, a, b in pairs if a != b), None)


def _port(port: int | str | None) -> int:
    try:
        number = int(port or 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise BackupError("bad_port", "a port is a number between 1 and 65535")
    return number


def _trimmed(path: str) -> str:
    """Return the path without slashes at its end, which change nothing."""
    return path.rstrip("/") or path[:1]


def _check_remote(request: Request) -> None:
    if request.host is None:
        if request.user is not None or request.port is not None:
            raise BackupError("bad_host", "a user or a port without a host means nothing")
        return
    if _HOST.fullmatch(request.host) is None and not _is_ipv6(request.host):
        raise BackupError("bad_host", "a host is a name or an address, without user and port")
    if request.user is not None and _USER.fullmatch(request.user) is None:
        raise BackupError("bad_user", "a user is letters, digits, dots, dashes and underscores")


def _is_ipv6(host: str) -> bool:
    import ipaddress  # a millisecond and more, for what is seldom written

    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def _check_path(path: str, reason: str) -> None:
    if len(path) > MAX_PATH_CHARS:
        raise BackupError(reason, f"a path is at most {MAX_PATH_CHARS} characters long")
    if _CONTROL.search(path):
        raise BackupError(reason, "a path holds no control characters")
    try:
        path.encode()
    except UnicodeEncodeError as e:
        raise BackupError(reason, "a path must be UTF-8") from e
    if not path.startswith("/"):
        raise BackupError(reason, f"{path!r} is not absolute")
    if {".", ".."} & set(path.split("/")):
        raise BackupError(reason, f"{path!r} holds . or ..")


def _check_names(sources: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for source in sources:
        name = name_of(source)
        if name in ("", OWN_NAME):
            raise BackupError("bad_source", f"{source!r} has no name that its copy could have")
        if name in seen:
            raise BackupError(
                "bad_source", f"{seen[name]} and {source} would be copied to the same place, {name}"
            )
        seen[name] = source
