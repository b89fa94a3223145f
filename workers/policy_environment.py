"""The variables of a command: what it is given, and what a message may add.

Nothing is inherited from the agent save the language, the time zone and the temporary directory.
A message may set what the owner lists in `admin.allowedEnv`; but a variable that makes a program
load or run something else is never taken, listed or not, because it would turn every entry of the
allow list into any command at all. Pure.
Source: contract 1.3 (built environment), 1.4 `env`; cases B, last row.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_BYTES = 131_072

_KEPT = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR")
_KEPT_ON_WINDOWS = re.compile(
    r"SYSTEMROOT|SYSTEMDRIVE|WINDIR|TEMP|TMP|COMSPEC|PROGRAMDATA|PROGRAMFILES", re.IGNORECASE
)
_NEVER = re.compile(
    r"""
    # loaders, C libraries and run-times: every variable of theirs
    (?:LD|DYLD|_RLD|GCONV|MALLOC|GLIBC|NODE|NPM|PERL|RUBY|GEM|BUNDLE|LUA|PHP|OPENSSL|DOTNET
      |CORECLR|COR|TCL|GUILE|ERL|CARGO|RUSTC|GIO|GTK|QT|PIP|JACKLINE|BASH|GIT|SSH|SUDO|XDG
      |SYSTEMD|RSYNC|ANSIBLE)_.*
    |PYTHON.*|PERL5.*|PERLLIB|RUBYLIB|RUBYOPT|LUA(?:PATH|CPATH).*|CLASSPATH|TCLLIBPATH|PHPRC
    # shells, and where they look things up
    |PATH|PATHEXT|IFS|ENV|BASHOPTS|SHELL|SHELLOPTS|CDPATH|FPATH|ZDOTDIR|PS[0-4]|PROMPT_COMMAND
    |GLOBIGNORE|HOME|USER|LOGNAME|COMSPEC|SYSTEMROOT|WINDIR|PSMODULEPATH
    # the resolver, locales, terminals
    |HOSTALIASES|LOCALDOMAIN|RES_OPTIONS|LOCPATH|NLSPATH|TZDIR|TERMCAP|TERMINFO(?:_DIRS)?
    |SSLKEYLOGFILE|GETCONF_DIR
    # what names a program to run, or options for one
    |.*(?:PAGER|EDITOR|BROWSER|ASKPASS|PRELOAD)|(?:.+_)?(?:OPTS|OPTIONS|RSH|LIBRARY_PATH)
    |VISUAL|LESS(?:OPEN|CLOSE|KEY)?|MAN(?:OPT|PATH)|MAKEFLAGS|GNUMAKEFLAGS|MAKEFILES|AWK(?:LIB)?PATH
    |GZIP|ZIPOPT|UNZIP|VIMINIT|EXINIT
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_never_taken(name: str) -> bool:
    """Tell whether `name` could make a listed program run something that is not listed."""
    return _NEVER.fullmatch(name) is not None


def built(environ: Mapping[str, str], path: str) -> dict[str, str]:
    """Return what every child is given; the account's own variables come from the worker.

    Args:
        environ: the agent's variables; language, time zone and temporary directory are taken over.
        path: becomes PATH.
    """
    kept = _KEPT_ON_WINDOWS if sys.platform == "win32" else _KEPT
    out = {name: value for name, value in environ.items() if kept.fullmatch(name)}
    return {"LANG": "C.UTF-8", **out, "PATH": path}


def refusal(wanted: Mapping[str, str], allowed: Collection[str]) -> str | None:
    """Return why the variables that a message wants cannot be set, or None."""
    for name, value in wanted.items():
        if NAME.fullmatch(name) is None:
            return "env holds a name that is none"
        if is_never_taken(name):
            return f"env {name} is never taken from a message: it could make a program run another"
        if name not in allowed:
            return f"env {name} is not in admin.allowedEnv"
        if "\0" in value or not _is_encodable(value):
            return f"env {name} holds a NUL or half of a surrogate pair"
    if sum(len(name) + len(value) for name, value in wanted.items()) > MAX_BYTES:
        return f"env is larger than {MAX_BYTES} bytes"
    return None


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
